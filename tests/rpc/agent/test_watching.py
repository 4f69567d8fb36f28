"""WatchEdges over the wire: what comes, in which order, what is lost, and who may look."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from picontroller.agent.gpio.events import KEPT
from picontroller.agent.gpio.pins import Level as DomainLevel
from picontroller.core import errors
from picontroller.core.callers import SpiffeId
from picontroller.core.rpc import mesh as rpc
from picontroller.core.tls.identity import server_name
from picontroller.v1 import agent_pb2 as v1
from picontroller.v1 import agent_pb2_grpc, types_pb2
from tests.rpc.agent.world import (
    EPOCH,
    NODE_ID,
    PATIENCE_SECONDS,
    Level,
    Mode,
    SafeState,
    World,
    configure,
    eventually,
    pin,
    release,
    world,
    write,
)

Cause = v1.PinEvent.Cause
HIGH, LOW = DomainLevel.HIGH, DomainLevel.LOW


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as running:
        yield running


class Watch:
    """A stream with its answers so far."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.events: list[v1.PinEvent] = []
        self.lost = 0
        self.run_id = ""
        self.sequence = 0

    async def next(self) -> v1.WatchEdgesResponse:
        async with asyncio.timeout(PATIENCE_SECONDS):
            answer: v1.WatchEdgesResponse = await anext(self._call)
        self.events.extend(answer.events)
        self.lost += answer.lost
        self.run_id, self.sequence = answer.run_id, answer.sequence
        return answer

    async def until(self, count: int) -> list[v1.PinEvent]:
        while len(self.events) < count:
            await self.next()
        return self.events


@asynccontextmanager
async def watching(agent: World, stub: Any = None, **request: Any) -> AsyncIterator[Watch]:
    stream = rpc.stream((stub or agent.stub()).WatchEdges, v1.WatchEdgesRequest(**request))
    try:
        watch = Watch(stream)
        await watch.next()
        yield watch
    finally:
        await stream.aclose()


@asynccontextmanager
async def narrow_stub(agent: World) -> AsyncIterator[Any]:
    """Yield a stub over a channel whose window stays at 64 KiB; gRPC would widen it to megabytes, and nobody would ever stall."""
    identity = agent.authority.identity(agent.folder / "narrow", "svc/gpio")
    credentials = identity.credentials
    secrets = grpc.ssl_channel_credentials(identity.trust.roots_pem, credentials.key_pem, credentials.chain_pem)
    name = server_name(SpiffeId("", "node", NODE_ID))
    options = (("grpc.http2.bdp_probe", 0), ("grpc.ssl_target_name_override", name), ("grpc.default_authority", name))
    async with grpc.aio.secure_channel(agent.socket, secrets, options=options) as channel:
        yield agent_pb2_grpc.NodeAgentServiceStub(channel)


async def test_watch_when_opened_tells_the_run_and_then_every_change(agent: World) -> None:
    async with watching(agent) as watch:
        assert (watch.events, watch.sequence, watch.lost) == ([], 0, 0)
        assert watch.run_id == agent.panel.events.run_id
        await agent.control(configure(17, value=Level.LOW), write(17, Level.HIGH), write(17, Level.HIGH))
        await agent.control(configure(27, mode=Mode.INPUT, edge=types_pb2.Edge.BOTH))
        agent.driver.board.drive(27, HIGH)
        await agent.control(release(17))
        events = await watch.until(5)
        assert [(e.sequence, e.resolved.bcm, e.cause, e.value) for e in events] == [
            (1, 17, Cause.CONFIGURE, Level.LOW),
            (2, 17, Cause.WRITE, Level.HIGH),
            (3, 27, Cause.CONFIGURE, Level.LOW),
            (4, 27, Cause.EDGE, Level.HIGH),
            (5, 17, Cause.SAFE, Level.LOW),
        ]
        assert events[3].resolved.header == 13
        assert [e.time.ToNanoseconds() for e in events] == sorted(e.time.ToNanoseconds() for e in events)


async def test_watch_when_for_some_lines_shows_no_others(agent: World) -> None:
    async with watching(agent, pins=[types_pb2.PinRef(header=13)]) as watch:
        await agent.control(configure(17), configure(27), configure(22), write(27, Level.HIGH))
        assert [e.resolved.bcm for e in await watch.until(2)] == [27, 27]
        assert watch.lost == 0


async def test_watch_when_resumed_misses_nothing(agent: World) -> None:
    await agent.control(configure(17, value=Level.LOW))
    async with watching(agent) as watch:
        await agent.control(write(17, Level.HIGH))
        await watch.until(1)
        run_id, sequence = watch.run_id, watch.sequence
    for level in (Level.LOW, Level.HIGH, Level.LOW):
        await agent.control(write(17, level))
    async with watching(agent, after_sequence=sequence, run_id=run_id) as watch:
        events = await watch.until(3)
        assert ([e.sequence for e in events], watch.lost) == ([3, 4, 5], 0)


async def test_watch_when_of_an_earlier_run_begins_at_the_oldest(tmp_path: Path) -> None:
    async with world(tmp_path) as first:
        await first.control(configure(17, value=Level.HIGH, safe=SafeState.LOW))
        run_id = first.panel.events.run_id
    async with world(tmp_path) as second, watching(second, after_sequence=900, run_id=run_id) as watch:
        assert watch.run_id != run_id
        (event,) = await watch.until(1)
        assert (event.sequence, event.cause, event.value) == (1, Cause.SAFE, Level.LOW)


async def test_watch_when_the_sequence_is_of_the_future_is_out_of_range(agent: World) -> None:
    stream = rpc.stream(agent.stub().WatchEdges, v1.WatchEdgesRequest(after_sequence=7, run_id=agent.panel.events.run_id))
    with pytest.raises(errors.OutOfRange) as caught:
        await anext(stream)
    assert caught.value.reason == "SEQUENCE_UNKNOWN"


async def test_watch_when_a_line_is_unknown_is_invalid(agent: World) -> None:
    stream = rpc.stream(agent.stub().WatchEdges, v1.WatchEdgesRequest(pins=[pin(17), types_pb2.PinRef(header=1)]))
    with pytest.raises(errors.InvalidArgument) as caught:
        await anext(stream)
    assert caught.value.reason == "PIN_POWER"


async def test_subscriber_when_stalled_is_told_its_losses_and_hurts_nobody(agent: World) -> None:
    await agent.control(configure(27, mode=Mode.INPUT, edge=types_pb2.Edge.BOTH))
    async with narrow_stub(agent) as stub, watching(agent, stub) as stalled, watching(agent) as quick:
        total = KEPT + 6_000  # more than the ring and the buffers on the way hold
        for number in range(total):
            agent.driver.board.drive(27, LOW if number % 2 else HIGH)
            if number % 512 == 511:
                await quick.until(number + 1)
        await quick.until(total)
        assert quick.lost == 0
        while stalled.sequence < total + 1:
            await stalled.next()
        assert stalled.lost > 0
        assert len(stalled.events) + stalled.lost == total
        assert stalled.events[-1].sequence == quick.events[-1].sequence == total + 1


async def test_losses_of_the_kernel_when_told_are_counted_once(agent: World) -> None:
    await agent.control(configure(27, mode=Mode.INPUT, edge=types_pb2.Edge.BOTH))
    async with watching(agent) as watch:
        agent.driver.board.drop_edges(27, 12)
        agent.driver.board.drive(27, HIGH)
        agent.driver.board.drive(27, LOW)
        events = await watch.until(2)
        assert (watch.lost, [e.sequence for e in events]) == (12, [14, 15])


async def test_watch_when_given_up_leaves_nothing_behind(agent: World) -> None:
    async with watching(agent):
        assert len(agent.panel.events._subscriptions) == 1
    await eventually(lambda: not agent.panel.events._subscriptions)


@pytest.mark.parametrize("caller", ["svc/events", "node/x", "user/anna"])
async def test_watch_when_called_by_anyone_but_the_manager_is_refused(agent: World, caller: str) -> None:
    stream = rpc.stream(
        agent.stub(caller, roles=("cluster-admin",) if caller.startswith("user/") else ()).WatchEdges, v1.WatchEdgesRequest()
    )
    with pytest.raises(errors.PermissionDenied):
        await anext(stream)


async def test_event_when_nobody_drives_any_more_tells_the_release(agent: World) -> None:
    await agent.control(configure(17, EPOCH, value=Level.HIGH))
    async with watching(agent) as watch:
        await agent.control(release(17))
        (event,) = await watch.until(1)
        assert (event.cause, event.value) == (Cause.SAFE, Level.LOW)
