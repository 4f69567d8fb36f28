"""What the GPIO manager may rely on in an agent: the board in memory and the real agent behind the real adapter do the same."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from picontroller.core import errors
from picontroller.gpio.boards import Batch, Configure, LineEvent, Operation, Outcome, Position, Read, Release, Write
from picontroller.gpio.resources import Edge, Epoch, Level, Mode, Safe
from tests.contract.gpio.benches import Bench, FakeBench, real_bench

HIGH, LOW = Level.HIGH, Level.LOW
EPOCH = Epoch(1, 1)


@pytest.fixture(params=["fake", "real"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    if request.param == "fake":
        yield FakeBench()
        return
    async with real_bench(tmp_path) as running:
        yield running


def output(bcm: int, value: Level | None = None, safe: Safe = Safe.LOW, epoch: Epoch = EPOCH) -> Operation:
    return Operation(bcm, Configure(Mode.OUTPUT, value, safe, None, None, False, None, 0), epoch)


def button(bcm: int) -> Operation:
    return Operation(bcm, Configure(Mode.INPUT, None, None, None, None, False, Edge.BOTH, 0), EPOCH)


def write(bcm: int, level: Level, epoch: Epoch = EPOCH) -> Operation:
    return Operation(bcm, Write(level), epoch)


async def control(bench: Bench, *operations: Operation) -> list[Outcome]:
    return await bench.agents.control(bench.node, operations, 5)


async def gather(bench: Bench, after: Position | None, enough: Callable[[list[Batch]], bool]) -> list[Batch]:
    """Return batches until there are enough, with the bound of ten seconds."""
    found: list[Batch] = []
    async with asyncio.timeout(10), aclosing(bench.agents.events(bench.node, after)) as batches:
        async for batch in batches:
            found.append(batch)
            if enough(found):
                break
    return found


async def here(bench: Bench) -> Position:
    """Return where the agent's events are now."""
    return (await gather(bench, None, lambda found: True))[0].position


async def events_after(bench: Bench, position: Position, count: int) -> list[LineEvent]:
    batches = await gather(bench, position, lambda found: sum(len(batch.events) for batch in found) >= count)
    return [event for batch in batches for event in batch.events]


async def test_output_when_configured_is_driven_and_read_back(bench: Bench) -> None:
    [outcome] = await control(bench, output(17, HIGH))
    assert (outcome.resolved.bcm, outcome.resolved.header, bool(outcome.resolved.chip)) == (17, 11, True)
    assert outcome.observed is not None
    assert (outcome.observed.level, outcome.observed.time) == (HIGH, bench.clock.now())
    assert bench.level(17) is HIGH


@pytest.mark.parametrize(("safe", "level"), [(Safe.LOW, LOW), (Safe.HIGH, HIGH), (Safe.INPUT, LOW)])
async def test_output_when_configured_without_a_level_is_safe(bench: Bench, safe: Safe, level: Level) -> None:
    await control(bench, output(17, None, safe))
    assert bench.level(17) is level


async def test_batch_when_it_has_many_operations_answers_each_in_order(bench: Bench) -> None:
    await control(bench, output(17), output(18))
    outcomes = await control(bench, write(18, HIGH), write(17, LOW), Operation(18, Read()))
    assert [(o.resolved.bcm, o.observed.level if o.observed else None) for o in outcomes] == [(18, HIGH), (17, LOW), (18, HIGH)]


async def test_line_when_configured_and_written_in_one_batch_ends_as_written(bench: Bench) -> None:
    outcomes = await control(bench, output(17, None, Safe.LOW), write(17, HIGH))
    assert outcomes[-1].observed is not None
    assert (outcomes[-1].observed.level, bench.level(17)) == (HIGH, HIGH)


async def test_batch_when_one_is_wrong_moves_none(bench: Bench) -> None:
    await control(bench, output(17, LOW))
    with pytest.raises(errors.FailedPrecondition) as caught:
        await control(bench, write(17, HIGH), write(18, HIGH))
    assert caught.value.reason == "LINE_NOT_CONFIGURED"
    assert bench.level(17) is LOW


async def test_input_when_written_is_refused(bench: Bench) -> None:
    await control(bench, button(4))
    with pytest.raises(errors.FailedPrecondition) as caught:
        await control(bench, write(4, HIGH))
    assert caught.value.reason == "NOT_AN_OUTPUT"


async def test_line_when_the_epoch_is_lower_is_fenced(bench: Bench) -> None:
    await control(bench, output(17, LOW, epoch=Epoch(2, 5)))
    for stale in (Epoch(2, 4), Epoch(1, 9)):
        with pytest.raises(errors.Conflict) as caught:
            await control(bench, write(17, HIGH, stale))
        assert caught.value.reason == "EPOCH_STALE"
    await control(bench, write(17, HIGH, Epoch(2, 5)))
    with pytest.raises(errors.Conflict):
        await control(bench, Operation(17, Release(), Epoch(2, 4)))
    assert bench.level(17) is HIGH


async def test_line_when_released_is_safe_and_may_be_released_again(bench: Bench) -> None:
    await control(bench, output(17, HIGH, Safe.INPUT))
    for _ in range(2):
        [outcome] = await control(bench, Operation(17, Release(), EPOCH))
        assert outcome.observed is None
    assert bench.level(17) is LOW
    with pytest.raises(errors.FailedPrecondition):
        await control(bench, Operation(17, Read()))


async def test_stream_when_opened_tells_at_once_where_it_is(bench: Bench) -> None:
    before = await here(bench)
    await control(bench, output(17, LOW), output(18, LOW))
    after = await here(bench)
    assert (before.run_id, before.sequence, after.sequence) == (after.run_id, 0, 2)
    assert before.run_id == (await bench.agents.health(bench.node, 15)).run_id


async def test_stream_when_begun_before_the_first_event_misses_nothing(bench: Bench) -> None:
    position = await here(bench)
    assert position.sequence == 0
    await control(bench, output(17, HIGH))
    await control(bench, write(17, LOW))
    events = await events_after(bench, position, 2)
    assert [(e.sequence, e.bcm, e.header, e.level, e.cause) for e in events] == [
        (1, 17, 11, HIGH, "configure"),
        (2, 17, 11, LOW, "write"),
    ]


async def test_stream_when_resumed_goes_on_after_its_position(bench: Bench) -> None:
    await control(bench, output(17, HIGH))
    position = await here(bench)
    await control(bench, write(17, LOW))
    await control(bench, write(17, HIGH))
    batches = await gather(bench, position, lambda found: sum(len(b.events) for b in found) >= 2)
    assert [e.sequence for b in batches for e in b.events] == [2, 3]
    assert (batches[-1].position, sum(b.lost for b in batches)) == (Position(position.run_id, 3), 0)


async def test_stream_when_resumed_beyond_the_end_is_out_of_range(bench: Bench) -> None:
    position = await here(bench)
    with pytest.raises(errors.OutOfRange):
        await gather(bench, Position(position.run_id, 99), lambda found: False)


async def test_stream_when_a_level_is_written_again_tells_nothing(bench: Bench) -> None:
    await control(bench, output(17, HIGH))
    await control(bench, write(17, HIGH))
    assert (await here(bench)).sequence == 1


async def test_edge_when_it_happens_is_told(bench: Bench) -> None:
    await control(bench, button(27))
    position = await here(bench)
    await bench.drive(27, HIGH)
    await bench.drive(27, LOW)
    events = await events_after(bench, position, 2)
    assert [(e.bcm, e.level, e.cause, e.time) for e in events] == [
        (27, HIGH, "edge", bench.clock.now()),
        (27, LOW, "edge", bench.clock.now()),
    ]


async def test_restart_when_outputs_were_driven_makes_them_safe_in_a_new_run(bench: Bench) -> None:
    await control(bench, output(17, HIGH, Safe.LOW), button(4))
    before = await here(bench)
    await bench.restart()
    assert bench.level(17) is LOW
    assert (await bench.agents.health(bench.node, 15)).run_id != before.run_id
    [event] = await events_after(bench, before, 1)
    assert (event.bcm, event.level, event.cause) == (17, LOW, "safe")
    with pytest.raises(errors.FailedPrecondition):
        await control(bench, Operation(4, Read()))


async def test_restart_when_epochs_were_seen_does_not_forget_them(bench: Bench) -> None:
    await control(bench, output(17, HIGH, epoch=Epoch(3, 7)))
    await bench.restart()
    with pytest.raises(errors.Conflict):
        await control(bench, output(17, HIGH, epoch=Epoch(3, 6)))
    await control(bench, output(17, HIGH, epoch=Epoch(3, 8)))


async def test_silence_when_too_long_makes_outputs_safe_until_written(bench: Bench) -> None:
    assert not (await bench.agents.health(bench.node, 15)).safe_by_silence
    await control(bench, output(17, HIGH, Safe.LOW))
    await bench.fall_silent()
    assert bench.level(17) is LOW
    assert (await bench.agents.health(bench.node, 15)).safe_by_silence
    await control(bench, write(17, HIGH))
    assert not (await bench.agents.health(bench.node, 15)).safe_by_silence
    assert bench.level(17) is HIGH


async def test_agent_when_away_is_an_offline_node(bench: Bench) -> None:
    await bench.go_away()
    for attempt in (
        lambda: control(bench, Operation(17, Read())),
        lambda: bench.agents.health(bench.node, 15),
        lambda: gather(bench, None, lambda found: True),
    ):
        with pytest.raises(errors.Unavailable) as caught:
            await attempt()
        assert (caught.value.reason, caught.value.metadata) == ("NODE_OFFLINE", {"node_id": bench.node.id})
