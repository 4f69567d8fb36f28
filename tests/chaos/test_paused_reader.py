"""Readers that stop reading while the others go on: they catch up without a gap, and cost the bus nothing while they are away.

``PICONTROLLER_SOAK_SECONDS`` sets for how long they stop (3).
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from picontroller.core.rpc import mesh as rpc
from picontroller.core.tasks import cancel_and_wait
from picontroller.v1 import events_pb2, events_pb2_grpc
from tests.chaos.bus_process import BusProcess
from tests.chaos.guarantees import Connection, Sent, Watch, violations
from tests.chaos.watching import Watcher, observed, whole_journal

SECONDS = float(os.environ.get("PICONTROLLER_SOAK_SECONDS", "3"))
EVENTS_A_SECOND, EVENTS_A_REQUEST, EVENT_BYTES = 500, 5, 4000
PAUSED = 8
# Kept for each of the paused readers, the events of the shortest run would take 48 MB, those of a minute 960 MB. What is allowed: the tail
# (4 MB), SQLite's page caches (three of 2 MB), a flow-control window for each reader, and what malloc keeps back.
ALLOWED_GROWTH_BYTES = 28 * 1024 * 1024


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[BusProcess]:
    process = BusProcess(tmp_path)
    await process.start()
    yield process
    await process.end(signal.SIGTERM)


class Paused:
    """A reader that takes what comes until it is told to stop, leaves its call open, and goes on later."""

    def __init__(self, bus: BusProcess, index: int) -> None:
        self.watch = Watch(f"paused {index}", lambda _: True, [Connection("start")])
        self.paused = False
        self.going_on = asyncio.Event()
        self.position = ""
        self._mesh = bus.mesh(f"svc/p{index}")

    async def run(self, until: asyncio.Future[str]) -> None:
        stub = events_pb2_grpc.EventServiceStub(self._mesh.service("events"))
        responses = rpc.stream(stub.Subscribe, events_pb2.SubscribeRequest(after="start"))
        async for response in responses:
            self.watch.connections[0].responses.append(([observed(event) for event in response.events], response.cursor))
            self.position = response.cursor
            if self.paused:
                await self.going_on.wait()
            if until.done() and until.result() == self.position:
                break
        await responses.aclose()
        await self._mesh.close()


async def publish(bus: BusProcess, seconds: float, sent: list[Sent]) -> float:
    """Publish at an even pace for so long; return the events a second that were reached."""
    mesh = bus.mesh("svc/gpio")
    stub, filling = events_pb2_grpc.EventServiceStub(mesh.service("events")), "x" * EVENT_BYTES
    started, sequence = time.monotonic(), 1 + sum(len(publish.names) for publish in sent)
    first = sequence
    while (elapsed := time.monotonic() - started) < seconds:
        if sequence - first > elapsed * EVENTS_A_SECOND:
            await asyncio.sleep(0.005)
            continue
        request = events_pb2.PublishRequest(source_epoch="e", first_sequence=sequence)
        for _ in range(EVENTS_A_REQUEST):
            event = request.events.add(type="load.made", resource=f"gpio-{sequence}")
            event.timestamp.GetCurrentTime()
            event.data.update({"filling": filling})
            sequence += 1
        sent.append(Sent("gpio", tuple(event.resource for event in request.events)))
        await rpc.unary(stub.Publish, request, seconds=10)
        sent[-1].acknowledged = True
    await mesh.close()
    return (sequence - first) / (time.monotonic() - started)


@pytest.mark.timeout(90 + 4 * SECONDS)
async def test_readers_when_paused_catch_up_gapless_and_cost_no_memory(bus: BusProcess) -> None:
    loop, sent = asyncio.get_running_loop(), []
    until: asyncio.Future[str] = loop.create_future()
    readers = [Paused(bus, index) for index in range(PAUSED)]
    reading = [loop.create_task(reader.run(until)) for reader in readers]
    live = Watcher("live", bus.mesh("svc/live"), ["*"], lambda _: True)
    following = loop.create_task(live.run())
    try:
        # Warmed up with all of them reading, so that caches and pools have their size before the measurement.
        await publish(bus, 2, sent)
        for reader in readers:
            reader.paused = True
        await publish(bus, 0.2, sent)
        before = bus.resident_bytes()
        reached = await publish(bus, SECONDS, sent)
        grown = bus.resident_bytes() - before
        journal = await whole_journal(live._mesh)
        last = journal[-1].cursor
        await live.reached(last, 10)
        assert all(reader.position != last for reader in readers), "they must have been away"
        until.set_result(last)
        for reader in readers:
            reader.going_on.set()
        async with asyncio.timeout(30 + SECONDS):
            await asyncio.gather(*reading)
        after = bus.resident_bytes() - before
    finally:
        await cancel_and_wait(following, *reading)
    missed = sum(len(publish.names) for publish in sent) * EVENT_BYTES * PAUSED / 1e6
    memory = f"memory +{grown / 1e6:.1f} MB paused, +{after / 1e6:.1f} MB caught up, of {missed:.0f} MB"
    print(f"{reached:.0f} events/s for {SECONDS:g} s; {memory}")
    assert reached >= 0.9 * EVENTS_A_SECOND
    assert violations(journal, [live.watch, *(reader.watch for reader in readers)], sent) == []
    assert grown < ALLOWED_GROWTH_BYTES
    assert after < ALLOWED_GROWTH_BYTES
