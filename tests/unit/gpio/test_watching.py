"""Live watchers: what they want, in order, and how much they missed."""

import asyncio
import dataclasses
from contextlib import aclosing
from datetime import UTC, datetime

from picontroller.gpio import resources
from picontroller.gpio.boards import LineEvent
from picontroller.gpio.following import Glimpse, Seen, Watcher, Watchers
from picontroller.gpio.resources import Level, Mode, Pin, ResourceId, Wish

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def seen(sequence: int, resource_id: str = "r", node_id: str = "pi") -> Seen:
    resource = resources.new_resource(Wish("led", "", node_id, Pin("bcm", "17"), Mode.OUTPUT), 17, NOW)
    event = LineEvent(sequence, 17, 11, Level.HIGH, "write", NOW)
    return Seen(dataclasses.replace(resource, id=ResourceId(resource_id)), event)


async def glimpse(watcher: Watcher) -> Glimpse:
    async with asyncio.timeout(5):
        return await watcher.next(0.001)


def sequences(found: Glimpse) -> list[int]:
    return [one.event.sequence for one in found.seen]


async def test_watcher_when_slow_loses_the_oldest_and_is_told_how_many() -> None:
    watcher = Watcher(frozenset(), "", 3)
    for sequence in range(1, 8):
        watcher.offer(seen(sequence))
    found = await glimpse(watcher)
    assert (sequences(found), found.lost) == ([5, 6, 7], 4)
    assert await glimpse(watcher) == Glimpse()


async def test_watcher_when_it_wants_some_gets_only_those_and_loses_none_of_the_others() -> None:
    watcher = Watcher(frozenset({"a"}), "pi", 2)
    for sequence in range(1, 5):
        watcher.offer(seen(sequence, "b"))
    watcher.offer(seen(5, "a", "other"))
    watcher.offer(seen(6, "a"))
    watcher.miss("other", 9)
    found = await glimpse(watcher)
    assert (sequences(found), found.lost) == ([6], 0)


async def test_watcher_when_the_node_lost_events_is_told() -> None:
    watcher = Watcher(frozenset(), "", 2)
    watcher.miss("pi", 9)
    assert await glimpse(watcher) == Glimpse((), 9)


async def test_watcher_when_much_waits_gets_it_in_parts() -> None:
    watcher = Watcher(frozenset(), "", 1000)
    for sequence in range(1, 301):
        watcher.offer(seen(sequence))
    assert [len((await glimpse(watcher)).seen) for _ in range(2)] == [256, 44]


async def test_watchers_when_closed_are_forgotten_and_do_not_hinder_each_other() -> None:
    watchers = Watchers(2, 5)
    async with aclosing(watchers.watch(frozenset(), "")) as stalled, asyncio.timeout(5):
        assert await anext(stalled) == Glimpse()
        async with aclosing(watchers.watch(frozenset(), "")) as reader:
            assert await anext(reader) == Glimpse()
            for sequence in range(1, 6):
                watchers.offer("pi", [seen(sequence)], 0)
                assert sequences(await anext(reader)) == [sequence]
        assert len(watchers) == 1
        found = await anext(stalled)
        assert (sequences(found), found.lost) == ([4, 5], 3)
    assert len(watchers) == 0
