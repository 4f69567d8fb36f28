"""HealthCheck over the wire, and what the manager's silence does to outputs."""

from pathlib import Path

import pytest
from google.protobuf import duration_pb2

from picontroller.agent.gpio import pins
from picontroller.agent.gpio.drivers.simulation import Simulation
from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.core.version import version
from picontroller.v1 import agent_pb2 as v1
from tests.fakes.clock import FakeClock
from tests.rpc.agent.world import Level, SafeState, World, configure, read, world, write

HIGH, LOW = pins.Level.HIGH, pins.Level.LOW


async def health(agent: World, caller: str = "svc/gpio", ttl: int | None = None) -> v1.HealthStatus:
    request = v1.HealthCheckRequest(manager_ttl=duration_pb2.Duration(seconds=ttl) if ttl else None)
    status: v1.HealthStatus = await rpc.unary(agent.stub(caller).HealthCheck, request)
    return status


async def test_health_when_all_is_well_says_so(tmp_path: Path) -> None:
    async with world(tmp_path) as agent:
        await agent.control(configure(17), configure(27))
        status = await health(agent)
        assert (status.healthy, list(status.problems), status.lines_in_use, status.safe_by_silence) == (True, [], 2, False)
        assert (status.run_id, status.agent_version) == (agent.panel.events.run_id, version())


async def test_health_when_something_is_wrong_names_it_once(tmp_path: Path) -> None:
    async with world(tmp_path) as agent:
        await agent.control(configure(17, value=Level.HIGH))
    async with world(tmp_path, Simulation(claimed={17: "w1"})) as agent:
        agent.health.lines = ["CLOCK_UNSYNCED: it is 1970", *agent.panel.problems()]
        status = await health(agent)
        assert not status.healthy
        assert [problem.split(":")[0] for problem in status.problems] == ["CLOCK_UNSYNCED", "LINE_NOT_HELD"]


async def test_silence_when_it_lasts_15_seconds_makes_outputs_safe(tmp_path: Path) -> None:
    clock = FakeClock()
    async with world(tmp_path, clock=clock) as agent:
        await agent.control(configure(17, value=Level.HIGH, safe=SafeState.LOW))
        await clock.advance(14.9)
        assert agent.driver.board.level(17) is HIGH
        await clock.advance(0.2)
        assert agent.driver.board.level(17) is LOW
        status = await health(agent)
        assert status.safe_by_silence
        assert status.problems[0].startswith("SAFE_BY_SILENCE: ")


async def test_silence_when_the_manager_speaks_is_over_but_only_a_write_moves_outputs(tmp_path: Path) -> None:
    clock = FakeClock()
    async with world(tmp_path, clock=clock) as agent:
        await agent.control(configure(17, value=Level.HIGH, safe=SafeState.LOW))
        await clock.advance(16)
        await health(agent)
        await agent.control(read(17))
        assert (await health(agent)).safe_by_silence
        await agent.control(write(17, Level.HIGH))
        assert not (await health(agent)).safe_by_silence
        assert agent.driver.board.level(17) is HIGH


async def test_time_to_live_when_the_manager_sets_it_holds(tmp_path: Path) -> None:
    clock = FakeClock()
    async with world(tmp_path, clock=clock) as agent:
        await agent.control(configure(17, value=Level.HIGH, safe=SafeState.LOW))
        await health(agent, ttl=60)
        await clock.advance(59)
        assert agent.driver.board.level(17) is HIGH
        await clock.advance(2)
        assert agent.driver.board.level(17) is LOW


async def test_sign_of_life_when_of_another_service_counts_for_nothing(tmp_path: Path) -> None:
    clock = FakeClock()
    async with world(tmp_path, clock=clock) as agent:
        await agent.control(configure(17, value=Level.HIGH, safe=SafeState.LOW))
        for _ in range(4):
            await clock.advance(4)
            await health(agent, "svc/discovery", ttl=3600)
        assert agent.driver.board.level(17) is LOW


@pytest.mark.parametrize("seconds", [1, 3601])
async def test_time_to_live_when_out_of_bounds_is_invalid(tmp_path: Path, seconds: int) -> None:
    async with world(tmp_path) as agent:
        with pytest.raises(errors.InvalidArgument) as caught:
            await health(agent, ttl=seconds)
        assert caught.value.violations[0].field == "manager_ttl"


async def test_outputs_when_the_agent_stops_are_safe_before_it_is_gone(tmp_path: Path) -> None:
    async with world(tmp_path) as agent:
        await agent.control(configure(17, value=Level.HIGH, safe=SafeState.LOW), configure(27, value=Level.HIGH))
        board = agent.driver.board
    assert (board.level(17), board.level(27)) == (LOW, LOW)


async def test_restart_when_outputs_are_known_makes_them_safe_and_keeps_epochs(tmp_path: Path) -> None:
    async with world(tmp_path) as agent:
        await agent.control(configure(17, value=Level.LOW, safe=SafeState.HIGH))
    async with world(tmp_path) as agent:
        assert agent.driver.board.level(17) is HIGH
        status = await health(agent)
        assert (status.lines_in_use, status.safe_by_silence) == (1, False)
        answer = await agent.control(write(17, Level.LOW))
        assert answer.results[0].observed.value == Level.LOW


async def test_memory_when_damaged_is_kept_aside_and_told(tmp_path: Path) -> None:
    (tmp_path / "lines.json").write_text('{"version": 1, "outputs": {"17"')
    async with world(tmp_path) as agent:
        assert [problem.split(":")[0] for problem in (await health(agent)).problems] == ["LINES_DAMAGED"]
        await agent.control(configure(17, value=Level.HIGH))
    assert (tmp_path / "lines.json.damaged").exists()
    async with world(tmp_path) as agent:
        assert (await health(agent)).healthy
