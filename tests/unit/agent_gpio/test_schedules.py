"""Random schedules of batches, failures, crashes and silences against a model: batches stay whole, and whatever is driven is known."""

import asyncio
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from picontroller.agent.gpio.drivers import Direction
from picontroller.agent.gpio.drivers.sim import SimDriver
from picontroller.agent.gpio.drivers.simulation import Simulation
from picontroller.agent.gpio.operations import Configure, Epoch, Operation, Read, Release, Write
from picontroller.agent.gpio.pins import Level, Mode, PinRef, SafeState
from picontroller.core.errors import Error, Unavailable
from tests.fakes.clock import FakeClock
from tests.fakes.lines_memory import FakeMemory
from tests.unit.agent_gpio.bench import Bench, bench, crash

PINS = (5, 6, 12, 13)
BUSY = 12
LEVELS = {SafeState.LOW: Level.LOW, SafeState.HIGH: Level.HIGH}


@dataclass(frozen=True)
class Expected:
    """What a line should be. ``level`` None: an output that is not driven, or an input."""

    mode: Mode
    safe: SafeState = SafeState.INPUT
    level: Level | None = None

    def at_safe(self) -> "Expected":
        if self.mode is Mode.INPUT or self.safe is SafeState.HOLD:
            return self
        return replace(self, level=LEVELS.get(self.safe))


Model = dict[int, Expected]

levels = st.sampled_from(Level)
configurations = st.builds(
    Configure, st.just(Mode.OUTPUT), levels, st.sampled_from([SafeState.LOW, SafeState.HIGH, SafeState.INPUT, SafeState.HOLD])
) | st.just(Configure(Mode.INPUT))
undriven = st.builds(Configure, st.just(Mode.OUTPUT), st.none(), st.sampled_from([SafeState.LOW, SafeState.HIGH, SafeState.INPUT]))
actions = st.one_of(configurations, undriven, st.builds(Write, levels), st.builds(Write, levels), st.just(Read()), st.just(Release()))
operations = st.builds(
    lambda bcm, action, counter: Operation(PinRef("bcm", bcm), action, Epoch(1, counter)),
    st.sampled_from(PINS),
    actions,
    st.sampled_from([5, 5, 5, 5, 6, 4]),
)


@dataclass(frozen=True)
class Batch:
    operations: list[Operation]
    fails_at: int | None
    disk_full: bool
    line_busy: bool


batches = st.builds(
    Batch,
    st.lists(operations, min_size=1, max_size=6),
    st.none() | st.integers(1, 14),
    st.sampled_from([False] * 5 + [True]),
    st.booleans(),
)
schedules = st.lists(batches | st.sampled_from(["silence", "crash"]), min_size=1, max_size=12)


def applied(model: Model, batch: list[Operation]) -> Model:
    """Return what a batch that succeeds makes of the model."""
    after = dict(model)
    for operation in batch:
        bcm, action = int(operation.pin.value), operation.action
        if isinstance(action, Configure):
            wanted = Expected(action.mode, action.safe, action.value)
            after[bcm] = wanted if action.value is not None or action.mode is Mode.INPUT else wanted.at_safe()
        elif isinstance(action, Write):
            after[bcm] = replace(after[bcm], level=action.value)
        elif isinstance(action, Release):
            after.pop(bcm, None)
    return after


def check(b: Bench, model: Model, *, exact: bool = True) -> None:
    """Compare the board, and what is remembered of it, with the model. Unless ``exact``, an output too many may be remembered."""
    assert b.board.held == frozenset(model)
    for bcm, expected in model.items():
        driven = expected.mode is Mode.OUTPUT and expected.level is not None
        assert (b.board.direction(bcm) is Direction.OUTPUT) == driven
        if driven:
            assert b.board.level(bcm) is expected.level
    outputs = {bcm: expected.safe for bcm, expected in model.items() if expected.mode is Mode.OUTPUT}
    remembered = {bcm: line.safe for bcm, line in b.memory.current.outputs.items()}
    assert outputs.items() <= remembered.items()
    assert not exact or outputs == remembered
    assert b.lines.in_use == len(model)
    assert b.lines.problems() == []


async def run_batch(b: Bench, batch: Batch, model: Model, epochs: dict[int, Epoch]) -> Model:
    b.memory.full = batch.disk_full
    if batch.line_busy and BUSY not in model:
        b.board.claim(BUSY, "somebody")
    elif batch.fails_at is not None:  # one failure a batch: with a second one while it is taken back, nothing can be promised
        b.board.fail(batch.fails_at)
    newest = b.events.newest
    stale = any(o.epoch < epochs.get(int(o.pin.value), Epoch(0, 0)) for o in batch.operations if o.epoch and not isinstance(o.action, Read))
    try:
        results = await b.lines.control(batch.operations)
    except Error:
        assert b.events.newest == newest
    else:
        assert not stale
        model = applied(model, batch.operations)
        assert len(results) == len(batch.operations)
        for operation, result in zip(batch.operations, results, strict=True):
            assert (result.level is None) == isinstance(operation.action, Release)
            if isinstance(operation.action, Write):
                assert result.level is operation.action.value
    finally:
        b.board.mend()
        b.board.claim(BUSY, None)
        b.memory.full = False
    return model


def found_again(driver: SimDriver, bcm: int, safe: SafeState) -> Expected:
    """Return how an output will be after the start of an agent that remembers it."""
    left = driver.board.level(bcm) if driver.board.direction(bcm) is Direction.OUTPUT else None
    return Expected(Mode.OUTPUT, safe, left).at_safe()


async def run_schedule(schedule: list[Batch | str]) -> None:
    memory, driver, model = FakeMemory(), SimDriver(Simulation(), FakeClock()), Model()
    remaining, exact = list(schedule), True
    while remaining:
        async with bench(memory=memory, driver=driver) as b:
            check(b, model, exact=exact)
            while remaining:
                step = remaining.pop(0)
                if step == "silence":
                    await b.lines.make_safe("silence")
                    model = {bcm: expected.at_safe() for bcm, expected in model.items()}
                elif isinstance(step, Batch):
                    before = model
                    model = await run_batch(b, step, model, dict(memory.current.epochs))
                    exact = not step.disk_full if model != before else exact and not step.disk_full
                else:
                    break
                check(b, model, exact=exact)
            crash(driver)
            reborn = SimDriver(Simulation(), FakeClock())
            reborn.board._wiring = driver.board._wiring
        driver, exact, model = reborn, True, {bcm: found_again(reborn, bcm, line.safe) for bcm, line in memory.current.outputs.items()}


@settings(max_examples=150, deadline=None)
@given(schedules)
def test_schedule_when_random_keeps_batches_whole_and_outputs_known(schedule: list[Batch | str]) -> None:
    asyncio.run(run_schedule(schedule))


def test_model_when_wrong_is_noticed() -> None:
    async def wrong() -> None:
        async with bench() as b:
            await b.lines.control([Operation(PinRef("bcm", 5), Configure(Mode.OUTPUT, Level.HIGH), Epoch(1, 1))])
            check(b, {5: Expected(Mode.OUTPUT, SafeState.INPUT, Level.LOW)})

    try:
        asyncio.run(wrong())
    except AssertionError:
        return
    raise Unavailable("the check let a wrong level pass")
