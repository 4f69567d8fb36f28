"""Subscriptions: history and then what comes, signs of life, and an end with the caller's proof."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from picontroller.core.errors import Unauthenticated
from picontroller.events.entries import Batch
from picontroller.events.filters import EVERYTHING, Filter
from tests.fakes.clock import START, settle
from tests.unit.events.conftest import World


@pytest.fixture
async def pulse(world: World) -> AsyncIterator[None]:
    pulsing = asyncio.create_task(world.subscriptions.pulse())
    await settle()
    yield
    pulsing.cancel()
    await asyncio.gather(pulsing, return_exceptions=True)


def kinds(batch: Batch) -> list[str]:
    return [entry.record.type for entry in batch.entries]


async def soon(batches: AsyncIterator[Batch]) -> Batch:
    async with asyncio.timeout(5):
        return await anext(batches)


async def test_subscriber_when_it_comes_is_told_from_where_and_gets_only_what_comes(world: World) -> None:
    await world.publish("a.old")
    following = world.subscriptions.follow("", EVERYTHING)
    assert await soon(following) == Batch((), 1)
    await world.publish("a.new")
    assert kinds(await soon(following)) == ["a.new"]


async def test_subscriber_when_it_resumes_gets_each_later_event_once(world: World) -> None:
    await world.publish(*["a.b"] * 130)
    following = world.subscriptions.follow(world.cursors.seal(20), EVERYTHING)
    found = []
    while len(found) < 110:
        found += [entry.sequence for entry in (await soon(following)).entries]
    await world.publish("a.b")
    found += [entry.sequence for entry in (await soon(following)).entries]
    assert found == list(range(21, 132))


async def test_subscriber_when_it_begins_at_the_start_is_not_overtaken_by_compaction(world: World) -> None:
    await world.publish(*["a.b"] * 100)
    world.tail._clear()
    following = world.subscriptions.follow("start", EVERYTHING)
    reading = asyncio.create_task(anext(following))
    await world.store.compact(older_than=0, rows=30, megabytes=1, limit=1000)
    assert [entry.sequence for entry in (await reading).entries] == list(range(71, 101))


async def test_subscriber_when_slow_gets_several_events_at_once(world: World) -> None:
    following = world.subscriptions.follow("", EVERYTHING)
    await soon(following)
    for kind in ("a.one", "a.two", "a.three"):
        await world.publish(kind)
    assert kinds(await soon(following)) == ["a.one", "a.two", "a.three"]


async def test_subscriber_when_nothing_happens_gets_a_sign_of_life_every_ten_seconds(world: World, pulse: None) -> None:
    following = world.subscriptions.follow("", EVERYTHING)
    await soon(following)
    for _ in range(3):
        waiting = asyncio.create_task(anext(following))
        await world.clock.advance(9)
        assert not waiting.done()
        await world.clock.advance(1)
        assert await waiting == Batch((), 0)


async def test_subscriber_when_nothing_matches_gets_a_sign_of_life_with_a_cursor_that_moves(world: World, pulse: None) -> None:
    following = world.subscriptions.follow("", Filter(types=("z.*",)))
    assert (await soon(following)).position == 0
    waiting = asyncio.create_task(anext(following))
    for _ in range(9):
        await world.publish(*["a.b"] * 7)
        await world.clock.advance(1)
    assert not waiting.done()
    await world.clock.advance(1)
    assert await waiting == Batch((), 63)


async def test_subscriber_when_its_proof_expires_is_sent_away(world: World, pulse: None) -> None:
    following = world.subscriptions.follow("", EVERYTHING, expires=START.timestamp() + 25)
    await soon(following)
    for _ in range(2):
        waiting = asyncio.create_task(anext(following))
        await world.clock.advance(10)
        assert await waiting == Batch((), 0)
    waiting = asyncio.create_task(anext(following))
    await world.clock.advance(6)
    with pytest.raises(Unauthenticated) as caught:
        await waiting
    assert caught.value.reason == "PROOF_EXPIRED"


async def test_subscribers_when_many_read_differently_fast_all_get_everything(world: World) -> None:
    async def reader(pause: int) -> list[int]:
        found: list[int] = []
        async for batch in world.subscriptions.follow("start", EVERYTHING):
            found += [entry.sequence for entry in batch.entries]
            if len(found) == 400:
                break
            for _ in range(pause):
                await asyncio.sleep(0)
        return found

    readers = [asyncio.create_task(reader(pause)) for pause in (0, 1, 7, 100)]
    for _ in range(200):
        await world.publish("a.b", "a.c")
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        assert await asyncio.gather(*readers) == [list(range(1, 401))] * 4
    assert len(world.tail) <= 50
