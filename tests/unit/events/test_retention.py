"""Retention: by age and by number, the oldest first, a few at a time."""

import asyncio

from picontroller.events.retention import BATCH, Retention
from picontroller.events.settings import Settings
from tests.unit.events.conftest import World

DAY = 24 * 3600


async def sweep(world: World, settings: Settings) -> int:
    sweeping = asyncio.create_task(Retention(world.store, settings, world.clock).sweep())
    for _ in range(20):
        await world.clock.advance(1)
    return await sweeping


async def test_events_when_older_than_the_limit_are_forgotten(world: World) -> None:
    await world.publish("a.old", "a.old")
    await world.clock.advance(2 * DAY)
    await world.publish("a.new")
    assert await sweep(world, Settings(max_age_days=1)) == 2
    assert [entry.record.type for entry in world.store.entries] == ["a.new"]


async def test_events_when_too_many_are_forgotten_oldest_first_in_batches(world: World) -> None:
    for _ in range(3):
        await world.publish(*["a.b"] * BATCH)
    assert await sweep(world, Settings(max_rows=100)) == 3 * BATCH - 100
    assert world.store.compacted == 3 * BATCH - 100


async def test_events_when_within_limits_stay(world: World) -> None:
    await world.publish(*["a.b"] * 10)
    assert await sweep(world, Settings(max_rows=10)) == 0


async def test_retention_when_it_runs_sweeps_again_and_again(world: World) -> None:
    running = asyncio.create_task(Retention(world.store, Settings(max_age_days=1, sweep_seconds=60), world.clock).run())
    for _ in range(3):
        await world.publish("a.b")
        await world.clock.advance(2 * DAY)
        assert world.store.entries == []
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
