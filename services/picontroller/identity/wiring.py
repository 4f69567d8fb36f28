"""Builds the identity service, to be served (``build``) or to be used by its host before anything serves (``opened``).

Both open the same database, which only one at a time may do: leave ``opened`` before ``build``.
"""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from picontroller.core.clock import Clock
from picontroller.core.rpc.publishing import EventBus
from picontroller.core.rpc.wiring import Service, Surroundings
from picontroller.core.store.outbox import Outbox
from picontroller.core.store.sqlite import Database
from picontroller.core.tls.identity import Trust
from picontroller.identity import local
from picontroller.identity.api_tokens import TokenSigner
from picontroller.identity.keyring import open_keyring
from picontroller.identity.registry import Registry
from picontroller.identity.service import IdentityServicer
from picontroller.identity.settings import Settings
from picontroller.identity.store import SCRIPTS, IdentityStore
from picontroller.v1 import identity_pb2_grpc


@asynccontextmanager
async def opened(data_dir: Path, settings: Settings, clock: Clock) -> AsyncIterator[Registry]:
    """Yield the registry in ``data_dir`` (the identity service's own folder), made with a new authority if there is none.

    Raises FailedPrecondition when keys are missing or unsafe, the trust domain changed, or another process has the database open.
    """
    async with await Database.open(data_dir / "identity.db", SCRIPTS) as database:
        yield await _registry(database, data_dir, settings, clock)


@asynccontextmanager
async def build(surroundings: Surroundings) -> AsyncIterator[Service]:
    """Yield the service. It also keeps the admin credential beside its folder fresh, if there is one."""
    settings: Settings = surroundings.settings
    clock = surroundings.clock
    async with await Database.open(surroundings.data_dir / "identity.db", SCRIPTS) as database:
        registry = await _registry(database, surroundings.data_dir, settings, clock)
        servicer = IdentityServicer(registry, IdentityStore(database))
        background: dict[str, Callable[[], Awaitable[None]]] = {
            "outbox": Outbox(database, EventBus(surroundings.mesh, surroundings.name), clock).run,
            "upkeep": partial(local.keep_fresh, registry, surroundings.data_dir.parent, clock),
        }
        yield Service(
            surroundings.name,
            (lambda server: identity_pb2_grpc.add_IdentityServiceServicer_to_server(servicer, server),),
            background,
            lambda: database.failed,
        )


async def _registry(database: Database, data_dir: Path, settings: Settings, clock: Clock) -> Registry:
    store = IdentityStore(database)
    keyring = open_keyring(data_dir / "ca", settings.trust_domain, clock.now(), create=await store.is_new())
    roots_pem = keyring.root.chain_pem()
    jwks = TokenSigner(keyring.token_key, settings.trust_domain).jwks()
    version = await store.record_trust(settings.trust_domain, hashlib.sha256(roots_pem + jwks.encode()).digest())
    return Registry(keyring, store, Trust(version, settings.trust_domain, roots_pem, jwks), settings, clock)
