"""What the event bus has to say itself: it takes its own events in like those of any other source, without asking itself over the wire.

They carry an epoch of this process: an event of ours that is lost with the process was never promised to anybody.
"""

from collections.abc import Callable
from typing import Protocol

from picontroller.core import ids
from picontroller.core.events import Event
from picontroller.events.entries import Appended, Record, Submission


class Publications(Protocol):
    """The journal, as far as it is needed here."""

    async def publish(self, submission: Submission) -> Appended:
        """Append and return once it is on disk."""
        ...


class Announcer:
    """Publishes under the name ``source``. ``record_of`` turns an event into what the journal keeps."""

    def __init__(self, journal: Publications, source: str, record_of: Callable[[Event], Record]) -> None:
        self._journal = journal
        self._source = source
        self._record_of = record_of
        self._epoch = ids.new_uuid()
        self._sequence = 0

    async def publish(self, event: Event) -> None:
        """Add an event and return once it is on disk."""
        await self._journal.publish(Submission(self._source, self._epoch, self._sequence + 1, (self._record_of(event),)))
        self._sequence += 1
