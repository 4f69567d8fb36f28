"""Following over boards in memory and a journal that fails: what is shown, what is told, and how often."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import pytest

from picontroller.core.errors import QuotaExceeded
from picontroller.core.events import Event
from picontroller.gpio import boards, resources
from picontroller.gpio.boards import Node, Operation, Position
from picontroller.gpio.following import Following, Sighting, Watchers
from picontroller.gpio.resources import Edge, Epoch, Level, Mode, Pin, Resource, Stage, Wish
from picontroller.gpio.turns import Turns
from tests.fakes.agents import FakeAgents, FakeBoard
from tests.fakes.clock import FakeClock, settle
from tests.fakes.nodes import FakeNodes


@dataclass
class MemoryJournal:
    """A journal in memory that fails when told to."""

    held: list[Resource]
    kept: Position | None = None
    failing: bool = False
    events: list[Event] = field(default_factory=list)
    sightings: list[Sighting] = field(default_factory=list)

    async def on_node(self, node_id: str) -> list[Resource]:
        return self.held

    async def position(self, node_id: str) -> Position | None:
        return self.kept

    async def take(self, node_id: str, position: Position, sightings: Sequence[Sighting], events: Sequence[Event]) -> None:
        if self.failing and events:
            raise QuotaExceeded("the disk is full", reason="DISK_FULL")
        self.kept = position
        self.events += events
        self.sightings += sightings


@dataclass
class Scene:
    """One node with one button, followed."""

    board: FakeBoard
    journal: MemoryJournal
    turns: Turns
    watchers: Watchers
    following: Following
    runs: list[str]


@pytest.fixture
async def scene() -> Scene:
    clock = FakeClock()
    agents, nodes, turns, watchers, runs = FakeAgents(clock), FakeNodes(), Turns(), Watchers(100, 5), list[str]()
    node = Node("pi", "unused:1", online=True)
    nodes.put(node)
    board = agents.add("pi")
    wish = Wish("button", "", "pi", Pin("bcm", "27"), Mode.INPUT, edge=Edge.BOTH)
    button = replace(resources.new_resource(wish, 27, clock.now()), stage=Stage.READY)
    await agents.control(node, [Operation(27, boards.configuration(button, None), Epoch(1, 1))], 5)
    journal = MemoryJournal([button], Position(board.run_id, 1))
    return Scene(board, journal, turns, watchers, Following(journal, nodes, agents, turns, watchers, clock, runs.append), runs)


async def test_batch_when_it_could_not_be_kept_is_told_once_and_shown_once(scene: Scene) -> None:
    async with aclosing(scene.watchers.watch(frozenset(), "")) as glimpses, asyncio.timeout(5):
        await anext(glimpses)
        scene.journal.failing = True
        await scene.board.drive(27, Level.HIGH)
        for _ in range(3):
            with pytest.raises(QuotaExceeded):
                await scene.following.follow("pi")
        assert [one.event.sequence for one in (await anext(glimpses)).seen] == [2]
        scene.journal.failing = False
        task = asyncio.ensure_future(scene.following.follow("pi"))
        await settle()
        await scene.board.drive(27, Level.LOW)
        assert [one.event.sequence for one in (await anext(glimpses)).seen] == [3]
        await settle()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [event.data["sequence"] for event in scene.journal.events] == [2, 3]
    assert scene.journal.kept == Position(scene.board.run_id, 3)
    assert not scene.runs


async def test_loss_when_it_could_not_be_kept_is_told_once_and_shown_once(scene: Scene) -> None:
    for level in (Level.HIGH, Level.LOW):
        await scene.board.drive(27, level)
    await scene.board.forget_events(2)
    async with aclosing(scene.watchers.watch(frozenset(), "")) as glimpses, asyncio.timeout(5):
        await anext(glimpses)
        scene.journal.failing = True
        for _ in range(3):
            with pytest.raises(QuotaExceeded):
                await scene.following.follow("pi")
        assert (await anext(glimpses)).lost == 1
        scene.journal.failing = False
        task = asyncio.ensure_future(scene.following.follow("pi"))
        found = await anext(glimpses)
        assert ([one.event.sequence for one in found.seen], found.lost) == ([3], 0)
        await settle()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [(event.type, event.data.get("lost")) for event in scene.journal.events] == [("gpio.edges.lost", 1), ("gpio.edge", None)]


async def test_event_when_its_resource_is_being_created_waits_for_it(scene: Scene) -> None:
    ready = scene.journal.held[0]
    scene.journal.held = [replace(ready, stage=Stage.CREATING)]
    await scene.board.drive(27, Level.HIGH)
    task = asyncio.ensure_future(scene.following.follow("pi"))
    async with scene.turns.of([ready.id]):
        await settle()
        assert not scene.journal.events
        scene.journal.held = [ready]
    await settle()
    assert [event.type for event in scene.journal.events] == ["gpio.edge"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_event_when_the_creation_failed_is_nobodys(scene: Scene) -> None:
    creating = replace(scene.journal.held[0], stage=Stage.CREATING)
    scene.journal.held = [creating]
    await scene.board.drive(27, Level.HIGH)
    task = asyncio.ensure_future(scene.following.follow("pi"))
    async with scene.turns.of([creating.id]):
        await settle()
        scene.journal.held = []
    await settle()
    assert (scene.journal.events, scene.journal.kept) == ([], Position(scene.board.run_id, 2))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_run_when_it_changed_is_reported_and_its_events_are_taken_from_the_first(scene: Scene) -> None:
    await scene.board.restart()
    task = asyncio.ensure_future(scene.following.follow("pi"))
    await settle()
    assert scene.runs == ["pi"]
    assert scene.journal.kept == Position(scene.board.run_id, 0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
