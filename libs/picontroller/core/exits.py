"""Exit statuses of every program of ours: one table, from classes of errors.

0 done, 1 failed, 2 wrong usage, 3 not found, 4 not allowed, 5 conflict or precondition, 6 unreachable, 7 timed out, 130 interrupted.
"""

from picontroller.core import errors
from picontroller.core.errors import Error

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
STATUSES: dict[type[Error], int] = {
    errors.InvalidArgument: WRONG_USAGE,
    errors.OutOfRange: WRONG_USAGE,
    errors.NotFound: 3,
    errors.PermissionDenied: 4,
    errors.Unauthenticated: 4,
    errors.AlreadyExists: 5,
    errors.Conflict: 5,
    errors.FailedPrecondition: 5,
    errors.Unavailable: 6,
    errors.DeadlineExceeded: 7,
}


def status_of(error: Error) -> int:
    """Return the exit status for an error, a subclass having that of its nearest ancestor in the table."""
    for kind in type(error).__mro__:
        if kind in STATUSES:
            return STATUSES[kind]
    return FAILED
