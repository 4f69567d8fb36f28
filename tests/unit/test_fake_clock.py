"""The clock that other tests rely on."""

import asyncio

import pytest

from tests.fakes.clock import START, FakeClock


async def test_sleepers_when_time_passes_wake_in_order_each_at_its_own_time() -> None:
    clock, woken = FakeClock(), []

    async def sleep(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic() - 1000.0))

    tasks = [asyncio.create_task(sleep(name, seconds)) for name, seconds in (("c", 3), ("a", 1), ("late", 9), ("b", 2), ("a too", 1))]
    await clock.until_sleeping(5)
    await clock.advance(5)
    assert woken == [("a", 1), ("a too", 1), ("b", 2), ("c", 3)]
    assert (clock.monotonic(), clock.sleeping) == (1005.0, 1)
    assert (clock.now() - START).total_seconds() == 5
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert clock.sleeping == 0


async def test_sleeper_when_it_sleeps_again_wakes_again_within_one_advance() -> None:
    clock, ticks = FakeClock(), []

    async def tick() -> None:
        for _ in range(3):
            await clock.sleep(2)
            ticks.append(clock.monotonic() - 1000.0)

    task = asyncio.create_task(tick())
    await clock.advance(7)
    assert ticks == [2, 4, 6]
    await task


async def test_sleeper_when_cancelled_is_passed_over() -> None:
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(1))
    await clock.until_sleeping()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await clock.advance(2)
    assert clock.monotonic() == 1002.0


async def test_sleep_when_for_nothing_or_less_returns_without_advance() -> None:
    async with asyncio.timeout(5):
        await FakeClock().sleep(0)
        await FakeClock().sleep(-1)


async def test_wall_clock_when_it_jumps_leaves_the_monotonic_one_alone() -> None:
    clock = FakeClock()
    clock.jump(-3600)
    assert (clock.monotonic(), (clock.now() - START).total_seconds()) == (1000.0, -3600)


async def test_waiting_for_sleepers_when_none_comes_ends() -> None:
    clock = FakeClock()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await clock.until_sleeping()
