"""Builds the identity service, to be served (``build``) or to be used by its host before anything serves (``opened``).

Both open the same database, which only one at a time may do: leave ``opened`` before ``build``.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from picontroller.core.clock import Clock
from picontroller.core.rpc.auditing import audited
from picontroller.core.rpc.publishing import EventBus
from picontroller.core.rpc.wiring import Service, Surroundings
from picontroller.core.store.outbox import Outbox
from picontroller.core.store.sqlite import Database
from picontroller.identity import local
from picontroller.identity.keyring import open_keyring
from picontroller.identity.registry import Registry, digest_of, trust_of
from picontroller.identity.revocation.news import News
from picontroller.identity.revocation.revoking import Revocations
from picontroller.identity.revocation.store import RevocationStore
from picontroller.identity.rotation.rotating import Rotation
from picontroller.identity.rotation.store import RotationStore
from picontroller.identity.service import IdentityServicer
from picontroller.identity.settings import Settings
from picontroller.identity.store import SCRIPTS, IdentityStore
from picontroller.v1 import identity_pb2_grpc

# What a full disk must not stop is taking a proof away. A revocation takes a few kilobytes; this is enough for thousands.
RESERVE_BYTES = 8 * 1024 * 1024


@asynccontextmanager
async def opened(data_dir: Path, settings: Settings, clock: Clock) -> AsyncIterator[Registry]:
    """Yield the registry in ``data_dir`` (the identity service's own folder), made with a new authority if there is none.

    Raises FailedPrecondition when keys are missing or unsafe, the trust domain changed, or another process has the database open.
    """
    async with await Database.open(data_dir / "identity.db", SCRIPTS, reserve_bytes=RESERVE_BYTES) as database:
        yield await registry_in(database, data_dir, settings, clock)


@asynccontextmanager
async def build(surroundings: Surroundings) -> AsyncIterator[Service]:
    """Yield the service. It also keeps the admin credential beside its folder fresh, if there is one."""
    settings: Settings = surroundings.settings
    clock = surroundings.clock
    async with (
        await Database.open(surroundings.data_dir / "identity.db", SCRIPTS, reserve_bytes=RESERVE_BYTES) as database,
        audited(database, surroundings) as audit,
    ):
        registry = await registry_in(database, surroundings.data_dir, settings, clock)
        kept = RevocationStore(database)
        news = News(lambda: registry.trust, kept, clock)
        database.on_commit(news.wake)
        registry.on_trust(news.wake)
        revocations = Revocations(kept, settings.trust_domain, _own(settings), clock)
        revoked = asyncio.Event()
        revocations.on_revocation(revoked.set)
        rotation = Rotation(registry, RotationStore(database), settings.member_silent_seconds, clock)
        servicer = IdentityServicer(registry, IdentityStore(database), revocations, news, rotation)
        background: dict[str, Callable[[], Awaitable[None]]] = {
            "outbox": Outbox(database, EventBus(surroundings.mesh, surroundings.name), clock).run,
            "news": news.run,
            "upkeep": partial(local.keep_fresh, registry, surroundings.data_dir.parent, clock, revoked),
        }
        yield Service(
            surroundings.name,
            (lambda server: identity_pb2_grpc.add_IdentityServiceServicer_to_server(servicer, server), audit.register),
            {**background, **audit.background},
            lambda: database.failed,
            audit.trail,
        )


def _own(settings: Settings) -> list[str]:
    """Return the paths of identities that are made on this machine at each start."""
    return [f"/user/{local.ADMIN}", "/gateway", *(f"/svc/{member}" for member in settings.local_members)]


async def registry_in(database: Database, data_dir: Path, settings: Settings, clock: Clock) -> Registry:
    """Return the registry with the keys that count by ``database``, the rest removed; see ``opened`` for what it raises."""
    store = IdentityStore(database)
    rotations = RotationStore(database)
    position, new = await rotations.position(), await store.is_new()
    keyring = open_keyring(data_dir / "ca", settings.trust_domain, clock.now(), position, create=new)
    version = await store.record_trust(settings.trust_domain, digest_of(keyring))
    await rotations.begin(keyring.position)
    keyring.tidy()
    return Registry(keyring, store, trust_of(keyring, version), settings, clock, await rotations.roots())
