"""Identities of members on this machine, and the admin's credential: written straight into the data folder, without tokens.

Whoever may write there has the authority's keys anyway, so that a token would prove nothing more. Everything here may be repeated at any
time: it makes what is missing, damaged, worn or of another authority, and leaves the rest alone.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from picontroller.core.callers import Role, SpiffeId
from picontroller.core.clock import Clock
from picontroller.core.errors import FailedPrecondition
from picontroller.core.files import read_secret, write_secret
from picontroller.core.tls.identity import Credentials, IdentityFolder, credentials_from, key_to_pem, new_key
from picontroller.identity import names
from picontroller.identity.registry import Registry

log = logging.getLogger(__name__)

ADMIN = "admin"
ADMIN_TOKEN_LIFE = timedelta(days=365)
UPKEEP_SECONDS = 3600.0
_ADMIN_ROLES = frozenset({Role.CLUSTER_ADMIN})


@dataclass(frozen=True, slots=True)
class Provisioned:
    """What was provided for. ``fingerprint`` is the root's, as it stands in join tokens; ``renewed`` lists what was made anew."""

    fingerprint: str
    renewed: tuple[str, ...]


async def provision(
    registry: Registry, root: Path, members: Sequence[str], clock: Clock, *, gateway_names: Sequence[str] = (), keep_names: bool = False
) -> Provisioned:
    """Make ``<root>/<member>/tls`` for each member, ``<root>/gateway/edge`` beside the gateway's, and ``<root>/admin``.

    ``gateway_names`` are addresses and DNS names by which the gateway is reached (listen addresses, ``--san``); those that mean every
    address are left out. ``keep_names`` leaves the gateway what it has besides: one that runs elsewhere asks for its names itself.

    Raises InvalidArgument or PermissionDenied for a name that no certificate may carry.
    """
    further = names.reachable(gateway_names)
    done = []
    for member in dict.fromkeys(members):
        mine = further if member == "gateway" else ()
        if await _member(registry, IdentityFolder(root / member / "tls"), f"/svc/{member}", clock, mine, keep=keep_names):
            done.append(f"/svc/{member}")
        edge = IdentityFolder(root / member / "edge")
        if member == "gateway" and await _member(registry, edge, "/gateway", clock, further, keep=keep_names):
            done.append("/gateway")
    if await provision_admin(registry, root / ADMIN, clock):
        done.append(f"/user/{ADMIN}")
    return Provisioned(registry.fingerprint(), tuple(done))


async def provision_admin(registry: Registry, folder: Path, clock: Clock) -> bool:
    """Make ``ca.pem``, ``client.pem``, ``client.key`` and ``token`` in ``folder``, and return whether anything was made anew."""
    changed = False
    if _text(folder / "ca.pem") != registry.trust.roots_pem:
        await asyncio.to_thread(write_secret, folder / "ca.pem", registry.trust.roots_pem)
        changed = True
    if not await _admin_certificate_is_good(registry, folder, clock):
        key = new_key()
        issued = await registry.enrol(f"/user/{ADMIN}", key.public_key(), roles=_ADMIN_ROLES)
        # The key first: with a new certificate beside an old key the pair is recognised as damaged and made again.
        await asyncio.to_thread(write_secret, folder / "client.key", key_to_pem(key))
        await asyncio.to_thread(write_secret, folder / "client.pem", issued.chain_pem.encode())
        changed = True
    if not await _admin_token_is_good(registry, folder, clock):
        _, text = await registry.create_api_token(ADMIN, [Role.CLUSTER_ADMIN], ADMIN_TOKEN_LIFE)
        await asyncio.to_thread(write_secret, folder / "token", text.encode() + b"\n")
        changed = True
    return changed


async def keep_fresh(registry: Registry, root: Path, clock: Clock, changed: asyncio.Event | None = None) -> None:
    """Replace the issuing authority and the admin's credential in good time, for as long as the identity service runs.

    The credential follows what is believed, and the active root, at once. Set ``changed`` after each revocation: the admin, who may have
    revoked its own, would have nothing to call with until the next round.
    """
    changed = changed or asyncio.Event()
    registry.on_trust(changed.set)
    while True:
        changed.clear()
        await registry.replace_worn_issuing()
        if (root / ADMIN).exists() and await provision_admin(registry, root / ADMIN, clock):
            log.info("admin credential renewed", extra={"folder": str(root / ADMIN)})
        await _sleep_until(changed, min(UPKEEP_SECONDS, registry.life.total_seconds() / 10), clock)


async def _sleep_until(changed: asyncio.Event, seconds: float, clock: Clock) -> None:
    """Sleep for ``seconds``, or until something has changed."""
    sleeping, changing = asyncio.ensure_future(clock.sleep(seconds)), asyncio.create_task(changed.wait())
    try:
        await asyncio.wait((sleeping, changing), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sleeping, changing):
            task.cancel()


async def _member(registry: Registry, folder: IdentityFolder, path: str, clock: Clock, san: Sequence[str], *, keep: bool) -> bool:
    """Make one identity unless it is good, and return whether it was made."""
    identity = SpiffeId(registry.trust_domain, path.split("/")[1], path.removeprefix("/svc/") if path.startswith("/svc/") else "")
    if await _is_good(registry, folder, identity, clock, names.checked(identity, san), keep=keep):
        if folder.trust != registry.trust:
            await asyncio.to_thread(folder.store_trust, registry.trust)
        return False
    key = new_key()
    issued = await registry.enrol(path, key.public_key(), san=san, keep_names=keep)
    credentials = credentials_from(key_to_pem(key), issued.chain_pem.encode())
    await asyncio.to_thread(folder.store, credentials, registry.trust)
    return True


async def _is_good(registry: Registry, folder: IdentityFolder, identity: SpiffeId, clock: Clock, san: Sequence[str], *, keep: bool) -> bool:
    if not folder.exists():
        return False
    try:
        folder.load()
    except FailedPrecondition as error:
        if error.reason == "SECRET_UNSAFE":  # others may have the key: people must know, not just get a new one
            raise
        log.warning("an identity was damaged and is made anew", extra={"folder": str(folder.path), "error": error.message})
        return False
    credentials = folder.credentials
    carried = set(names.checked(identity, names.carried(credentials)))
    suits = carried >= set(san) if keep else carried == set(san)
    return credentials.spiffe_id == identity and suits and await _is_fresh(registry, credentials, clock)


async def _is_fresh(registry: Registry, credentials: Credentials, clock: Clock) -> bool:
    """Return whether a certificate is ours, in the first two thirds of its life, and not revoked."""
    if not credentials.not_before <= clock.now() < credentials.renewal_time() or not registry.issued(credentials.chain_pem):
        return False
    return not await registry.is_revoked(credentials.serial)


async def _admin_certificate_is_good(registry: Registry, folder: Path, clock: Clock) -> bool:
    if not (folder / "client.key").exists() or not (folder / "client.pem").exists():
        return False
    try:
        credentials = credentials_from(read_secret(folder / "client.key"), _text(folder / "client.pem"))
    except FailedPrecondition as error:
        if error.reason == "SECRET_UNSAFE":
            raise
        return False
    # The admin has no process that would renew it later, when the old root goes.
    return registry.issued_under_active_root(credentials.chain_pem) and await _is_fresh(registry, credentials, clock)


async def _admin_token_is_good(registry: Registry, folder: Path, clock: Clock) -> bool:
    if not (folder / "token").exists():
        return False
    token = read_secret(folder / "token").decode(errors="replace").strip()
    return registry.accepts(token, clock.now()) and not await registry.is_revoked_token(token)


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
