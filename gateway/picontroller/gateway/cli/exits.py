"""How an error is told: what is wrong, then what to try next."""

import sys

from picontroller.core import errors
from picontroller.core.errors import Error
from picontroller.core.exits import status_of

NEW_CREDENTIAL = (
    "ask an administrator for an API token (pictl token create --api) and: pictl context add NAME --token-file FILE …;"
    " the admin's own certificate is made anew by `pictl up` or `pictl serve identity` on the control plane's machine"
)
ADVICE: dict[str, str] = {
    "CONTEXT_MISSING": "pictl context list",
    "CREDENTIALS_MISSING": "pictl context list, or set PICTL_TOKEN_FILE",
    "TOKEN_EXPIRED": "ask an administrator for a new token",
    "CERTIFICATE_EXPIRED": NEW_CREDENTIAL,
    "PROOF_REVOKED": NEW_CREDENTIAL,
    "ROOT_DROPPED": NEW_CREDENTIAL,
    "CERTIFICATE_REFUSED": "pictl doctor",
    "CREDENTIAL_DAMAGED": "pictl doctor",
    "ROOT_MISMATCH": "copy <data-dir>/admin/ca.pem from the control plane's machine to where the context has its root",
    "CLOCK_WRONG": "set the clock, for example with: timedatectl set-ntp true",
    "IDENTITY_REVOKED": "choose another name; a node joins as a new one: pictl token create",
    "IDENTITY_OWN": "the same with --may-return",
    "ROTATION_STATE": "pictl cert authority",
    "MEMBERS_BEHIND": "pictl cert authority, which says who; or wait: pictl cert rotate-ca",
    "CERTIFICATE_NEEDED": "pictl context list; the admin's context has a certificate",
    "ROLE_MISSING": "ask an administrator for a role that may",
    "NODE_UNKNOWN": "pictl node list",
    "NODE_OFFLINE": "pictl node list",
    "PIN_TAKEN": "pictl gpio list",
    "ETAG_STALE": "read it again and repeat the change",
}


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
