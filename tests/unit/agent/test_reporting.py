"""Registering once, giving signs of life, and registering again when there is a reason to."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from picontroller.agent.board import simulated
from picontroller.agent.capabilities import Capabilities, Presentation
from picontroller.agent.health import LONGEST, MOST, Health
from picontroller.agent.reporting import Reporting
from picontroller.core.errors import Error, FailedPrecondition, Unauthenticated, Unavailable
from tests.fakes.clock import FakeClock

CAPABILITIES = Capabilities(simulated.board(0), "sim", (), (), ())
HERE = Presentation("pi", "10.0.0.2", "", "aarch64", CAPABILITIES, "0.1.0", "10.0.0.2:7450")


class FakeControlPlane:
    def __init__(self) -> None:
        self.registered: list[Presentation] = []
        self.reports: list[list[str]] = []
        self.forgets = False
        self.away = False
        self.refusal: Error | None = None
        self.refused = 0

    async def register(self, presentation: Presentation) -> None:
        if self.away:
            raise Unavailable("away")
        if self.refusal is not None:
            self.refused += 1
            raise self.refusal
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


async def test_run_when_the_version_is_refused_says_so_once_a_minute_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.plane.refusal = FailedPrecondition("agent 0.1 does not work with control plane 0.9", reason="VERSION_SKEW")
    task = await rig.start()
    await rig.clock.advance(59)
    assert rig.plane.refused == 1
    await rig.clock.advance(121)
    assert rig.plane.refused == 4
    told = [record.error for record in caplog.records if record.levelname == "WARNING"]  # type: ignore[attr-defined]  # a field of ours
    assert told == [rig.plane.refusal.message] * 4
    rig.plane.refusal = None
    await rig.clock.advance(60)
    assert (rig.plane.registered, len(rig.plane.reports)) == ([HERE], 1)
    task.cancel()


@pytest.mark.parametrize(
    ("refusal", "remedy"),
    [
        (Unauthenticated("it refuses this node", reason="ROOT_DROPPED", metadata={"try": "pictl join it"}), "pictl join it"),
        (Unauthenticated("the certificate was revoked", reason="PROOF_REVOKED"), "pictl leave; then join again with a fresh token"),
    ],
)
async def test_run_when_the_node_is_shut_out_says_what_to_do_once_a_minute(
    refusal: Error, remedy: str, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig()
    rig.plane.refusal = refusal
    task = await rig.start()
    await rig.clock.advance(119)
    assert rig.plane.refused == 2
    told = [(record.reason, record.error, getattr(record, "try")) for record in caplog.records if record.levelname == "ERROR"]  # type: ignore[attr-defined]  # fields of ours
    assert told == [(refusal.reason, refusal.message, remedy)] * 2
    task.cancel()


async def test_run_when_it_fails_for_another_reason_is_left_to_who_runs_it() -> None:
    rig = Rig()
    rig.plane.refusal = FailedPrecondition("something else", reason="SOMETHING_ELSE")
    with pytest.raises(FailedPrecondition):
        await rig.reporting.run()


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
