"""The manager's silence: when outputs go safe, how often, and what ends it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from picontroller.agent.gpio.pins import SafeState
from picontroller.agent.gpio.silence import Silence
from picontroller.core.tasks import cancel_and_wait
from tests.unit.agent_gpio.bench import HIGH, LOW, Bench, bench, out, write


@asynccontextmanager
async def watched() -> AsyncIterator[tuple[Bench, Silence]]:
    """Yield a bench with one output driven high, and the watch over it."""
    async with bench() as b:
        await b.do(out(5, HIGH, safe=SafeState.LOW))
        silence = Silence(b.lines, b.clock)
        task = asyncio.create_task(silence.run())
        try:
            yield b, silence
        finally:
            await cancel_and_wait(task)


async def test_outputs_when_the_manager_never_speaks_go_safe_after_15_seconds() -> None:
    async with watched() as (b, silence):
        await b.clock.advance(14.9)
        assert (b.board.level(5), silence.safe) == (HIGH, False)
        await b.clock.advance(0.1)
        assert (b.board.level(5), silence.safe) == (LOW, True)


async def test_outputs_when_the_manager_speaks_in_time_stay() -> None:
    async with watched() as (b, silence):
        for _ in range(10):
            await b.clock.advance(14.0)
            silence.heard()
        assert (b.board.level(5), silence.safe) == (HIGH, False)


async def test_time_to_live_when_shortened_counts_at_once() -> None:
    async with watched() as (b, silence):
        await b.clock.advance(3.5)
        silence.heard(2.0)
        await b.clock.advance(1.9)
        assert b.board.level(5) is HIGH
        await b.clock.advance(0.1)
        assert b.board.level(5) is LOW


async def test_time_to_live_when_lengthened_holds_for_the_next_silence() -> None:
    async with watched() as (b, silence):
        silence.heard(60.0)
        await b.clock.advance(59.9)
        assert b.board.level(5) is HIGH
        silence.heard()
        await b.clock.advance(59.9)
        assert b.board.level(5) is HIGH
        await b.clock.advance(0.1)
        assert b.board.level(5) is LOW


async def test_outputs_when_the_manager_returns_stay_safe_until_it_writes() -> None:
    async with watched() as (b, silence):
        await b.clock.advance(15.0)
        silence.heard()
        await b.clock.advance(2.0)
        assert (b.board.level(5), silence.safe) == (LOW, True)
        await b.do(write(5, HIGH))
        silence.written()
        await b.clock.advance(2.0)
        assert (b.board.level(5), silence.safe) == (HIGH, False)
        await b.clock.advance(15.0)
        assert (b.board.level(5), silence.safe) == (LOW, True)


async def test_silence_when_it_lasts_moves_outputs_once() -> None:
    async with watched() as (b, _):
        await b.clock.advance(15.0)
        newest = b.events.newest
        await b.clock.advance(600.0)
        assert b.events.newest == newest


async def test_silence_when_nothing_had_to_move_is_not_called_safe() -> None:
    async with bench() as b:
        await b.do(out(5, HIGH, safe=SafeState.HOLD), out(6, LOW, safe=SafeState.LOW))
        silence = Silence(b.lines, b.clock)
        task = asyncio.create_task(silence.run())
        await b.clock.advance(20.0)
        assert silence.safe is False
        assert b.board.level(5) is HIGH
        await cancel_and_wait(task)


async def test_wall_clock_when_it_jumps_moves_nothing() -> None:
    async with watched() as (b, silence):
        b.clock.jump(56 * 365 * 86400.0)
        await b.clock.advance(5.0)
        assert (b.board.level(5), silence.safe) == (HIGH, False)


async def test_lost_line_when_it_is_free_again_is_reclaimed_within_a_second() -> None:
    async with watched() as (b, silence):
        b.board.claim(5, "w1")
        b.board.fail(1)
        assert await b.lines.make_safe("a test") == 0
        assert b.lines.problems()
        b.board.claim(5, None)
        silence.heard()
        await b.clock.advance(1.0)
        assert b.lines.problems() == []
        assert b.board.level(5) is LOW
