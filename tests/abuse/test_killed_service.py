"""A service that is killed while it is asked: its callers are told at once, come back by themselves, and not all together."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from picontroller.agent.capabilities import Presentation
from picontroller.agent.reporting import Reporting
from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.core.tasks import cancel_and_wait, keep_running
from picontroller.v1 import events_pb2, events_pb2_grpc
from tests.chaos.bus_process import BusProcess
from tests.fakes.clock import FakeClock
from tests.unit.agent.test_reporting import HERE

AGENTS = 200
EVERY_SECONDS = 5.0


async def test_abuse_42_service_killed_in_the_midst_of_calls_is_unavailable_and_callers_come_back(tmp_path: Path) -> None:
    bus = BusProcess(tmp_path)
    await bus.start()
    mesh = bus.mesh("svc/gpio")
    try:
        stub = events_pb2_grpc.EventServiceStub(mesh.service("events"))
        responses = rpc.stream(stub.Subscribe, events_pb2.SubscribeRequest())
        await anext(responses)
        killed = time.monotonic()
        await bus.end(signal.SIGKILL)
        with pytest.raises(errors.Unavailable):
            await drained(responses)
        with pytest.raises(errors.Unavailable):
            await rpc.unary(stub.ListEvents, events_pb2.ListEventsRequest())
        assert time.monotonic() - killed < 3
        await bus.start()
        async with asyncio.timeout(10):
            while True:
                try:
                    await rpc.unary(stub.ListEvents, events_pb2.ListEventsRequest())
                    break
                except errors.Unavailable:
                    await asyncio.sleep(0.05)
        assert await anext(rpc.stream(stub.Subscribe, events_pb2.SubscribeRequest()))
    finally:
        await bus.end(signal.SIGKILL)
        await mesh.close()


async def drained(responses: AsyncIterator[events_pb2.SubscribeResponse]) -> None:
    async for _ in responses:
        pass


class CountingControlPlane:
    """Notes when it is reported to, by the second; away at times."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.away = False
        self.reports: Counter[int] = Counter()

    async def register(self, presentation: Presentation) -> None:
        self._refuse()

    async def report_health(self, problems: Sequence[str]) -> bool:
        self._refuse()
        self.reports[int(self._clock.monotonic())] += 1
        return False

    def _refuse(self) -> None:
        if self.away:
            raise errors.Unavailable("killed")

    def busiest(self, begin: float, end: float) -> int:
        """Return how many reports came in the busiest second of a time."""
        return max(self.reports[second] for second in range(int(begin), int(end)))


async def present() -> Presentation:
    return HERE


async def ready() -> None:
    return


@pytest.mark.parametrize("outage", [1.0, 7.0, 60.0])
async def test_abuse_42_agents_when_the_control_plane_is_back_do_not_come_all_at_once(outage: float) -> None:
    random.seed(42)
    clock = FakeClock()
    plane = CountingControlPlane(clock)
    agents: list[asyncio.Task[None]] = []
    for number in range(AGENTS):
        reporting = Reporting(plane, present, tuple, ready, clock, EVERY_SECONDS)
        agents.append(asyncio.ensure_future(keep_running(f"agent {number}", reporting.run, clock)))
        await clock.advance(EVERY_SECONDS / AGENTS)
    await clock.advance(10)
    steady = AGENTS / EVERY_SECONDS
    assert plane.busiest(clock.monotonic() - 9, clock.monotonic() - 1) <= steady * 1.2
    plane.away = True
    await clock.advance(outage)
    plane.away = False
    back = clock.monotonic()
    await clock.advance(20)
    assert sum(plane.reports[second] for second in range(int(back), int(back) + 6)) >= AGENTS
    assert plane.busiest(back, back + 20) <= 2 * steady
    await cancel_and_wait(*agents)
