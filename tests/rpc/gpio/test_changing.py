"""UpdateGpioResource and DeleteGpioResource: what changes, what is refused, what is remembered for a node that is away."""

from typing import Any

import pytest

from picontroller.core import errors
from picontroller.gpio.resources import Bias, Edge, Level, Safe
from picontroller.v1 import gpio_pb2 as v1
from picontroller.v1 import types_pb2
from tests.rpc.gpio.world import PI, World, until

HIGH, LOW = types_pb2.Level.HIGH, types_pb2.Level.LOW


async def test_update_when_the_value_is_new_moves_the_pin_first(world: World) -> None:
    led = await world.create(value="LOW")
    after = await world.update(led, value="HIGH")
    assert (after.value, after.observed.value, after.etag != led.etag) == (HIGH, HIGH, True)
    assert world.agents.boards[PI].level(17) is Level.HIGH
    assert (await world.get(led)) == after


async def test_update_when_safe_changes_leaves_the_level_alone(world: World) -> None:
    led = await world.create(value="HIGH")
    after = await world.update(led, safe="LOW", restore="DESIRED")
    assert (after.safe, after.restore, after.value) == (types_pb2.SafeState.LOW, types_pb2.Restore.DESIRED, HIGH)
    board = world.agents.boards[PI]
    assert (board.level(17), board.lines[17].config.safe) == (Level.HIGH, Safe.LOW)
    [event] = await world.until_told("gpio.updated")
    assert list(event.data["fields"]) == ["restore", "safe"]


async def test_update_when_the_output_went_safe_does_not_drive_it_again(world: World) -> None:
    led = await world.create(value="HIGH", safe="LOW")
    board = world.agents.boards[PI]
    await board.fall_silent()
    await world.until_told("gpio.state.changed", 2)
    after = await world.update(led, bias="PULL_UP")
    assert (after.value, after.observed.value) == (HIGH, LOW)
    assert (board.level(17), board.lines[17].config.bias) == (Level.LOW, Bias.PULL_UP)


async def test_update_when_an_input_changes_its_edges_and_pull(world: World) -> None:
    button = await world.create("button", mode="INPUT", pin={"bcm": 4})
    after = await world.update(button, edge="RISING", bias="PULL_UP", debounce="0.010s")
    config = world.agents.boards[PI].lines[4].config
    assert (config.edge, config.bias, config.debounce) == (Edge.RISING, Bias.PULL_UP, 10_000)
    assert (after.edge, after.debounce.ToMilliseconds()) == (types_pb2.Edge.RISING, 10)


async def test_update_when_masked_changes_exactly_what_it_names(world: World) -> None:
    button = await world.create("button", mode="INPUT", pin={"bcm": 4}, edge="BOTH", bias="PULL_UP", debounce="0.010s")
    after = await world.update(button, edge="RISING", bias="PULL_DOWN", update_mask="edge,debounce")
    assert (after.edge, after.bias, after.debounce.ToMilliseconds()) == (types_pb2.Edge.RISING, types_pb2.Bias.PULL_UP, 0)


@pytest.mark.parametrize("fields", [{}, {"update_mask": ""}])
async def test_update_when_nothing_is_set_is_invalid(world: World, fields: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        await world.update(await world.create(), **fields)
    assert caught.value.reason == "NOTHING_TO_CHANGE"


async def test_update_when_the_masked_level_is_missing_is_invalid(world: World) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        await world.update(await world.create(), safe="LOW", update_mask="value")
    assert caught.value.reason == "VALUE_MISSING"


@pytest.mark.parametrize(
    ("mode", "fields", "reason"),
    [
        ("INPUT", {"value": "HIGH"}, "NOT_AN_OUTPUT"),
        ("INPUT", {"safe": "LOW"}, "NOT_AN_OUTPUT"),
        ("OUTPUT", {"edge": "BOTH"}, "NOT_AN_INPUT"),
        ("OUTPUT", {"debounce": "0.1s"}, "NOT_AN_INPUT"),
    ],
)
async def test_update_when_the_mode_has_no_use_for_it_changes_nothing(world: World, mode: str, fields: dict[str, str], reason: str) -> None:
    made = await world.create(mode=mode)
    with pytest.raises(errors.FailedPrecondition) as caught:
        await world.update(made, **fields)
    assert caught.value.reason == reason
    assert (await world.get(made)).etag == made.etag


@pytest.mark.parametrize("front", ["field", "header"])
async def test_update_when_the_etag_is_stale_is_a_conflict(world: World, front: str) -> None:
    led = await world.create(value="LOW")
    newer = await world.update(led, safe="LOW")
    stale = {"etag": led.etag} if front == "field" else {"metadata": {"if-match": f'"{led.etag}"'}}
    with pytest.raises(errors.Conflict) as caught:
        await world.update(led, value="HIGH", **stale)
    assert (caught.value.reason, caught.value.metadata["etag"]) == ("ETAG_STALE", newer.etag)
    assert world.agents.boards[PI].level(17) is Level.LOW
    fresh = {"etag": newer.etag} if front == "field" else {"metadata": {"if-match": f'"other", "{newer.etag}"'}}
    assert (await world.update(led, value="HIGH", **fresh)).value == HIGH
    assert (await world.update(led, metadata={"if-match": "*"}, value="LOW")).value == LOW


async def test_update_when_the_request_id_is_repeated_has_one_effect(world: World) -> None:
    led = await world.create()
    first = await world.update(led, value="HIGH", request_id="once")
    await world.update(led, value="LOW")
    assert await world.update(led, value="HIGH", request_id="once") == first
    assert world.agents.boards[PI].level(17) is Level.LOW


async def test_update_when_the_node_is_offline_changes_nothing_but_what_needs_no_node(world: World) -> None:
    led = await world.create(value="LOW")
    world.lose()
    for fields in ({"value": "HIGH"}, {"safe": "LOW"}):
        with pytest.raises(errors.Unavailable):
            await world.update(led, **fields)
    assert (await world.get(led)).etag == led.etag
    assert (await world.update(led, restore="DESIRED")).restore == types_pb2.Restore.DESIRED


async def test_update_when_the_node_was_forgotten_counts_as_offline(world: World) -> None:
    led = await world.create(value="LOW")
    world.nodes.remove(PI)
    for fields in ({"value": "HIGH"}, {"safe": "LOW"}):
        with pytest.raises(errors.Unavailable) as caught:
            await world.update(led, **fields)
        assert caught.value.reason == "NODE_OFFLINE"


async def test_update_when_there_is_none_names_it(world: World) -> None:
    with pytest.raises(errors.NotFound):
        await world.update(v1.GpioResource(id="no-such"), value="HIGH")


async def test_delete_when_possible_makes_the_line_safe_and_free(world: World) -> None:
    led = await world.create(value="HIGH", safe="LOW")
    await world.delete(led)
    board = world.agents.boards[PI]
    assert 17 not in board.lines
    [event] = await world.until_told("gpio.deleted")
    assert (event.resource, event.data["id"], event.data["forced"]) == ("led", led.id, False)
    with pytest.raises(errors.NotFound):
        await world.get(led)
    assert (await world.create()).epoch.counter == 2


async def test_delete_when_the_etag_is_stale_is_a_conflict(world: World) -> None:
    led = await world.create()
    for stale in ({"etag": "other"}, {"metadata": {"if-match": '"other"'}}):
        with pytest.raises(errors.Conflict):
            await world.delete(led, **stale)
    assert 17 in world.agents.boards[PI].lines
    await world.delete(led, etag=led.etag)


async def test_delete_when_the_node_is_offline_is_refused_unless_forced(world: World) -> None:
    led = await world.create(value="HIGH")
    world.lose()
    with pytest.raises(errors.Unavailable) as caught:
        await world.delete(led)
    assert caught.value.reason == "NODE_OFFLINE"
    assert (await world.get(led)).id == led.id
    await world.delete(led, force=True)
    [event] = await world.until_told("gpio.deleted")
    assert event.data["forced"] is True
    world.regain()
    board = world.agents.boards[PI]
    await until(lambda: 17 not in board.lines)


async def test_delete_when_the_node_was_forgotten_is_refused_unless_forced(world: World) -> None:
    led = await world.create()
    world.nodes.remove(PI)
    with pytest.raises(errors.Unavailable):
        await world.delete(led)
    await world.delete(led, force=True)
    assert not (await world.listed()).gpio_resources


async def test_delete_when_forced_before_a_restart_is_still_remembered(idle: World) -> None:
    async with idle.running():
        led = await idle.create(value="HIGH")
        idle.lose()
        await idle.delete(led, force=True)
    board = idle.agents.boards[PI]
    assert 17 in board.lines
    async with idle.running():
        idle.regain()
        await until(lambda: 17 not in board.lines)


async def test_resources_when_the_manager_restarts_are_kept(idle: World) -> None:
    async with idle.running():
        led = await idle.create(value="HIGH")
    async with idle.running():
        assert await idle.get(led) == led
        assert idle.agents.boards[PI].level(17) is Level.HIGH
        assert (await idle.create("other", pin={"bcm": 18})).epoch.term == 2
