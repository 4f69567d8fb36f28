"""Registering once, giving signs of life, and registering again when there is a reason to."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from picontroller.agent.board import simulated
from picontroller.agent.capabilities import Capabilities, Presentation
from picontroller.agent.health import LONGEST, MOST, Health
from picontroller.agent.reporting import Reporting
from picontroller.core.errors import Unavailable
from tests.fakes.clock import FakeClock

CAPABILITIES = Capabilities(simulated.board(0), "sim", (), (), ())
HERE = Presentation("pi", "10.0.0.2", "", "aarch64", CAPABILITIES, "0.1.0", "10.0.0.2:7450")


class FakeControlPlane:
    def __init__(self) -> None:
        self.registered: list[Presentation] = []
        self.reports: list[list[str]] = []
        self.forgets = False
        self.away = False

    async def register(self, presentation: Presentation) -> None:
        if self.away:
            raise Unavailable("away")
        self.registered.append(presentation)

    async def report_health(self, problems: Sequence[str]) -> bool:
        if self.away:
            raise Unavailable("away")
        self.reports.append(list(problems))
        forgot, self.forgets = self.forgets, False
        return forgot


class Rig:
    """A reporter over fakes."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.plane = FakeControlPlane()
        self.here = HERE
        self.problems: list[str] = []
        self.ready = asyncio.Event()
        self.ready.set()
        self.reporting = Reporting(self.plane, self._present, lambda: self.problems, self._wait, self.clock, 5.0)

    async def _present(self) -> Presentation:
        return self.here

    async def _wait(self) -> None:
        await self.ready.wait()

    async def start(self) -> "asyncio.Task[None]":
        task = asyncio.create_task(self.reporting.run())
        if self.ready.is_set():
            await self.clock.until_sleeping()
        return task


async def test_reports_when_all_is_well_follow_one_registration_every_five_seconds() -> None:
    rig = Rig()
    task = await rig.start()
    await rig.clock.advance(20)
    assert rig.plane.registered == [HERE]
    assert len(rig.plane.reports) == 5
    task.cancel()


async def test_registration_when_the_control_plane_forgot_the_node_is_repeated_at_once() -> None:
    rig = Rig()
    task = await rig.start()
    rig.plane.forgets = True
    await rig.clock.advance(5)
    assert rig.plane.registered == [HERE, HERE]
    await rig.clock.advance(5)
    assert len(rig.plane.registered) == 2
    task.cancel()


async def test_registration_when_something_changed_is_repeated_within_a_minute() -> None:
    rig = Rig()
    task = await rig.start()
    rig.here = replace(HERE, ip_address="10.0.0.3", agent_address="10.0.0.3:7450")
    await rig.clock.advance(50)
    assert rig.plane.registered == [HERE]
    await rig.clock.advance(10)
    assert rig.plane.registered == [HERE, rig.here]
    await rig.clock.advance(120)
    assert len(rig.plane.registered) == 2
    task.cancel()


async def test_problems_when_there_are_some_are_in_the_next_report() -> None:
    rig = Rig()
    task = await rig.start()
    rig.problems = ["CLOCK_UNSYNCED: 1970"]
    await rig.clock.advance(5)
    assert rig.plane.reports == [[], ["CLOCK_UNSYNCED: 1970"]]
    task.cancel()


async def test_reports_when_not_ready_wait() -> None:
    rig = Rig()
    rig.ready.clear()
    task = await rig.start()
    await rig.clock.advance(60)
    assert rig.plane.registered == []
    rig.ready.set()
    await rig.clock.advance(1)
    assert rig.plane.registered == [HERE]
    task.cancel()


async def test_run_when_the_control_plane_was_away_goes_on_without_registering_again() -> None:
    rig = Rig()
    task = await rig.start()
    rig.plane.away = True
    await rig.clock.advance(5)
    with pytest.raises(Unavailable):
        await task
    rig.plane.away = False
    task = await rig.start()
    await rig.clock.advance(1)
    assert rig.plane.registered == [HERE]
    assert len(rig.plane.reports) == 2
    task.cancel()


def test_health_when_sources_repeat_and_ramble_says_each_once_and_shortly() -> None:
    health = Health([lambda: ["A: x", "B: y"], lambda: ("A: x", "C: " + "z" * 1000, "")])
    assert health.problems() == ["A: x", "B: y", "C: " + "z" * (LONGEST - 3)]


def test_health_when_there_are_too_many_problems_counts_the_rest() -> None:
    problems = Health([lambda: [f"P{number}: x" for number in range(100)]]).problems()
    assert len(problems) == MOST
    assert problems[-1].startswith("MORE_PROBLEMS: 69 ")
