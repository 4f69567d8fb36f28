"""kill -9 of the bus, again and again, while services publish and watchers watch.

``PICONTROLLER_CHAOS_KILLS`` sets how often (5), ``PICONTROLLER_CHAOS_SEED`` when.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from picontroller.core.clock import SystemClock
from picontroller.core.errors import DeadlineExceeded, Unavailable
from picontroller.core.events import Event
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.publishing import EventBus
from picontroller.core.store import outbox
from picontroller.core.store.outbox import Outbox
from picontroller.core.store.sqlite import Database
from picontroller.core.tasks import cancel_and_wait, keep_running
from picontroller.v1 import events_pb2, events_pb2_grpc
from tests.chaos.bus_process import BusProcess
from tests.chaos.guarantees import Sent, violations
from tests.chaos.watching import Watcher, whole_journal

KILLS = int(os.environ.get("PICONTROLLER_CHAOS_KILLS", "5"))
SEED = int(os.environ.get("PICONTROLLER_CHAOS_SEED", "1"))
LEAST_PUBLISHES_A_SECOND = 50
PACE_SECONDS = 0.01  # for each of four direct publishers, so that together they are well above it on a busy machine too
FILTERS = [["*"], ["*"], ["direct.*"], ["outbox.*"], ["*.n0", "*.n1"], ["never.*"]]


class Direct:
    """A service that publishes by itself: the same request until it is acknowledged."""

    def __init__(self, name: str, bus: BusProcess, sent: list[Sent], seed: int) -> None:
        self._name = name
        self._mesh = bus.mesh(f"svc/{name}")
        self._sent = sent
        self._random = random.Random(seed)
        self.stopping = False
        self.published = 0

    async def run(self) -> None:
        stub, sequence = events_pb2_grpc.EventServiceStub(self._mesh.service("events")), 1
        while not self.stopping:
            request = events_pb2.PublishRequest(source_epoch="e", first_sequence=sequence)
            for offset in range(self._random.randint(1, 5)):
                event = request.events.add(type=f"direct.n{sequence % 7}", resource=f"{self._name}-{sequence + offset}")
                event.timestamp.GetCurrentTime()
            publish = Sent(self._name, tuple(event.resource for event in request.events))
            self._sent.append(publish)
            while not publish.acknowledged:
                try:
                    answer = await rpc.unary(stub.Publish, request, seconds=2)
                    assert answer.last_sequence == sequence + len(request.events) - 1
                    publish.acknowledged = True
                except (Unavailable, DeadlineExceeded):
                    await asyncio.sleep(0.01)
            sequence += len(request.events)
            self.published += 1
            await asyncio.sleep(PACE_SECONDS)
        await self._mesh.close()


class Changing:
    """A service that changes its state and tells of it through its outbox. Its own database is never killed."""

    def __init__(self, database: Database, sent: list[Sent]) -> None:
        self._database = database
        self._sent = sent
        self.stopping = False

    async def run(self) -> None:
        clock, count = SystemClock(), 0
        while not self.stopping:
            count += 1
            event = Event(f"outbox.n{count % 7}", clock.now(), resource=f"outbox-{count}", data={"count": count})
            await self._database.write(lambda connection, event=event: outbox.emit(connection, event))
            self._sent.append(Sent("outbox", (event.resource,), acknowledged=True))
            await asyncio.sleep(PACE_SECONDS)

    async def emptied(self) -> None:
        """Wait until the outbox has been carried on."""
        async with asyncio.timeout(20):
            while await self._database.read(lambda connection: connection.execute("SELECT count(*) FROM outbox").get):
                await asyncio.sleep(0.02)


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[BusProcess]:
    process = BusProcess(tmp_path)
    yield process
    await process.end(signal.SIGKILL)


async def killing(bus: BusProcess) -> float:
    """Kill the bus at seeded moments after it began to serve and start it again at once; return the seconds that it served."""
    moments, served = random.Random(SEED), 0.0
    for _ in range(KILLS):
        started = time.monotonic()
        await asyncio.sleep(moments.uniform(0.3, 1.2))
        await bus.end(signal.SIGKILL)
        served += time.monotonic() - started
        await bus.start()
    return served


@pytest.mark.timeout(60 + 10 * KILLS)
async def test_abuse_50_killed_bus_loses_nothing_acknowledged_and_keeps_its_promises(bus: BusProcess, tmp_path: Path) -> None:
    loop, sent = asyncio.get_running_loop(), []
    await bus.start()
    direct = [Direct(name, bus, sent, SEED + index) for index, name in enumerate(("gpio", "discovery", "identity", "backups"))]
    watchers = [
        Watcher(f"watcher {index} of {types}", bus.mesh(f"svc/w{index}"), types, _chooser(types)) for index, types in enumerate(FILTERS)
    ]
    async with await Database.open(tmp_path / "service.db", (outbox.SCHEMA,)) as database:
        outgoing, changing = bus.mesh("svc/clusters"), Changing(database, sent)
        carrying = Outbox(database, EventBus(outgoing, "clusters"), SystemClock())
        background = [loop.create_task(keep_running("outbox", carrying.run, SystemClock()))]
        background += [loop.create_task(watcher.run()) for watcher in watchers]
        publishing = [loop.create_task(part.run()) for part in (*direct, changing)]
        try:
            served = await killing(bus)
            published = sum(part.published for part in direct)
            for part in (*direct, changing):
                part.stopping = True
            async with asyncio.timeout(20):
                await asyncio.gather(*publishing)
            await changing.emptied()
            journal = await whole_journal(outgoing)
            for watcher in watchers:
                await watcher.reached(journal[-1].cursor, 20)
        finally:
            await cancel_and_wait(*background, *publishing)
            await outgoing.close()
    assert bus.starts == KILLS + 1
    assert published / served >= LEAST_PUBLISHES_A_SECOND
    assert all(len(watcher.watch.connections) > KILLS for watcher in watchers)
    assert violations(journal, [watcher.watch for watcher in watchers], sent) == []
    assert all(publish.acknowledged for publish in sent)
    print(f"seed {SEED}: {KILLS} kills, {published / served:.0f} publishes/s while up, {len(journal)} events, nothing lost")


def _chooser(types: list[str]):
    if types == ["*"]:
        return lambda observed: True
    if types[0].startswith("*."):
        return lambda observed: observed.type.endswith((".n0", ".n1"))
    return lambda observed: observed.type.startswith(types[0].removesuffix("*"))
