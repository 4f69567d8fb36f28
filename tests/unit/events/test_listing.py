"""Listings: pages without seams, bounded in number and in bytes."""

import pytest

from picontroller.core.errors import InvalidArgument
from picontroller.events.entries import Entry
from picontroller.events.filters import EVERYTHING, Filter
from picontroller.events.listing import PAGE_BYTES, Listing
from tests.unit.events.conftest import World, record, submission


async def pages(world: World, size: int, chosen: Filter = EVERYTHING, after: str = "") -> list[tuple[Entry, ...]]:
    listing, found, token = Listing(world.journal, world.store), [], ""
    for _ in range(100):
        page = await listing.page(chosen, after, size, token)
        found.append(page.entries)
        token = page.next_page_token
        if not token:
            return found
    raise AssertionError("no end")


@pytest.mark.parametrize("warm", [True, False])
async def test_pages_when_put_together_are_everything_once(world: World, warm: bool) -> None:
    await world.publish(*["a.b", "c.d"] * 20)
    if not warm:
        world.tail._clear()
    found = await pages(world, 7)
    assert [len(page) for page in found] == [7, 7, 7, 7, 7, 5]
    assert [entry.sequence for page in found for entry in page] == list(range(1, 41))
    assert [entry.sequence for page in await pages(world, 7, Filter(types=("c.*",))) for entry in page] == list(range(2, 41, 2))
    assert [len(page) for page in await pages(world, 40)] == [40]


async def test_pages_when_after_a_cursor_begin_there(world: World) -> None:
    await world.publish(*["a.b"] * 10)
    found = await pages(world, 3, after=world.cursors.seal(6))
    assert [entry.sequence for page in found for entry in page] == [7, 8, 9, 10]


async def test_page_when_events_are_large_is_cut_by_bytes(world: World) -> None:
    large = record(body=bytes(PAGE_BYTES // 3))
    await world.journal.publish(submission(*[large] * 7))
    assert [len(page) for page in await pages(world, 100)] == [2, 2, 2, 1]


async def test_page_when_the_token_is_of_another_filter_is_invalid(world: World) -> None:
    await world.publish(*["a.b"] * 10)
    listing = Listing(world.journal, world.store)
    token = (await listing.page(EVERYTHING, "", 3, "")).next_page_token
    with pytest.raises(InvalidArgument):
        await listing.page(Filter(types=("a.*",)), "", 3, token)


async def test_page_when_nothing_is_there_is_the_last(world: World) -> None:
    assert await pages(world, 5) == [()]
