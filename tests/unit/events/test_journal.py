"""The journal: places, and what reading from them gives."""

import asyncio

import pytest

from picontroller.core.errors import InvalidArgument, OutOfRange, QuotaExceeded, Unavailable
from picontroller.events.cursors import Cursors
from picontroller.events.entries import OLDEST, Batch
from picontroller.events.filters import EVERYTHING, Filter
from picontroller.events.journal import MESSAGE_EVENTS, PENDING_BYTES, READ_EVENTS
from tests.fakes.clock import settle
from tests.fakes.journal_store import KEY
from tests.unit.events.conftest import World, record, submission


async def read_all(world: World, position: int, chosen: Filter = EVERYTHING) -> list[Batch]:
    found: list[Batch] = []
    while batches := await world.journal.read(position, chosen):
        found += batches
        position = batches[-1].position
    return found


async def test_publish_when_the_caller_is_cancelled_still_reaches_readers(world: World) -> None:
    world.store.gate.clear()
    publishing = asyncio.create_task(world.publish("a.b"))
    await settle()
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    waiting = asyncio.create_task(world.journal.stirring(0))
    await settle()
    assert not waiting.done()
    world.store.gate.set()
    await waiting
    assert [entry.sequence for batch in await read_all(world, 0) for entry in batch.entries] == [1]


async def test_publish_when_the_store_fails_raises_and_shows_nothing(world: World) -> None:
    world.store.failure = QuotaExceeded("full", reason="DISK_FULL")
    with pytest.raises(QuotaExceeded):
        await world.publish("a.b")
    assert await read_all(world, 0) == []
    assert len(world.tail) == 0


async def test_submit_when_too_much_waits_for_the_disk_is_refused_until_it_has_gone(world: World) -> None:
    world.store.gate.clear()
    large = record(body=bytes(PENDING_BYTES // 2 + 1))
    tasks = [world.journal.submit(submission(large, first=first)) for first in (1, 2)]
    await settle()
    with pytest.raises(Unavailable) as caught:
        world.journal.submit(submission(record(), first=3))
    assert caught.value.reason == "JOURNAL_BUSY"
    world.store.gate.set()
    await asyncio.gather(*tasks)
    await world.journal.publish(submission(record(), first=3))
    assert world.store.last == 3


async def test_read_when_the_reader_keeps_up_never_asks_the_store(world: World) -> None:
    await world.publish("a.b")
    position = world.store.last
    world.store.reads = 0
    for _ in range(20):
        await world.publish("a.b", "c.d")
        (batch,) = await world.journal.read(position, EVERYTHING)
        assert [entry.sequence for entry in batch.entries] == [position + 1, position + 2]
        position = batch.position
    assert world.store.reads == 0


async def test_read_when_far_behind_goes_from_the_store_to_the_tail_without_a_seam(world: World) -> None:
    for _ in range(12):
        await world.publish(*["a.b"] * 100)
    batches = await read_all(world, 0)
    assert [entry.sequence for batch in batches for entry in batch.entries] == list(range(1, 1201))
    assert max(len(batch.entries) for batch in batches) <= MESSAGE_EVENTS
    assert all(batch.position == batch.entries[-1].sequence for batch in batches)
    assert 1 <= world.store.reads <= 1200 // READ_EVENTS + 1


@pytest.mark.parametrize("tail_is_warm", [True, False])
async def test_read_when_nothing_is_chosen_still_moves_on(world: World, tail_is_warm: bool) -> None:
    await world.publish(*["a.b"] * 40)
    if not tail_is_warm:
        world.tail._clear()
    batches = await read_all(world, 0, Filter(types=("z.*",)))
    assert [batch.entries for batch in batches] in ([()], [[]])
    assert batches[-1].position == 40


async def test_read_when_compacted_meanwhile_is_out_of_range(world: World) -> None:
    await world.publish(*["a.b"] * 100)
    world.tail._clear()
    await world.store.compact(older_than=0, rows=30, megabytes=1, limit=1000)
    with pytest.raises(OutOfRange) as caught:
        await world.journal.read(10, EVERYTHING)
    assert caught.value.reason == "CURSOR_COMPACTED"
    assert world.cursors.open(caught.value.metadata["oldest"]) == 70


async def test_locate_when_inside_what_is_kept_is_the_position(world: World) -> None:
    await world.publish(*["a.b"] * 10)
    await world.store.compact(older_than=0, rows=6, megabytes=1, limit=1000)
    locate, seal = world.journal.locate, world.cursors.seal
    assert await locate("") == 10
    assert await locate("", absent="start") == await locate("start") == OLDEST
    assert [entry.sequence for batch in await read_all(world, OLDEST) for entry in batch.entries] == [5, 6, 7, 8, 9, 10]
    assert [await locate(seal(position)) for position in (4, 7, 10)] == [4, 7, 10]


@pytest.mark.parametrize(("position", "reason"), [(-1, "CURSOR_NEGATIVE"), (3, "CURSOR_COMPACTED"), (11, "CURSOR_FUTURE")])
async def test_locate_when_outside_what_is_kept_names_the_oldest(world: World, position: int, reason: str) -> None:
    await world.publish(*["a.b"] * 10)
    await world.store.compact(older_than=0, rows=6, megabytes=1, limit=1000)
    with pytest.raises(OutOfRange) as caught:
        await world.journal.locate(world.cursors.seal(position))
    assert caught.value.reason == reason
    assert await world.journal.locate(caught.value.metadata["oldest"]) == 4


async def test_locate_when_of_another_journal_is_out_of_range(world: World) -> None:
    foreign = Cursors("00000000-0000-4000-8000-000000000000", KEY).seal(0)
    with pytest.raises(OutOfRange) as caught:
        await world.journal.locate(foreign)
    assert caught.value.reason == "CURSOR_EPOCH"


async def test_locate_when_rubbish_is_invalid(world: World) -> None:
    with pytest.raises(InvalidArgument):
        await world.journal.locate("first")
