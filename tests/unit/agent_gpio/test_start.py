"""Starting over: known outputs take their safe states first of all, whatever the kernel made of them meanwhile."""

import pytest

from picontroller.agent.gpio.drivers import Direction
from picontroller.agent.gpio.drivers.sim import SimDriver
from picontroller.agent.gpio.drivers.simulation import Simulation
from picontroller.agent.gpio.operations import Epoch
from picontroller.agent.gpio.pins import Cause, Drive, SafeState
from picontroller.core import errors
from tests.fakes.clock import FakeClock
from tests.fakes.lines_memory import FakeMemory
from tests.unit.agent_gpio.bench import HIGH, LOW, bench, crash, out, read, release, write

SAFE = {5: SafeState.LOW, 6: SafeState.HIGH, 12: SafeState.INPUT, 13: SafeState.HOLD}


async def left_behind(memory: FakeMemory) -> SimDriver:
    """Return a driver whose board an agent left all outputs of SAFE high, or low where high is safe, and died."""
    driver = SimDriver(Simulation(), FakeClock())
    async with bench(memory=memory, driver=driver) as b:
        await b.do(*(out(bcm, LOW if safe is SafeState.HIGH else HIGH, safe=safe) for bcm, safe in SAFE.items()))
        crash(driver)
        fresh = SimDriver(Simulation(), FakeClock())
        fresh.board._wiring = driver.board._wiring
    return fresh


async def test_known_outputs_when_the_agent_starts_take_their_safe_states() -> None:
    memory = FakeMemory()
    driver = await left_behind(memory)
    assert driver.board.level(5) is HIGH  # a released line goes on driving on Raspberry Pi kernels
    async with bench(memory=memory, driver=driver) as b:
        assert b.state() == {
            5: (Direction.OUTPUT, LOW),
            6: (Direction.OUTPUT, HIGH),
            12: (Direction.INPUT, LOW),
            13: (Direction.OUTPUT, HIGH),
        }
        assert {(h.pin.bcm, h.cause) for h in await b.happened()} == {(bcm, Cause.SAFE) for bcm in SAFE}
        assert b.lines.in_use == 4
        assert b.lines.problems() == []


async def test_known_output_when_written_after_a_start_moves() -> None:
    memory = FakeMemory()
    driver = await left_behind(memory)
    async with bench(memory=memory, driver=driver) as b:
        assert await b.do(write(5, HIGH), write(12, HIGH), write(13, LOW)) == [HIGH, HIGH, LOW]


async def test_held_output_when_a_batch_fails_after_a_start_is_put_back_as_found() -> None:
    memory = FakeMemory()
    driver = await left_behind(memory)
    async with bench(memory=memory, driver=driver) as b:
        b.board.fail(3)  # reading back what was found, driving 13, reading it back
        with pytest.raises(errors.Unavailable):
            await b.do(write(13, LOW))
        assert b.state()[13] == (Direction.OUTPUT, HIGH)


async def test_epochs_when_the_agent_starts_are_still_in_force() -> None:
    memory = FakeMemory()
    async with bench(memory=memory) as b:
        await b.do(out(5, HIGH, epoch=Epoch(4, 2)))
        await b.do(out(6, HIGH, epoch=Epoch(4, 3)), release(6, Epoch(4, 3)))
    async with bench(memory=memory) as b:
        for bcm in (5, 6):
            with pytest.raises(errors.Conflict):
                await b.do(out(bcm, HIGH, epoch=Epoch(4, 1)))


async def test_settings_when_the_agent_starts_are_those_of_before() -> None:
    memory = FakeMemory()
    async with bench(memory=memory) as b:
        await b.do(out(5, HIGH, safe=SafeState.LOW, active_low=True, drive=Drive.OPEN_DRAIN))
    async with bench(memory=memory) as b:
        assert b.board.level(5) is HIGH  # LOW is logical: not active
        assert await b.do(write(5, HIGH)) == [HIGH]
        assert b.board.level(5) is LOW


async def test_known_output_when_somebody_else_has_it_is_a_problem_until_it_is_free() -> None:
    memory = FakeMemory()
    async with bench(memory=memory) as b:
        await b.do(out(5, HIGH, safe=SafeState.LOW), out(6, LOW))
    async with bench(Simulation(claimed={5: "w1"}), memory=memory) as b:
        assert "GPIO5" in b.lines.problems()[0]
        assert b.lines.problems()[0].startswith("LINE_NOT_HELD: ")
        assert 6 in b.board.held
        with pytest.raises(errors.FailedPrecondition):
            await b.do(read(5))
        b.board.claim(5, None)
        await b.lines.reclaim()
        assert b.lines.problems() == []
        assert b.state()[5] == (Direction.OUTPUT, LOW)


async def test_known_output_when_not_held_may_be_written_once_it_is_free() -> None:
    memory = FakeMemory()
    async with bench(memory=memory) as b:
        await b.do(out(5, HIGH))
    async with bench(Simulation(claimed={5: "w1"}), memory=memory) as b:
        with pytest.raises(errors.FailedPrecondition) as caught:
            await b.do(write(5, HIGH))
        assert caught.value.reason == "LINE_BUSY"
        b.board.claim(5, None)
        assert await b.do(write(5, HIGH)) == [HIGH]
        assert b.lines.problems() == []


async def test_memory_when_damaged_is_a_problem_and_no_obstacle() -> None:
    memory = FakeMemory()
    memory.damaged = True
    async with bench(memory=memory) as b:
        assert b.lines.problems() == ["LINES_DAMAGED: rubbish"]
        assert await b.do(out(5, HIGH)) == [HIGH]


async def test_outputs_when_made_safe_move_once_and_each_for_itself() -> None:
    async with bench() as b:
        await b.do(*(out(bcm, LOW if safe is SafeState.HIGH else HIGH, safe=safe) for bcm, safe in SAFE.items()))
        b.board.fail(1)  # making 5 safe; it is let go and taken again
        assert await b.lines.make_safe("a test") == 2
        assert b.lines.problems() == []
        assert b.state() == {
            5: (Direction.OUTPUT, LOW),
            6: (Direction.OUTPUT, HIGH),
            12: (Direction.INPUT, LOW),
            13: (Direction.OUTPUT, HIGH),
        }
        assert await b.lines.make_safe("a test") == 0
