"""Exit statuses, and how an error is told: what is wrong, then what to try next.

0 done, 1 failed, 2 wrong usage, 3 not found, 4 not allowed, 5 conflict or precondition, 6 unreachable, 7 timed out, 130 interrupted.
"""

import sys

from picontroller.core import errors
from picontroller.core.errors import Error

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130
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
ADVICE: dict[str, str] = {
    "CONTEXT_MISSING": "pictl context list",
    "CREDENTIALS_MISSING": "pictl context list, or set PICTL_TOKEN_FILE",
    "TOKEN_EXPIRED": "ask an administrator for a new token",
    "CERTIFICATE_EXPIRED": "restart `pictl up`, which renews the admin credential, or ask an administrator",
    "ROLE_MISSING": "ask an administrator for a role that may",
    "NODE_UNKNOWN": "pictl node list",
    "NODE_OFFLINE": "pictl node list",
    "PIN_TAKEN": "pictl gpio list",
    "ETAG_STALE": "read it again and repeat the change",
}


def status_of(error: Error) -> int:
    """Return the exit status for an error, a subclass having that of its nearest ancestor."""
    for kind in type(error).__mro__:
        if kind in STATUSES:
            return STATUSES[kind]
    return FAILED


def advice_for(error: Error) -> str:
    """Return what to try next, empty when there is nothing better than the message itself."""
    if error.reason in ADVICE:
        return ADVICE[error.reason]
    if isinstance(error, errors.Unavailable):
        return "pictl doctor"
    if isinstance(error, errors.DeadlineExceeded):
        return "the same with a larger --timeout"
    return ""


def tell(error: Error) -> int:
    """Print an error on standard error and return its exit status."""
    sys.stderr.write(f"error: {error.message} ({error.reason})\n")
    for violation in error.violations[:20]:
        if violation.description not in error.message:
            sys.stderr.write(f"  {violation.field}: {violation.description}\n")
    if advice := advice_for(error):
        sys.stderr.write(f"Try: {advice}\n")
    return status_of(error)
