"""Builds the event bus: the only place that knows all its parts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from picontroller.core.rpc.auditing import audited
from picontroller.core.rpc.wiring import Service, Surroundings
from picontroller.core.store.sqlite import Database
from picontroller.events import messages
from picontroller.events.announcing import Announcer
from picontroller.events.cursors import Cursors
from picontroller.events.journal import Journal
from picontroller.events.listing import Listing
from picontroller.events.messages import LossDescriber
from picontroller.events.retention import Retention
from picontroller.events.service import EventServicer
from picontroller.events.settings import Settings
from picontroller.events.store import SCHEMA, SqliteStore
from picontroller.events.subscriptions import Subscriptions
from picontroller.events.tail import Tail
from picontroller.v1 import events_pb2_grpc


@asynccontextmanager
async def build(surroundings: Surroundings) -> AsyncIterator[Service]:
    """Open the journal and yield the service; on the way out, what was taken in is on disk before the file is closed."""
    settings: Settings = surroundings.settings
    clock = surroundings.clock
    async with await Database.open(surroundings.data_dir / "events.db", SCHEMA) as database:
        store = await SqliteStore.load(database)
        tail = Tail(settings.tail_events, int(settings.tail_megabytes * 1024 * 1024))
        journal = Journal(store, Cursors(store.epoch, store.key), tail, clock, LossDescriber(clock))
        subscriptions = Subscriptions(journal, clock, settings.heartbeat_seconds)
        servicer = EventServicer(journal, subscriptions, Listing(journal, store))
        retention = Retention(store, settings, clock)
        announcer = Announcer(journal, surroundings.name, messages.record_of)
        async with audited(database, surroundings, announcer.publish) as audit:
            yield Service(
                surroundings.name,
                (lambda server: events_pb2_grpc.add_EventServiceServicer_to_server(servicer, server), audit.register),
                {"retention": retention.run, "pulse": subscriptions.pulse, **audit.background},
                lambda: database.failed,
                audit.trail,
            )
        await journal.settle()
