"""After an agent's restart or our silence: safe states stay, wanted values come back only where that was asked for."""

import pytest

from picontroller.core import errors
from picontroller.gpio.boards import Configure
from picontroller.gpio.resources import Edge, Level
from picontroller.gpio.settings import Settings
from picontroller.v1 import types_pb2
from tests.rpc.gpio.world import PI, World, until, until_true


async def test_agent_when_it_has_resources_hears_from_us_regularly(world: World) -> None:
    board = world.agents.boards[PI]
    assert not board.signs_of_life
    await world.create()
    await until(lambda: len(board.signs_of_life) >= 2)
    for _ in range(3):
        heard = len(board.signs_of_life)
        await world.clock.until_sleeping()
        await world.clock.advance(5)
        await until(lambda heard=heard: len(board.signs_of_life) > heard)  # type: ignore[misc]  # default binds the loop's value
    assert set(board.signs_of_life) == {15.0}


async def test_agent_when_it_has_no_resource_any_more_is_left_alone(world: World) -> None:
    board = world.agents.boards[PI]
    led = await world.create()
    await world.clock.until_sleeping()
    await world.delete(led)
    await until(lambda: world.clock.sleeping == 0)
    heard = len(board.signs_of_life)
    await world.clock.advance(60)
    assert len(board.signs_of_life) == heard


async def test_outputs_when_the_agent_restarts_stay_safe_unless_wanted_back(world: World) -> None:
    board = world.agents.boards[PI]
    safe = await world.create("safe", value="HIGH", safe="LOW")
    back = await world.create("back", value="HIGH", safe="LOW", restore="DESIRED", pin={"bcm": 18})
    await board.restart()
    events = await world.until_told_in_time("gpio.restored", 2)
    assert {event.resource: event.data["value_applied"] for event in events} == {"safe": False, "back": True}
    assert (board.level(17), board.level(18)) == (Level.LOW, Level.HIGH)
    after_safe, after_back = await world.get(safe), await world.get(back)
    assert (after_safe.value, after_safe.observed.value) == (types_pb2.Level.HIGH, types_pb2.Level.LOW)
    assert (after_back.value, after_back.observed.value) == (types_pb2.Level.HIGH, types_pb2.Level.HIGH)
    assert after_safe.epoch.counter > safe.epoch.counter
    assert after_safe.etag != safe.etag
    assert board.epochs[17].counter == after_safe.epoch.counter


async def test_output_when_written_right_after_the_restart_is_left_as_written(world: World) -> None:
    board = world.agents.boards[PI]
    led = await world.create(value="LOW", safe="LOW")
    await world.create("button", mode="INPUT", pin={"bcm": 4})
    await board.restart()
    await world.write((led, "HIGH"))
    await world.until_told_in_time("gpio.restored")
    for _ in range(2):
        await world.clock.until_sleeping()
        await world.clock.advance(5)
    assert board.level(17) is Level.HIGH
    assert [event.resource for event in world.told("gpio.restored")] == ["button"]
    assert (await world.update(led, safe="HIGH")).observed.value == types_pb2.Level.HIGH


async def test_inputs_when_the_agent_restarts_are_configured_again(world: World) -> None:
    board = world.agents.boards[PI]
    await world.create("button", mode="INPUT", pin={"bcm": 4}, edge="BOTH")
    await board.restart()
    await world.until_told_in_time("gpio.restored")
    assert board.lines[4].config.edge is Edge.BOTH
    await board.drive(4, Level.HIGH)
    await world.until_told_in_time("gpio.edge")


async def test_lines_when_the_agent_restarted_while_we_were_away_are_configured_again(idle: World) -> None:
    board = idle.agents.boards[PI]
    async with idle.running():
        await idle.create(value="HIGH", safe="LOW", restore="DESIRED")
    await board.restart()
    assert board.level(17) is Level.LOW
    async with idle.running():
        await idle.until_told("gpio.restored")
        assert board.level(17) is Level.HIGH


async def test_lines_when_the_agent_did_not_restart_are_not_touched(idle: World) -> None:
    board = idle.agents.boards[PI]
    async with idle.running():
        await idle.create(value="HIGH")
    board.batches.clear()
    board.signs_of_life.clear()
    async with idle.running():
        await until(lambda: bool(board.signs_of_life))
        await idle.clock.until_sleeping()
    assert not board.batches


async def test_lines_when_one_is_refused_bring_the_others_back(world: World) -> None:
    board = world.agents.boards[PI]
    bad = await world.create("bad", value="HIGH")
    await world.create("good", value="HIGH", restore="DESIRED", pin={"bcm": 18})
    board.refusals[17] = errors.FailedPrecondition("claimed by w1", reason="LINE_BUSY")
    await board.restart()
    await world.until_told_in_time("gpio.restored")
    [failed] = await world.until_told("gpio.restore.failed")
    assert (failed.resource, failed.data["reason"]) == ("bad", "LINE_BUSY")
    assert board.level(18) is Level.HIGH
    heard = len(board.signs_of_life)
    await world.in_time(lambda: len(board.signs_of_life) > heard + 2)
    board.refusals.clear()
    await world.until_told_in_time("gpio.restored", 2)
    assert len(world.told("gpio.restore.failed")) == 1
    assert (await world.get(bad)).epoch.counter > bad.epoch.counter


async def test_outputs_when_we_were_silent_stay_safe_unless_wanted_back(world: World) -> None:
    board = world.agents.boards[PI]
    await world.create("safe", value="HIGH", safe="LOW")
    await world.create("back", value="HIGH", safe="LOW", restore="DESIRED", pin={"bcm": 18})
    await board.fall_silent()
    assert board.level(18) is Level.LOW
    await world.in_time(lambda: board.level(18) is Level.HIGH)
    assert board.level(17) is Level.LOW
    assert not world.told("gpio.restored")


async def test_output_when_written_after_our_silence_is_left_alone(world: World) -> None:
    board = world.agents.boards[PI]
    led = await world.create(value="HIGH", safe="LOW")
    await board.fall_silent()
    await world.write((led, "HIGH"))
    board.batches.clear()
    for _ in range(2):
        await world.clock.until_sleeping()
        await world.clock.advance(5)
    assert board.level(17) is Level.HIGH


async def test_outputs_when_another_was_written_after_our_silence_come_back_all_the_same(world: World) -> None:
    board = world.agents.boards[PI]
    first = await world.create("first", value="HIGH", safe="LOW", restore="DESIRED")
    await world.create("second", value="HIGH", safe="LOW", restore="DESIRED", pin={"bcm": 18})
    await board.fall_silent()
    await world.write((first, "HIGH"))
    assert not board.safe_by_silence
    await world.in_time(lambda: board.level(18) is Level.HIGH)


async def test_output_when_the_answer_to_its_restoring_is_lost_stays_ours(world: World) -> None:
    board = world.agents.boards[PI]
    led = await world.create(value="HIGH", safe="LOW", restore="DESIRED")
    board.unheard = True
    await board.restart()
    await world.in_time(lambda: board.level(17) is Level.HIGH)
    board.unheard = False
    for _ in range(3):
        await world.clock.until_sleeping()
        await world.clock.advance(5)
    assert (await world.write((led, "LOW")))[0].observed.value == types_pb2.Level.LOW
    await world.delete(led)
    assert 17 not in board.lines


async def test_output_when_its_owner_restores_keeps_the_wanted_value_fenced(world: World) -> None:
    board = world.agents.boards[PI]
    led = await world.create(value="HIGH", restore="DESIRED")
    await board.restart()
    await world.until_told_in_time("gpio.restored")
    assert (await world.write((led, "LOW")))[0].observed.value == types_pb2.Level.LOW
    configured = [operation for batch in board.batches for operation in batch if isinstance(operation.action, Configure)]
    assert [operation.epoch.counter for operation in configured if operation.epoch] == [1, 2]


async def test_node_when_it_hangs_keeps_no_other_waiting(idle: World) -> None:
    from tests.rpc.gpio.world import OTHER_PI

    other = idle.add_pi(OTHER_PI)
    async with idle.running(Settings()):
        await idle.create("here")
        await idle.create("there", node_id=OTHER_PI)
        idle.agents.boards[PI].reachable = False
        heard = len(other.signs_of_life)

        async def heard_more() -> bool:
            await idle.clock.advance(1)
            return len(other.signs_of_life) > heard + 2

        await until_true(heard_more)


def test_settings_when_signs_of_life_come_too_late_are_refused() -> None:
    with pytest.raises(ValueError, match="health_seconds"):
        Settings(health_seconds=10, manager_ttl_seconds=15)
