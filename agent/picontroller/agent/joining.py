"""Joining a control plane with a token.

The order is what makes it safe. The root is fetched over a connection that is believed in nothing and told nothing; only when the token
recognises that root is the gateway dialled again, under that root, and told the secret. The key is on disk before the secret leaves, so
that a join whose answer was lost is repeated with the same key and gets the same certificate.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from picontroller.agent.admission import enrolment, membership
from picontroller.agent.admission.membership import Membership
from picontroller.agent.admission.roots import fetch_root
from picontroller.agent.timekeeping import Timekeeper
from picontroller.core.clock import Clock
from picontroller.core.errors import FailedPrecondition, QuotaExceeded, Unauthenticated, Unavailable
from picontroller.core.files import read_secret, write_secret
from picontroller.core.rpc.renewal import Issued, accepted
from picontroller.core.tasks import next_pause
from picontroller.core.tls.identity import credentials_from, key_to_pem, new_key, signing_request
from picontroller.core.tls.joining import JoinTokenParts, parse_token, pinned

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0

T = TypeVar("T")
Issue = Callable[[bytes, str, str, bytes], Awaitable[Issued]]
"""Asks for a certificate: root in PEM, address, token, signing request in PEM."""


async def join(
    address: str,
    token_text: str,
    folder: Path,
    clock: Clock,
    *,
    issue: Issue = enrolment.issue,
    fetch: Callable[[str], bytes] = fetch_root,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Membership:
    """Join the control plane at ``address`` (``HOST:PORT``) and return what is remembered of it.

    A gateway that does not answer is tried again for ``patience_seconds``. Raises InvalidArgument for what is no token, FailedPrecondition
    (ALREADY_JOINED, ROOT_MISMATCH), Unauthenticated for a token that is refused, Unavailable. Waits while the clock is not set.
    """
    parts = parse_token(token_text)
    with membership.held(folder):
        _refuse_second(folder, address, parts)
        deadline = clock.monotonic() + patience_seconds
        shown = await _patiently(lambda: asyncio.to_thread(fetch, address), clock, deadline)
        root_pem = pinned(shown, parts.root_hash)
        if root_pem is None:
            raise _mismatch(address)
        await Timekeeper(clock, folder, lambda: _begin_of(root_pem)).until_right()
        key = _pending_key(folder)
        request = signing_request(key)
        try:
            issued = await _patiently(lambda: _issued(issue, root_pem, address, parts.text(), request), clock, deadline)
        except Unauthenticated as error:
            raise Unauthenticated(
                f"the control plane refused the token: {error.message} (pictl token create)", reason=error.reason
            ) from error
        return _settle(folder, address, key, issued)


def _refuse_second(folder: Path, address: str, parts: JoinTokenParts) -> None:
    """Refuse to join twice; an identity whose life is over, or whose root the control plane has replaced meanwhile, may be joined again."""
    identity = membership.identity_of(folder)
    if not identity.exists():
        return
    identity.load()
    if identity.expired():
        return
    known = membership.load(folder)
    overtaken = known.gateway == address and pinned(identity.trust.roots_pem, parts.root_hash) is None
    if not overtaken:
        raise FailedPrecondition(
            f"this machine has joined {known.gateway} as node {known.node_id} already; run first: pictl leave", reason="ALREADY_JOINED"
        )


async def _patiently(attempt: Callable[[], Awaitable[T]], clock: Clock, deadline: float) -> T:
    failures = 0
    while True:
        try:
            return await attempt()
        except (Unavailable, QuotaExceeded) as error:  # many at one address join at once: each in its turn
            failures += 1
            pause = max(next_pause(failures), error.retry_after or 0)
            if clock.monotonic() + pause > deadline:
                raise
            if failures == 1:
                log.info("the control plane does not answer yet", extra={"error": error.message})
            await clock.sleep(pause)


async def _issued(issue: Issue, root_pem: bytes, address: str, token: str, request: bytes) -> Issued:
    try:
        return await issue(root_pem, address, token, request)
    except Unavailable as error:
        if "CERTIFICATE_VERIFY_FAILED" in error.message or "Hostname Verification" in error.message:
            raise _mismatch(address) from error  # whoever showed us the right root can't prove that it belongs to it
        raise Unavailable(f"the control plane at {address} can't serve now: {error.message}", reason="GATEWAY_UNREACHABLE") from error


def _mismatch(address: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{address} is not the control plane that made the token: somebody is in between, or the token is of another control plane;"
        " the secret was not sent",
        reason="ROOT_MISMATCH",
    )


def _begin_of(root_pem: bytes) -> datetime:
    return x509.load_pem_x509_certificate(root_pem).not_valid_before_utc


def _pending_key(folder: Path) -> ec.EllipticCurvePrivateKey:
    """Return the key of a join that did not come to its end, or a fresh one, on disk in either case."""
    path = folder / "join.key"
    if path.exists():
        kept = serialization.load_pem_private_key(read_secret(path), None)
        if isinstance(kept, ec.EllipticCurvePrivateKey):
            return kept
    key = new_key()
    write_secret(path, key_to_pem(key))
    return key


def _settle(folder: Path, address: str, key: ec.EllipticCurvePrivateKey, issued: Issued) -> Membership:
    """Store what was issued: the membership before the identity, whose presence says that the join is done."""
    key_pem = key_to_pem(key)
    credentials = accepted(key_pem, issued, credentials_from(key_pem, issued.chain_pem).spiffe_id)
    if credentials.spiffe_id.kind != "node":
        raise FailedPrecondition(f"the token is for {credentials.spiffe_id}, not for a node", reason="TOKEN_FOR_ANOTHER")
    joined = Membership(address, credentials.spiffe_id.name)
    membership.save(folder, joined)
    membership.identity_of(folder).store(credentials, issued.trust)
    (folder / "join.key").unlink(missing_ok=True)
    log.info("joined", extra={"gateway": address, "node_id": joined.node_id, "expires": str(credentials.not_after)})
    return joined
