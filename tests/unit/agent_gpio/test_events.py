"""The ring of events: sequences, resumption, exact counts of what was lost, and subscribers that do not hurt each other."""

import asyncio
import random
import threading
from collections.abc import AsyncGenerator, Iterable

import pytest

from picontroller.agent.gpio.events import BATCH, Batch, Events, Happening
from picontroller.agent.gpio.pins import Cause, Level, ResolvedPin
from picontroller.core import errors
from tests.fakes.clock import FakeClock, settle

CLOCK = FakeClock()
PATIENCE_SECONDS = 5.0


def happening(bcm: int = 5, lost: int = 0) -> Happening:
    return Happening(ResolvedPin(bcm, 29, "chip", bcm, ""), Level.HIGH, Cause.EDGE, CLOCK.now(), lost)


def publish(events: Events, bcms: Iterable[int]) -> None:
    events.publish([happening(bcm) for bcm in bcms])


async def take(stream: AsyncGenerator[Batch]) -> Batch:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await anext(stream)


def sequences(batch: Batch) -> list[int]:
    return [event.sequence for event in batch.events]


async def test_subscription_when_it_begins_says_where_it_is_and_then_what_comes() -> None:
    events = Events(FakeClock())
    publish(events, [5, 6])
    stream = events.subscribe()
    assert await take(stream) == Batch((), 0, 2)
    publish(events, [7])
    batch = await take(stream)
    assert (sequences(batch), batch.lost, batch.sequence) == ([3], 0, 3)
    await stream.aclose()


async def test_events_when_many_come_in_batches_of_64() -> None:
    events = Events(FakeClock())
    stream = events.subscribe()
    await take(stream)
    publish(events, [5] * (2 * BATCH + 3))
    sizes = [len((await take(stream)).events) for _ in range(3)]
    assert sizes == [BATCH, BATCH, 3]
    await stream.aclose()


async def test_subscription_when_resumed_goes_on_without_gap() -> None:
    events = Events(FakeClock())
    publish(events, [5] * 10)
    stream = events.subscribe(after=4, run_id=events.run_id)
    assert await take(stream) == Batch((), 0, 4)
    assert sequences(await take(stream)) == [5, 6, 7, 8, 9, 10]
    await stream.aclose()


async def test_subscription_when_it_saw_nothing_of_this_run_is_resumed_from_its_beginning() -> None:
    events = Events(FakeClock())
    publish(events, [5] * 3)
    stream = events.subscribe(after=0, run_id=events.run_id)
    assert (await take(stream)).sequence == 0
    assert sequences(await take(stream)) == [1, 2, 3]
    await stream.aclose()


async def test_subscription_when_of_another_run_begins_at_the_oldest() -> None:
    events = Events(FakeClock(), kept=4)
    publish(events, [5] * 6)
    stream = events.subscribe(after=5000, run_id="another")
    assert await take(stream) == Batch((), 2, 2)
    assert sequences(await take(stream)) == [3, 4, 5, 6]
    await stream.aclose()


async def test_sequence_when_not_reached_is_out_of_range() -> None:
    events = Events(FakeClock())
    stream = events.subscribe(after=1, run_id=events.run_id)
    with pytest.raises(errors.OutOfRange) as caught:
        await anext(stream)
    assert caught.value.reason == "SEQUENCE_UNKNOWN"


async def test_subscriber_when_too_slow_is_told_exactly_what_it_missed() -> None:
    events = Events(FakeClock(), kept=8)
    slow, quick = events.subscribe(), events.subscribe()
    await take(slow)
    await take(quick)
    received = 0
    for _ in range(10):
        publish(events, [5] * 5)
        batch = await take(quick)
        received += len(batch.events)
        assert batch.lost == 0
    assert received == 50
    batch = await take(slow)
    assert (batch.lost, sequences(batch)) == (42, list(range(43, 51)))
    await slow.aclose()
    await quick.aclose()


async def test_losses_of_the_kernel_when_told_take_their_sequences() -> None:
    events = Events(FakeClock())
    stream = events.subscribe()
    await take(stream)
    events.publish([happening(), happening(lost=7), happening()])
    batch = await take(stream)
    assert (sequences(batch), batch.lost, batch.sequence) == ([1, 9, 10], 7, 10)
    await stream.aclose()


async def test_subscription_when_resumed_within_what_the_kernel_lost_counts_the_rest() -> None:
    events = Events(FakeClock())
    events.publish([happening(), happening(lost=7)])
    stream = events.subscribe(after=4, run_id=events.run_id)
    await take(stream)
    batch = await take(stream)
    assert (sequences(batch), batch.lost) == ([9], 4)
    await stream.aclose()


async def test_subscription_when_for_some_lines_has_their_events_and_their_losses_only() -> None:
    events = Events(FakeClock(), kept=10)
    publish(events, [5, 6])
    stream = events.subscribe(frozenset({6}))
    await take(stream)
    events.publish([happening(5, lost=3), happening(6, lost=2), *[happening(5)] * 9, happening(6)])
    batch = await take(stream)
    assert batch.lost == 3  # two that the kernel dropped and the one with them, pushed out of the ring by others
    assert [event.happening.pin.bcm for event in batch.events] == [6]
    assert batch.sequence == events.newest
    await stream.aclose()


@pytest.mark.parametrize("seed", range(5))
async def test_delivered_and_lost_when_added_up_are_all_there_was(seed: int) -> None:
    dice = random.Random(seed)
    events = Events(FakeClock(), kept=30)
    filters = [frozenset[int](), frozenset({5}), frozenset({6, 7})]
    streams = [events.subscribe(bcms) for bcms in filters]
    counts = [0] * len(streams)
    happened: list[Happening] = []
    for stream in streams:
        await take(stream)
    for _ in range(60):
        burst = [happening(dice.choice((5, 6, 7)), dice.choice((0, 0, 0, 4))) for _ in range(dice.randint(1, 25))]
        happened += burst
        events.publish(burst)
        index = dice.randrange(len(streams))
        position = -1
        while position < events.newest and any(h.pin.bcm in filters[index] or not filters[index] for h in burst):
            batch = await take(streams[index])
            counts[index] += len(batch.events) + batch.lost
            position = batch.sequence
    publish(events, [5, 6])
    happened += [happening(5), happening(6)]
    for index, stream in enumerate(streams):
        position = -1
        while position < events.newest:
            batch = await take(stream)
            counts[index] += len(batch.events) + batch.lost
            position = batch.sequence
        assert counts[index] == sum(h.lost + 1 for h in happened if not filters[index] or h.pin.bcm in filters[index])
        await stream.aclose()


async def test_memory_when_nobody_reads_is_bounded() -> None:
    events = Events(FakeClock(), kept=100)
    stream = events.subscribe()
    await take(stream)
    for _ in range(50):
        publish(events, [5] * 100)
    assert len(events._ring) == 100
    await stream.aclose()


async def test_silence_when_it_lasts_gives_signs_of_life() -> None:
    clock = FakeClock()
    events = Events(clock)
    stream = events.subscribe()
    await take(stream)
    waiting = asyncio.ensure_future(take(stream))
    await clock.until_sleeping()
    await clock.advance(9.9)
    assert not waiting.done()
    await clock.advance(0.1)
    assert await waiting == Batch((), 0, 0)
    await stream.aclose()


async def test_signs_of_life_when_events_come_are_not_needed() -> None:
    clock = FakeClock()
    events = Events(clock)
    stream = events.subscribe()
    await take(stream)
    await clock.until_sleeping()
    await clock.advance(6)
    publish(events, [5])
    assert len((await take(stream)).events) == 1
    waiting = asyncio.ensure_future(take(stream))
    await clock.advance(6)
    await settle()
    assert not waiting.done()
    await clock.advance(10)
    assert (await waiting).events == ()
    await stream.aclose()


async def test_events_when_published_in_a_thread_wake_a_subscriber() -> None:
    events = Events(FakeClock())
    stream = events.subscribe()
    await take(stream)
    thread = threading.Thread(target=lambda: [publish(events, [5]) for _ in range(500)])
    thread.start()
    received: list[int] = []
    while len(received) < 500:
        received += sequences(await take(stream))
    thread.join()
    assert received == list(range(1, 501))
    await stream.aclose()


async def test_subscription_when_closed_is_forgotten() -> None:
    events = Events(FakeClock())
    stream = events.subscribe()
    await take(stream)
    await stream.aclose()
    assert not events._subscriptions
