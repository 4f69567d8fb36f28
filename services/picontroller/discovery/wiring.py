"""Builds discovery: its database, its registry, its servicer, and the work it does in the background."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from picontroller.core.rpc.auditing import audited
from picontroller.core.rpc.publishing import EventBus
from picontroller.core.rpc.wiring import Service, Surroundings
from picontroller.core.store.outbox import Outbox
from picontroller.core.store.sqlite import Database
from picontroller.discovery import tending
from picontroller.discovery.departures import Departures
from picontroller.discovery.identities import MeshIdentities
from picontroller.discovery.liveness import Liveness
from picontroller.discovery.registry import Registry
from picontroller.discovery.service import DiscoveryServicer
from picontroller.discovery.settings import Settings
from picontroller.discovery.store import SCHEMA, SqliteNodeStore
from picontroller.v1 import discovery_pb2_grpc


@asynccontextmanager
async def build(surroundings: Surroundings) -> AsyncIterator[Service]:
    """Yield discovery, ready to be served. Nodes known from before have a full grace period from now."""
    settings: Settings = surroundings.settings
    clock = surroundings.clock
    async with await Database.open(surroundings.data_dir / "discovery.db", SCHEMA) as database, audited(database, surroundings) as audit:
        store = SqliteNodeStore(database)
        liveness = Liveness(clock, settings.lost_after_seconds)
        registry = Registry(store, liveness, clock)
        await registry.load()
        servicer = DiscoveryServicer(registry, store)
        outbox = Outbox(database, EventBus(surroundings.mesh, surroundings.name), clock)
        departures = Departures(store, MeshIdentities(surroundings.mesh))
        database.on_commit(departures.wake)
        try:
            yield Service(
                surroundings.name,
                (partial(discovery_pb2_grpc.add_DiscoveryServiceServicer_to_server, servicer), audit.register),
                {
                    "outbox": outbox.run,
                    "departures": departures.run,
                    "silence": partial(tending.lose_silent, registry, liveness, clock),
                    "last signs of life": partial(tending.flush, registry, clock, settings.flush_seconds),
                    "problems noticed": partial(tending.notice_problems, registry),
                    **audit.background,
                },
                lambda: database.failed,
                audit.trail,
            )
        finally:
            await registry.close()
