"""CreateGpioResource: one owner a line, nothing half done, one effect however often it is asked."""

import asyncio
from typing import Any

import pytest

from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.gpio import boards
from picontroller.gpio.boards import Operation
from picontroller.gpio.resources import Level, Mode, Pin, Wish, new_resource
from picontroller.gpio.store import ResourceStore
from picontroller.v1 import gpio_pb2 as v1
from picontroller.v1 import types_pb2
from tests.rpc.gpio.world import OTHER_PI, PI, World, creation, until, until_true

HIGH = types_pb2.Level.HIGH


async def test_create_when_possible_drives_the_line_and_answers_all_that_holds(world: World) -> None:
    made = await world.create(value="HIGH")
    assert world.agents.boards[PI].level(17) is Level.HIGH
    assert (made.name, made.namespace, made.node_id, made.mode) == ("led", "default", PI, types_pb2.PinMode.OUTPUT)
    assert (made.safe, made.restore, made.drive) == (types_pb2.SafeState.INPUT, types_pb2.Restore.SAFE, types_pb2.Drive.PUSH_PULL)
    assert (made.pin.bcm, made.resolved.bcm, made.resolved.header, made.resolved.chip) == (17, 17, 11, "fake")
    assert (made.value, made.observed.value, made.observed.stale) == (HIGH, HIGH, False)
    assert made.create_time.ToDatetime() == world.clock.now().replace(tzinfo=None)
    assert (made.epoch.term, made.epoch.counter) == (1, 1)
    assert made.etag
    assert (await world.get(made)) == made
    [event] = await world.until_told("gpio.created")
    assert (event.resource, event.namespace, event.node_id) == ("led", "default", PI)
    assert dict(event.data) == {"id": made.id, "pin": 17, "header": 11, "mode": "output", "state": "high"}


async def test_create_when_nothing_is_said_of_the_level_is_safe(world: World) -> None:
    made = await world.create(safe="HIGH")
    assert (made.value, made.observed.value) == (types_pb2.Level.UNSPECIFIED, HIGH)


async def test_create_when_an_input_has_the_fields_of_inputs(world: World) -> None:
    made = await world.create(mode="INPUT", edge="BOTH", debounce="0.005s", bias="PULL_UP")
    assert (made.safe, made.drive, made.edge) == (types_pb2.SafeState.UNSPECIFIED, types_pb2.Drive.UNSPECIFIED, types_pb2.Edge.BOTH)
    assert (made.debounce.ToMilliseconds(), made.bias) == (5, types_pb2.Bias.PULL_UP)
    config = world.agents.boards[PI].lines[17].config
    assert config.debounce == 5000


@pytest.mark.parametrize("pin", [{"header": 11}, {"name": "GPIO17"}, {"name": "bcm17"}, {"name": "J8:11"}, {"name": "BOARD11"}])
async def test_create_when_the_line_is_named_otherwise_takes_the_same_line(world: World, pin: dict[str, Any]) -> None:
    made = await world.create(pin=pin)
    assert made.resolved.bcm == 17
    with pytest.raises(errors.AlreadyExists):
        await world.create("other", pin={"bcm": 17})


async def test_create_when_named_as_the_kernel_does_asks_the_nodes_lines(world: World) -> None:
    assert (await world.create(pin={"name": "SPI_MOSI"})).resolved.bcm == 10
    with pytest.raises(errors.InvalidArgument) as caught:
        await world.create("other", pin={"name": "NO_SUCH_LINE"})
    assert (caught.value.reason, caught.value.violations[0].field) == ("PIN_UNKNOWN", "pin.name")


async def test_create_when_the_name_is_taken_changes_nothing(world: World) -> None:
    first = await world.create()
    with pytest.raises(errors.AlreadyExists) as caught:
        await world.create(pin={"bcm": 18})
    assert (caught.value.reason, caught.value.metadata["id"]) == ("NAME_TAKEN", first.id)
    assert 18 not in world.agents.boards[PI].lines
    assert (await world.create(namespace="elsewhere", pin={"bcm": 18})).namespace == "elsewhere"


async def test_create_when_many_race_for_one_line_has_one_winner(world: World) -> None:
    tries = [world.create(f"racer-{number}", value="HIGH") for number in range(20)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    winners = [outcome for outcome in outcomes if isinstance(outcome, v1.GpioResource)]
    losers = [outcome for outcome in outcomes if isinstance(outcome, errors.AlreadyExists)]
    assert (len(winners), len(losers)) == (1, 19)
    assert {loser.reason for loser in losers} == {"PIN_TAKEN"}
    assert {loser.metadata["name"] for loser in losers} == {winners[0].name}
    assert len(world.agents.boards[PI].batches) == 1


async def test_create_when_the_node_is_unknown_is_not_found(world: World) -> None:
    with pytest.raises(errors.NotFound) as caught:
        await world.create(node_id=OTHER_PI)
    assert caught.value.reason == "NODE_UNKNOWN"


@pytest.mark.parametrize("noticed", [True, False])
async def test_create_when_the_node_is_offline_changes_nothing(world: World, noticed: bool) -> None:
    world.lose() if noticed else setattr(world.agents.boards[PI], "reachable", False)
    with pytest.raises(errors.Unavailable) as caught:
        await world.create()
    assert caught.value.reason == "NODE_OFFLINE"
    assert not (await world.listed()).gpio_resources
    world.regain()
    assert (await world.create()).name == "led"


async def test_create_when_the_agent_refuses_passes_it_on_and_changes_nothing(world: World) -> None:
    board = world.agents.boards[PI]
    board.refusals[17] = errors.FailedPrecondition("GPIO17 is claimed by w1", reason="LINE_BUSY")
    with pytest.raises(errors.FailedPrecondition) as caught:
        await world.create()
    assert (caught.value.reason, caught.value.message) == ("LINE_BUSY", "GPIO17 is claimed by w1")
    assert not (await world.listed()).gpio_resources
    board.refusals.clear()
    assert (await world.create()).name == "led"
    assert not world.told("gpio.deleted")


async def test_create_when_the_answer_is_lost_gives_the_line_back(world: World) -> None:
    board = world.agents.boards[PI]
    board.unheard = True
    with pytest.raises(errors.DeadlineExceeded):
        await world.create(value="HIGH")
    assert not (await world.listed()).gpio_resources
    board.unheard = False
    await until(lambda: 17 not in board.lines)


async def test_create_when_the_request_id_is_repeated_has_one_effect(world: World) -> None:
    first = await world.create(request_id="again", value="HIGH")
    await world.update(first, value="LOW")
    second = await world.create(request_id="again", value="HIGH")
    assert second == first
    assert world.agents.boards[PI].level(17) is Level.LOW
    with pytest.raises(errors.Conflict) as caught:
        await world.create("other", request_id="again")
    assert caught.value.reason == "REQUEST_ID_REUSED"


async def test_create_when_repeated_at_the_same_moment_has_one_effect(world: World) -> None:
    made = await asyncio.gather(*(world.create(request_id="again") for _ in range(5)))
    assert len({one.id for one in made}) == 1
    assert len(await world.until_told("gpio.created")) == 1


async def test_create_when_cancelled_half_way_is_finished(world: World) -> None:
    board = world.agents.boards[PI]
    board.gate = asyncio.Event()
    call = asyncio.ensure_future(world.create(value="HIGH", request_id="cut"))
    await until(lambda: board.waiting_at_gate == 1)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    board.gate.set()
    [event] = await world.until_told("gpio.created")
    assert (await world.create(value="HIGH", request_id="cut")).id == event.data["id"]


async def test_create_when_the_manager_died_half_way_is_taken_back(idle: World) -> None:
    board = idle.agents.boards[PI]
    wish = Wish("led", "default", PI, Pin("bcm", "17"), Mode.OUTPUT, Level.HIGH)
    store = await ResourceStore.open(idle.folder / "gpio")
    await store.begin()
    reserved = await store.reserve(new_resource(wish, 17, idle.clock.now()))
    operation = Operation(17, boards.configuration(reserved, Level.HIGH), reserved.epoch)
    await idle.agents.control(await idle.nodes.find(PI), [operation], 5)
    await store.database.close()
    async with idle.running():
        await until(lambda: 17 not in board.lines)
        assert not (await idle.listed()).gpio_resources
        assert (await idle.create()).epoch.term == 2
        await idle.until_told("gpio.created")
        assert idle.told()[0].type == "gpio.created"


async def test_create_when_its_line_waits_to_be_released_keeps_it(world: World) -> None:
    board = world.agents.boards[PI]
    board.unheard = True
    with pytest.raises(errors.DeadlineExceeded):
        await world.create(value="HIGH")
    world.lose()
    board.unheard = False
    world.regain()
    made = await world.create("heir", value="HIGH")
    await world.clock.advance(30)
    assert (await world.get(made)).observed.value == HIGH


@pytest.mark.parametrize("who", ["node/" + PI, "svc/events", "gateway", "user/mona monitor"])
async def test_create_when_not_allowed_is_refused(world: World, who: str) -> None:
    name, *roles = who.split()
    with pytest.raises((errors.PermissionDenied, errors.Unauthenticated)):
        await rpc.unary(world.stub(name, *roles).CreateGpioResource, creation())
    assert not world.agents.boards[PI].batches


async def test_create_when_an_operator_asks_is_allowed(world: World) -> None:
    await rpc.unary(world.stub("user/otto", "gpio-operator").CreateGpioResource, creation())


async def test_create_when_events_follow_are_told_after_it(world: World) -> None:
    made = await world.create(value="HIGH")
    await world.write((made, "LOW"))

    async def told() -> bool:
        return len(world.told("gpio.state.changed")) >= 2

    await until_true(told)
    assert [event.type for event in world.told()] == ["gpio.created", "gpio.state.changed", "gpio.state.changed"]
    assert [event.data["cause"] for event in world.told("gpio.state.changed")] == ["configure", "write"]
    last = world.told()[-1]
    assert (last.data["pin"], last.data["state"], last.data["id"], last.data["sequence"]) == (17, "low", made.id, 2)
