"""The one tree of errors that cross a boundary.

Error:
├── InvalidArgument      the request can't be right, whatever the state
├── OutOfRange           a cursor or token points outside what is kept
├── NotFound
├── AlreadyExists        somebody has that name or line already
├── Conflict             a stale etag or epoch; read again, then retry
├── FailedPrecondition   right in itself, not in this state
├── PermissionDenied
├── Unauthenticated
├── QuotaExceeded        a limit or the disk is full
├── Unavailable          try again later
├── DeadlineExceeded
├── Cancelled
├── Unsupported          this build or board can't do it
├── Internal             our mistake
└── DataLoss             stored data is damaged

Services subclass these to add fields, never to add a code. ``core.rpc.errors`` maps each to a gRPC status and back, so that a caller
catches the same class whether the callee lives in its process or on another machine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with one field. ``field`` is a path as in the request (``writes[2].value``)."""

    field: str
    description: str


class Error(Exception):
    """An error that a caller may see: a sentence, a reason in capitals that programs can rely on, and details that hold no secrets.

    ``retry_after`` is in seconds and given only where waiting helps.
    """

    default_reason = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        violations: Sequence[Violation] = (),
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.violations = tuple(violations)
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after


class InvalidArgument(Error):
    """The request can't be right, whatever the state."""

    default_reason = "INVALID_ARGUMENT"


class OutOfRange(Error):
    """A cursor or token points outside what is kept."""

    default_reason = "OUT_OF_RANGE"


class NotFound(Error):
    """The thing named does not exist."""

    default_reason = "NOT_FOUND"


class AlreadyExists(Error):
    """Somebody has that name or line already."""

    default_reason = "ALREADY_EXISTS"


class Conflict(Error):
    """A stale etag or epoch: read again, then retry."""

    default_reason = "CONFLICT"


class FailedPrecondition(Error):
    """Right in itself, but not in this state."""

    default_reason = "FAILED_PRECONDITION"


class PermissionDenied(Error):
    """The caller is known and may not."""

    default_reason = "PERMISSION_DENIED"


class Unauthenticated(Error):
    """The caller did not prove who it is."""

    default_reason = "UNAUTHENTICATED"


class QuotaExceeded(Error):
    """A limit is reached or the disk is full."""

    default_reason = "QUOTA_EXCEEDED"


class Unavailable(Error):
    """The callee can't be reached or can't serve now."""

    default_reason = "UNAVAILABLE"


class DeadlineExceeded(Error):
    """Time ran out; whether something happened is unknown unless the method says otherwise."""

    default_reason = "DEADLINE_EXCEEDED"


class Cancelled(Error):
    """The caller went away."""

    default_reason = "CANCELLED"


class Unsupported(Error):
    """This build or board can't do it."""

    default_reason = "UNSUPPORTED"


class Internal(Error):
    """Our mistake. The message is a fixed sentence with an id; the particulars are in the log under that id."""

    default_reason = "INTERNAL"


class DataLoss(Error):
    """Stored data is damaged."""

    default_reason = "DATA_LOSS"
