"""The record that a call in progress will leave, where the database finds it: the first change of a call takes its record along.

A task inherits it from the task that makes it, which is right for work that a call began and others finish. Work that lives for reasons of
its own must not be started from within a call.
"""

from collections.abc import Callable
from contextvars import ContextVar

from picontroller.core.audit.chain import Entry


class NotTheChange:
    """Marks a result of ``Database.write``: something was noted, but what the caller asked for was not done.

    The call's record is then left to the end of the call, when it is known what came of it.
    """


class Pending:
    """``recorded`` is set by the writer's thread once the record stands in a transaction, and taken back with that."""

    __slots__ = ("_describe", "_entry", "recorded")

    def __init__(self, describe: Callable[[], Entry]) -> None:
        self._describe = describe
        self._entry: Entry | None = None
        self.recorded = False

    def entry(self) -> Entry:
        """Return the record's entry, saying OK. To be called in the event loop, where the request may be looked at."""
        if self._entry is None:
            self._entry = self._describe()
        return self._entry


_current: ContextVar[Pending | None] = ContextVar("pending_audit_record", default=None)


def current() -> Pending | None:
    """Return what is pending for the call that this task serves, None outside of one or when its method is not audited."""
    return _current.get()


def begin(pending: Pending) -> None:
    """Make ``pending`` that of this task. For the RPC layer."""
    _current.set(pending)
