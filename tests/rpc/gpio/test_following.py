"""What happens on lines becomes events, each once, whatever breaks in between; and is shown live."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.gpio.resources import Level
from picontroller.gpio.settings import Settings
from picontroller.v1 import gpio_events_pb2, types_pb2
from tests.rpc.gpio.world import OTHER_PI, PI, World, until


async def test_edge_when_it_happens_becomes_an_event_and_the_observation(world: World) -> None:
    button = await world.create("button", mode="INPUT", pin={"bcm": 4}, edge="BOTH", namespace="lab")
    await world.clock.advance(2)
    moment = world.clock.now()
    await world.agents.boards[PI].drive(4, Level.HIGH)
    [event] = await world.until_told("gpio.edge")
    assert (event.resource, event.namespace, event.node_id) == ("button", "lab", PI)
    assert event.timestamp.ToDatetime() == moment.replace(tzinfo=None)
    assert dict(event.data) == {"id": button.id, "pin": 4, "header": 7, "state": "high", "cause": "edge", "sequence": 2}
    world.lose()
    assert (await world.get(button)).observed.value == types_pb2.Level.HIGH


async def test_events_when_nobody_owns_the_line_are_not_told(world: World) -> None:
    await world.create("button", mode="INPUT", pin={"bcm": 4}, edge="BOTH")
    board = world.agents.boards[PI]
    await board.tell(22, "write")
    await board.drive(4, Level.HIGH)
    await world.until_told("gpio.edge")
    assert [event.data["pin"] for event in world.told("gpio.state.changed", "gpio.edge")] == [4, 4]


async def test_safe_state_when_the_agent_decides_is_told(world: World) -> None:
    await world.create(value="HIGH", safe="LOW")
    await world.agents.boards[PI].fall_silent()
    events = await world.until_told("gpio.state.changed", 2)
    assert [(event.data["cause"], event.data["state"]) for event in events] == [("configure", "high"), ("safe", "low")]


async def test_events_when_the_node_was_away_are_told_afterwards_once(world: World) -> None:
    await world.create("button", mode="INPUT", pin={"bcm": 4}, edge="BOTH")
    board = world.agents.boards[PI]
    await board.drive(4, Level.HIGH)
    await world.until_told("gpio.edge")
    world.lose()
    for level in (Level.LOW, Level.HIGH, Level.LOW):
        await board.drive(4, level)
    world.regain()
    await world.until_told("gpio.edge", 4)
    assert [event.data["sequence"] for event in world.told("gpio.edge")] == [2, 3, 4, 5]
    assert not world.told("gpio.edges.lost")


async def test_events_when_the_manager_was_away_are_told_afterwards_once(idle: World) -> None:
    board = idle.agents.boards[PI]
    async with idle.running():
        await idle.create("button", mode="INPUT", pin={"bcm": 4}, edge="BOTH")
        await board.drive(4, Level.HIGH)
        await idle.until_told("gpio.edge")
    await board.drive(4, Level.LOW)
    async with idle.running():
        await board.drive(4, Level.HIGH)
        await idle.until_told("gpio.edge", 3)
    assert [event.data["sequence"] for event in idle.told("gpio.edge")] == [2, 3, 4]


async def test_events_when_the_agent_dropped_some_are_counted(idle: World) -> None:
    board = idle.agents.boards[PI]
    async with idle.running():
        await idle.create("button", mode="INPUT", pin={"bcm": 4}, edge="BOTH")
        await idle.until_told("gpio.state.changed")
    for level in (Level.HIGH, Level.LOW) * 5:
        await board.drive(4, level)
    await board.forget_events(8)
    async with idle.running():
        [lost] = await idle.until_told("gpio.edges.lost")
        await idle.until_told("gpio.edge", 3)
    assert (lost.node_id, lost.data["lost"]) == (PI, 7)
    assert [event.data["sequence"] for event in idle.told("gpio.edge")] == [9, 10, 11]


async def test_events_when_the_agent_lost_its_past_go_on(idle: World) -> None:
    board = idle.agents.boards[PI]
    async with idle.running():
        await idle.create("button", mode="INPUT", pin={"bcm": 4}, edge="BOTH")
        for level in (Level.HIGH, Level.LOW):
            await board.drive(4, level)
        await idle.until_told("gpio.edge", 2)
    board.events, board.newest = [], 0  # the same run with a lower sequence: a disk or a machine was put back to an older state
    async with idle.running():
        await until(lambda: board.watchers == 1)
        await board.drive(4, Level.HIGH)
        await idle.until_told("gpio.edge", 3)


async def test_first_event_when_right_after_creation_is_not_missed(world: World) -> None:
    for number in range(5):
        led = await world.create(f"led-{number}", value="HIGH")
        await world.write((led, "LOW"))
        await world.delete(led)
    events = await world.until_told("gpio.deleted", 5)
    assert len(events) == 5
    await until(lambda: [e.data["cause"] for e in world.told("gpio.state.changed")].count("configure") >= 1)


@asynccontextmanager
async def watching(world: World, **fields: object) -> AsyncIterator[AsyncIterator[gpio_events_pb2.WatchGpioResponse]]:
    """Yield the responses of WatchEdges after the first, which is empty and tells that nothing is missed from now on."""
    responses = rpc.stream(world.stub().WatchEdges, gpio_events_pb2.WatchGpioRequest(**fields))  # type: ignore[arg-type]  # keyword arguments of tests
    async with asyncio.timeout(10):
        assert not (await anext(responses)).events
        try:
            yield responses
        finally:
            await responses.aclose()


async def test_watch_when_something_happens_shows_it(world: World) -> None:
    button = await world.create("button", mode="INPUT", pin={"bcm": 4}, edge="BOTH")
    await world.until_told("gpio.state.changed")
    async with watching(world, ids=[button.id]) as responses:
        await world.agents.boards[PI].drive(4, Level.HIGH)
        [event] = (await anext(responses)).events
    assert (event.id, event.name, event.namespace, event.node_id) == (button.id, "button", "default", PI)
    assert (event.value, event.cause, event.sequence) == (types_pb2.Level.HIGH, "edge", 2)


async def test_watch_when_filtered_shows_only_that(world: World) -> None:
    world.add_pi(OTHER_PI)
    here, there = await world.create("here"), await world.create("there", node_id=OTHER_PI)
    await world.until_told("gpio.state.changed", 2)
    async with watching(world, ids=[there.id]) as by_id, watching(world, node_id=OTHER_PI) as by_node:
        await world.write((here, "HIGH"), (there, "HIGH"))
        assert [[event.id for event in (await anext(stream)).events] for stream in (by_id, by_node)] == [[there.id], [there.id]]


async def test_watch_when_an_id_is_unknown_names_it(world: World) -> None:
    with pytest.raises(errors.NotFound):
        async for _ in rpc.stream(world.stub().WatchEdges, gpio_events_pb2.WatchGpioRequest(ids=["no-such"])):
            pass


async def test_watch_when_quiet_gives_signs_of_life(idle: World) -> None:
    async with idle.running(Settings(watch_sign_seconds=0.05)), watching(idle) as responses:
        assert not (await anext(responses)).events


async def test_watch_when_not_allowed_is_refused(world: World) -> None:
    with pytest.raises(errors.PermissionDenied):
        async for _ in rpc.stream(world.stub("node/" + PI).WatchEdges, gpio_events_pb2.WatchGpioRequest()):
            pass
