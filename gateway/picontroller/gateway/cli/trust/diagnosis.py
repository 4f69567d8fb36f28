"""Why a control plane does not answer: a refused certificate looks like a dead server to gRPC in Python, so that we look ourselves."""

from datetime import UTC, datetime
from pathlib import Path

from picontroller.core.contexts import Context
from picontroller.core.errors import Error, FailedPrecondition, Unauthenticated, Unavailable
from picontroller.core.tls import handshakes
from picontroller.core.tls.handshakes import Failure
from picontroller.gateway.cli.trust import credential

_OURS = {
    "ROOT_DROPPED": "the control plane dropped the root that your certificate {file} belongs to",
    "CERTIFICATE_EXPIRED": "your certificate {file} has expired by the control plane's clock",
    "PROOF_REVOKED": "your certificate {file} was revoked",
    "CERTIFICATE_REFUSED": "the control plane refuses your certificate {file}",
}


def explained(context: Context, name: str, error: Unavailable) -> Error:
    """Return what is really wrong when a gateway called ``name`` does not answer, ``error`` itself when it is just that."""
    return own_dates(context) or _handshake(context, name) or error


def own_dates(context: Context) -> Error | None:
    """Return what is wrong with the life of the context's own certificate, without asking anybody."""
    try:
        own = credential.certificate_of(context)
    except Error as damaged:
        return damaged
    if own is None:
        return None
    now = datetime.now(UTC)
    if own.not_after <= now:
        return Unauthenticated(
            f"your certificate {context.client_cert_file} expired at {own.not_after:%Y-%m-%d %H:%M:%S} UTC", reason="CERTIFICATE_EXPIRED"
        )
    if own.not_before > now:
        return FailedPrecondition(
            f"your certificate begins at {own.not_before:%Y-%m-%d %H:%M:%S} UTC, and this machine's clock says {now:%Y-%m-%d %H:%M:%S}",
            reason="CLOCK_WRONG",
        )
    return None


def _handshake(context: Context, name: str) -> Error | None:
    pair = (Path(context.client_cert_file), Path(context.client_key_file)) if context.client_cert_file else ()
    failure = handshakes.failure_of(context.server, name, Path(context.ca_file), *pair)
    if failure is None:
        return None
    if failure.reason in _OURS:
        return Unauthenticated(_OURS[failure.reason].format(file=context.client_cert_file), reason=failure.reason)
    return _theirs(context, failure)


def _theirs(context: Context, failure: Failure) -> Error:
    if failure.reason == "PEER_EXPIRED":
        return Unavailable("the gateway's certificate has expired, or this machine's clock is wrong", reason="GATEWAY_EXPIRED")
    if failure.reason == "PEER_NOT_YET_VALID":
        return FailedPrecondition("the gateway's certificate is not valid yet: is this machine's clock right?", reason="CLOCK_WRONG")
    return FailedPrecondition(
        f"{context.server} does not belong to the root in {context.ca_file} ({failure.text}): the control plane has another root now,"
        " it is another control plane, or somebody is in between",
        reason="ROOT_MISMATCH",
    )
