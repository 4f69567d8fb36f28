"""Readers that stop reading while the others go on: they catch up without a gap, and cost the bus nothing while they are away.

``PICONTROLLER_SOAK_SECONDS`` sets for how long they stop (3).
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from picontroller.core.callers import SpiffeId
from picontroller.core.rpc import mesh as rpc
from picontroller.core.tasks import cancel_and_wait
from picontroller.core.tls.identity import server_name
from picontroller.v1 import events_pb2, events_pb2_grpc
from tests.chaos.bus_process import BusProcess
from tests.chaos.guarantees import Connection, Sent, Watch, violations
from tests.chaos.watching import Watcher, observed, whole_journal

SECONDS = float(os.environ.get("PICONTROLLER_SOAK_SECONDS", "3"))
EVENTS_A_SECOND, EVENTS_A_REQUEST, EVENT_BYTES = 500, 5, 4000
PAUSED = 12
# Kept for each of the paused readers, the events of the shortest run would take 72 MB, those of a minute 1.4 GB. What is allowed while
# they are away: a flow-control window each, what the tail (4 MB) and SQLite's caches still lacked, malloc's slack (measured: 3-5 MB).
# While all of them catch up at once, each has a piece of the journal in hand as well (measured: 15-20 MB).
ALLOWED_PAUSED_BYTES = 12 * 1024 * 1024
ALLOWED_CAUGHT_UP_BYTES = 40 * 1024 * 1024


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[BusProcess]:
    process = BusProcess(tmp_path)
    await process.start()
    yield process
    await process.end(signal.SIGTERM)


def narrow_channel(bus: BusProcess, path: str) -> grpc.aio.Channel:
    """Return a channel that takes in 64 KiB unread and no more: gRPC would widen that to megabytes, and so do the bus's waiting for it."""
    identity = bus.identity(path)
    secrets = grpc.ssl_channel_credentials(identity.trust.roots_pem, identity.credentials.key_pem, identity.credentials.chain_pem)
    options = [
        ("grpc.ssl_target_name_override", server_name(SpiffeId("", "svc", "events"))),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 64 * 1024),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    return grpc.aio.secure_channel(bus.address, secrets, options=options)


class Paused:
    """A reader that takes what comes until it is told to stop, leaves its call open, and goes on later."""

    def __init__(self, bus: BusProcess, index: int) -> None:
        self.watch = Watch(f"paused {index}", lambda _: True, [Connection("start")])
        self.paused = False
        self.going_on = asyncio.Event()
        self.position = ""
        self._channel = narrow_channel(bus, f"svc/p{index}")

    async def run(self, until: asyncio.Future[str]) -> None:
        stub = events_pb2_grpc.EventServiceStub(self._channel)
        responses = rpc.stream(stub.Subscribe, events_pb2.SubscribeRequest(after="start"))
        async for response in responses:
            self.watch.connections[0].responses.append(([observed(event) for event in response.events], response.cursor))
            self.position = response.cursor
            if self.paused:
                await self.going_on.wait()
            if until.done() and until.result() == self.position:
                break
        await responses.aclose()
        await self._channel.close()


async def publish(bus: BusProcess, seconds: float, sent: list[Sent]) -> float:
    """Publish at an even pace for so long; return the events a second that were reached."""
    mesh = bus.mesh("svc/gpio")
    stub, filling = events_pb2_grpc.EventServiceStub(mesh.service("events")), "x" * EVENT_BYTES
    started, sequence = time.monotonic(), 1 + sum(len(publish.names) for publish in sent)
    first = sequence
    while (elapsed := time.monotonic() - started) < seconds:
        due = first + int(elapsed * EVENTS_A_SECOND) - sequence
        if due < EVENTS_A_REQUEST:
            await asyncio.sleep(0.005)
            continue
        request = events_pb2.PublishRequest(source_epoch="e", first_sequence=sequence)
        for _ in range(min(due, 100)):
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
    assert reached >= 0.8 * EVENTS_A_SECOND
    assert violations(journal, [live.watch, *(reader.watch for reader in readers)], sent) == []
    assert grown < ALLOWED_PAUSED_BYTES
    assert after < ALLOWED_CAUGHT_UP_BYTES
