"""Batches of operations: order, read-back, what is refused, and taking back."""

from dataclasses import replace

import pytest

from picontroller.agent.gpio.drivers import Direction
from picontroller.agent.gpio.operations import Epoch, Operation, Write
from picontroller.agent.gpio.pins import Bias, Cause, Drive, Edge, PinRef, SafeState
from picontroller.core import errors
from tests.unit.agent_gpio.bench import HIGH, LOW, bench, inp, out, read, release, write


async def test_output_when_configured_without_value_begins_at_its_safe_state() -> None:
    async with bench() as b:
        await b.do(out(5, safe=SafeState.LOW), out(6, safe=SafeState.HIGH), out(12, safe=SafeState.INPUT))
        assert b.state() == {5: (Direction.OUTPUT, LOW), 6: (Direction.OUTPUT, HIGH), 12: (Direction.INPUT, LOW)}


async def test_output_when_safe_is_input_drives_with_the_first_write() -> None:
    async with bench() as b:
        await b.do(out(12))
        assert await b.do(write(12, HIGH)) == [HIGH]
        assert b.board.direction(12) is Direction.OUTPUT


async def test_operations_when_on_one_line_see_each_other_in_order() -> None:
    async with bench() as b:
        assert await b.do(out(5, LOW), read(5), write(5, HIGH), read(5), write(5, LOW), read(5)) == [LOW, LOW, HIGH, HIGH, LOW, LOW]


async def test_writes_when_together_are_driven_before_any_is_read_back() -> None:
    async with bench() as b:
        await b.do(*(out(bcm, LOW) for bcm in (5, 6, 12)))
        seen: list[str] = []
        original_set, original_get = b.board.set, b.board.get
        b.board.set = lambda levels: (seen.append(f"set {sorted(levels)}"), original_set(levels))[1]  # type: ignore[method-assign]  # watched
        b.board.get = lambda bcms: (seen.append(f"get {sorted(bcms)}"), original_get(bcms))[1]  # type: ignore[method-assign]  # watched
        await b.do(*(write(bcm, HIGH) for bcm in (5, 6, 12)))
        assert seen == ["set [5, 6, 12]", "get [5, 6, 12]"]


async def test_read_back_when_the_wire_is_held_elsewhere_tells_the_truth() -> None:
    async with bench() as b:
        b.board.drive(5, LOW)
        assert await b.do(out(5, HIGH, drive=Drive.OPEN_DRAIN)) == [LOW]


async def test_active_low_output_when_written_high_is_physically_low() -> None:
    async with bench() as b:
        assert await b.do(out(5, HIGH, active_low=True)) == [HIGH]
        assert b.board.level(5) is LOW


async def test_line_when_turned_into_an_input_stops_driving_and_is_forgotten_as_an_output() -> None:
    async with bench() as b:
        await b.do(out(5, HIGH))
        await b.do(inp(5, bias=Bias.PULL_DOWN))
        assert b.state() == {5: (Direction.INPUT, LOW)}
        assert not b.memory.current.outputs
        with pytest.raises(errors.FailedPrecondition, match="GPIO5 is an input"):
            await b.do(write(5, HIGH))


@pytest.mark.parametrize(("safe", "direction", "level"), [(SafeState.INPUT, Direction.INPUT, LOW), (SafeState.LOW, Direction.OUTPUT, LOW)])
async def test_output_when_released_has_taken_its_safe_state(safe: SafeState, direction: Direction, level: int) -> None:
    async with bench() as b:
        await b.do(out(12, HIGH, safe=safe))
        await b.do(release(12))
        assert (b.board.direction(12), b.board.level(12)) == (direction, level)
        assert not b.board.held
        assert b.lines.in_use == 0
        assert not b.memory.current.outputs


async def test_line_when_released_and_configured_in_one_batch_is_in_use() -> None:
    async with bench() as b:
        await b.do(out(5, HIGH))
        assert await b.do(release(5), out(5, LOW), write(5, HIGH)) == [None, LOW, HIGH]
        assert b.state() == {5: (Direction.OUTPUT, HIGH)}


async def test_line_when_configured_and_released_in_one_batch_is_free() -> None:
    async with bench() as b:
        assert await b.do(out(5, HIGH), release(5), release(5)) == [HIGH, None, None]
        assert b.state() == {}
        assert b.lines.in_use == 0


@pytest.mark.parametrize(
    ("operation", "kind", "reason"),
    [
        (read(5), errors.FailedPrecondition, "LINE_NOT_CONFIGURED"),
        (write(5, HIGH), errors.FailedPrecondition, "LINE_NOT_CONFIGURED"),
        (Operation(PinRef("bcm", 5), Write(HIGH)), errors.InvalidArgument, "EPOCH_MISSING"),
        (out(2, HIGH), errors.FailedPrecondition, "PIN_RESERVED"),
        (inp(5, edge=Edge.BOTH, value=HIGH), errors.InvalidArgument, "SETTINGS_CONTRADICT"),
        (out(5, debounce_us=10), errors.InvalidArgument, "SETTINGS_CONTRADICT"),
    ],
)
async def test_batch_when_its_last_operation_is_wrong_leaves_no_trace(operation: Operation, kind: type[errors.Error], reason: str) -> None:
    async with bench(reserved={2: "I2C1 in use"}) as b:
        with pytest.raises(kind) as caught:
            await b.do(out(6, HIGH), operation)
        assert caught.value.reason == reason
        assert caught.value.metadata["operation"] == "1"
        assert (b.state(), b.memory.saves, b.events.newest, b.board.operations) == ({}, [], 0, 0)


@pytest.mark.parametrize("failing", range(1, 11))
async def test_batch_when_any_step_fails_is_taken_back_whole(failing: int) -> None:
    async with bench() as b:
        await b.do(out(5, LOW), out(6, HIGH, safe=SafeState.LOW), inp(12, bias=Bias.PULL_UP), out(13))
        state, outputs, newest = b.state(), b.memory.current.outputs, b.events.newest
        batch = [write(5, HIGH), write(6, LOW), out(12, LOW), write(13, HIGH), out(16, HIGH), release(6)]
        b.board.fail(failing)
        with pytest.raises(errors.Unavailable):
            await b.do(*batch)
        assert b.state() == state
        assert b.memory.current.outputs == outputs
        assert b.events.newest == newest
        assert b.lines.in_use == 4
        assert b.lines.problems() == []
        b.board.mend()
        assert await b.do(*batch) == [HIGH, LOW, LOW, HIGH, HIGH, None]


async def test_line_when_it_can_not_be_put_back_goes_safe_and_says_so() -> None:
    async with bench() as b:
        await b.do(out(5, LOW, safe=SafeState.HIGH), out(6, LOW))
        b.board.fail(2)  # writing 6
        b.board.fail(4)  # putting 5 back
        with pytest.raises(errors.Unavailable):
            await b.do(write(5, HIGH), write(6, HIGH))
        assert b.state() == {5: (Direction.OUTPUT, HIGH), 6: (Direction.OUTPUT, LOW)}
        last = (await b.happened())[-1]
        assert (last.pin.bcm, last.cause, last.level) == (5, Cause.SAFE, HIGH)


async def test_line_when_not_even_safety_works_is_a_problem_until_it_is_reclaimed() -> None:
    async with bench() as b:
        await b.do(out(5, LOW, safe=SafeState.HIGH), out(6, LOW))
        for nth in (2, 4, 5):  # writing 6, putting 5 back, making 5 safe
            b.board.fail(nth)
        with pytest.raises(errors.Unavailable):
            await b.do(write(5, HIGH), write(6, HIGH))
        assert [problem.split(":")[0] for problem in b.lines.problems()] == ["LINE_NOT_HELD"]
        with pytest.raises(errors.FailedPrecondition):
            await b.do(read(5))
        await b.lines.reclaim()
        assert b.lines.problems() == []
        assert b.state()[5] == (Direction.OUTPUT, HIGH)


async def test_epoch_when_seen_fences_lower_ones_also_after_release() -> None:
    async with bench() as b:
        await b.do(out(5, LOW, epoch=Epoch(2, 5)))
        await b.do(release(5, Epoch(2, 6)))
        for stale in (Epoch(2, 5), Epoch(1, 99)):
            with pytest.raises(errors.Conflict) as caught:
                await b.do(out(5, HIGH, epoch=stale))
            assert caught.value.metadata["epoch"] == "2.6"
        await b.do(out(5, HIGH, epoch=Epoch(3, 0)))
        assert b.memory.current.epochs == {5: Epoch(3, 0)}


async def test_epoch_when_raised_within_a_batch_counts_within_it() -> None:
    async with bench() as b:
        with pytest.raises(errors.Conflict):
            await b.do(out(5, LOW, epoch=Epoch(2, 0)), write(5, HIGH, Epoch(1, 0)))
        assert b.memory.current.epochs == {}


async def test_epoch_when_the_hardware_fails_stays_in_force() -> None:
    async with bench() as b:
        await b.do(out(5, LOW))
        b.board.fail(1)
        with pytest.raises(errors.Unavailable):
            await b.do(write(5, HIGH, Epoch(2, 0)))
        with pytest.raises(errors.Conflict):
            await b.do(write(5, HIGH, Epoch(1, 9)))


async def test_output_when_it_can_not_be_remembered_is_not_driven() -> None:
    async with bench() as b:
        await b.do(out(5, LOW))
        b.memory.full = True
        with pytest.raises(errors.QuotaExceeded):
            await b.do(out(6, HIGH))
        assert b.state() == {5: (Direction.OUTPUT, LOW)}
        assert await b.do(write(5, HIGH)) == [HIGH]  # a known output needs no disk


async def test_output_when_first_driven_is_remembered_before() -> None:
    async with bench() as b:
        remembered: list[bool] = []
        original = b.board.request
        b.board.request = lambda bcm, settings: (remembered.append(bcm in b.memory.current.outputs), original(bcm, settings))[1]  # type: ignore[method-assign]  # watched
        await b.do(out(5, HIGH), out(6))
        assert remembered == [True, True]


async def test_events_when_lines_change_tell_cause_and_level_and_only_changes() -> None:
    async with bench() as b:
        await b.do(out(5, LOW), write(5, HIGH), write(5, HIGH), inp(6))
        await b.do(release(5))
        seen = [(h.pin.bcm, h.cause, h.level) for h in await b.happened()]
        assert seen == [
            (5, Cause.CONFIGURE, LOW),
            (5, Cause.WRITE, HIGH),
            (6, Cause.CONFIGURE, HIGH),
            (5, Cause.SAFE, HIGH),  # undriven, where the board pulls it up
        ]


async def test_lines_when_stopped_are_safe_and_refuse_batches() -> None:
    async with bench() as b:
        await b.do(out(12, HIGH), out(13, HIGH, safe=SafeState.HOLD))
        await b.lines.stop()
        assert b.state() == {12: (Direction.INPUT, LOW), 13: (Direction.OUTPUT, HIGH)}
        with pytest.raises(errors.Unavailable) as caught:
            await b.do(write(12, HIGH))
        assert caught.value.reason == "STOPPING"


async def test_survey_when_asked_tells_what_stands_in_the_way() -> None:
    async with bench(reserved={14: "console"}) as b:
        b.board.claim(4, "w1")
        await b.do(out(5))
        found = {pin.bcm: use for pin, use in await b.lines.survey() if use}
        assert found == {0: "ID EEPROM", 1: "ID EEPROM", 4: "claimed by w1", 14: "console"}


async def test_pin_when_resolved_tells_all_of_it() -> None:
    async with bench() as b:
        pin = (await b.lines.control([out(17)]))[0].pin
        assert replace(pin, kernel_name="") == replace(b.header.pin(17), kernel_name="")
        assert (pin.bcm, pin.header, pin.chip, pin.line) == (17, 11, "pinctrl-bcm2711", 17)
