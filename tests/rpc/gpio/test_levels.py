"""GetGpioResource, ReadPins and WritePins: the hardware's word, whole batches, one node's failure."""

import asyncio

import pytest

from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.gpio.resources import Level
from picontroller.v1 import gpio_pb2 as v1
from picontroller.v1 import types_pb2
from tests.fakes.clock import settle
from tests.rpc.gpio.world import OTHER_PI, PI, World, until

HIGH, LOW = types_pb2.Level.HIGH, types_pb2.Level.LOW


async def test_get_when_the_level_moved_by_itself_reads_the_hardware(world: World) -> None:
    button = await world.create("button", mode="INPUT", pin={"bcm": 4})
    assert button.observed.value == LOW
    await world.agents.boards[PI].drive(4, Level.HIGH)
    await world.clock.advance(1)
    found = await world.get(button)
    assert (found.observed.value, found.observed.stale) == (HIGH, False)
    assert found.observed.time.ToDatetime() == world.clock.now().replace(tzinfo=None)
    assert found.etag == button.etag


@pytest.mark.parametrize("noticed", [True, False])
async def test_get_when_the_node_is_away_answers_what_was_seen_last_as_stale(world: World, noticed: bool) -> None:
    button = await world.create("button", mode="INPUT", pin={"bcm": 4})
    await world.agents.boards[PI].drive(4, Level.HIGH)
    seen = (await world.get(button)).observed
    world.lose() if noticed else setattr(world.agents.boards[PI], "reachable", False)
    found = await world.get(button)
    assert (found.observed.value, found.observed.time, found.observed.stale) == (HIGH, seen.time, True)


async def test_get_when_the_node_was_forgotten_is_stale(world: World) -> None:
    made = await world.create()
    world.nodes.remove(PI)
    assert (await world.get(made)).observed.stale


async def test_get_when_there_is_none_names_it(world: World) -> None:
    with pytest.raises(errors.NotFound) as caught:
        await world.get(v1.GpioResource(id="no-such"))
    assert (caught.value.reason, caught.value.metadata) == ("GPIO_RESOURCE_UNKNOWN", {"id": "no-such"})


async def test_write_when_possible_moves_all_in_one_call(world: World) -> None:
    board = world.agents.boards[PI]
    leds = [await world.create(f"led-{bcm}", pin={"bcm": bcm}) for bcm in (17, 18, 27)]
    board.batches.clear()
    outcomes = await world.write((leds[2], "HIGH"), (leds[0], "HIGH"), (leds[1], "LOW"))
    assert [(outcome.id, outcome.observed.value) for outcome in outcomes] == [
        (leds[2].id, HIGH),
        (leds[0].id, HIGH),
        (leds[1].id, LOW),
    ]
    assert [[operation.bcm for operation in batch] for batch in board.batches] == [[27, 17, 18]]
    found = await world.get(leds[0])
    assert (found.value, found.etag != leds[0].etag) == (HIGH, True)


async def test_write_when_the_value_is_as_before_keeps_the_etag(world: World) -> None:
    led = await world.create(value="HIGH")
    await world.write((led, "HIGH"))
    assert (await world.get(led)).etag == led.etag


async def test_write_when_one_line_fails_moves_none(world: World) -> None:
    board = world.agents.boards[PI]
    first, second = await world.create("a", value="LOW"), await world.create("b", value="LOW", pin={"bcm": 18})
    board.refusals[18] = errors.Unavailable("the chip does not answer", reason="HARDWARE_ERROR")
    with pytest.raises(errors.Unavailable) as caught:
        await world.write((first, "HIGH"), (second, "HIGH"))
    assert caught.value.reason == "HARDWARE_ERROR"
    assert board.level(17) is Level.LOW
    assert ((await world.get(first)).value, (await world.get(first)).etag) == (LOW, first.etag)


async def test_write_when_a_line_is_an_input_moves_none(world: World) -> None:
    led, button = await world.create(), await world.create("button", mode="INPUT", pin={"bcm": 4})
    with pytest.raises(errors.FailedPrecondition) as caught:
        await world.write((led, "HIGH"), (button, "HIGH"))
    assert (caught.value.reason, caught.value.metadata["id"]) == ("NOT_AN_OUTPUT", button.id)
    assert world.agents.boards[PI].level(17) is Level.LOW


async def test_write_when_an_id_is_unknown_moves_none(world: World) -> None:
    led = await world.create()
    with pytest.raises(errors.NotFound) as caught:
        await world.write((led, "HIGH"), (v1.GpioResource(id="no-such"), "HIGH"))
    assert caught.value.metadata["id"] == "no-such"
    assert world.agents.boards[PI].level(17) is Level.LOW


async def test_write_when_an_id_stands_twice_moves_none(world: World) -> None:
    led = await world.create()
    with pytest.raises(errors.InvalidArgument) as caught:
        await world.write((led, "HIGH"), (led, "LOW"))
    assert [violation.field for violation in caught.value.violations] == ["writes[1].id"]
    assert world.agents.boards[PI].level(17) is Level.LOW


@pytest.mark.parametrize("noticed", [True, False])
async def test_write_when_the_node_is_offline_changes_nothing(world: World, noticed: bool) -> None:
    led = await world.create(value="LOW")
    world.lose() if noticed else setattr(world.agents.boards[PI], "reachable", False)
    with pytest.raises(errors.Unavailable) as caught:
        await world.write((led, "HIGH"))
    assert caught.value.reason == "NODE_OFFLINE"
    found = await world.get(led)
    assert (found.value, found.etag) == (LOW, led.etag)


async def test_write_when_one_of_two_nodes_is_offline_answers_for_each(world: World) -> None:
    world.add_pi(OTHER_PI)
    here, there = await world.create("here"), await world.create("there", node_id=OTHER_PI)
    world.lose(OTHER_PI)
    outcomes = await world.write((there, "HIGH"), (here, "HIGH"), request_id="both")
    assert (outcomes[0].id, outcomes[0].error.code, outcomes[0].HasField("observed")) == (there.id, 14, False)
    assert (outcomes[1].id, outcomes[1].HasField("error"), outcomes[1].observed.value) == (here.id, False, HIGH)
    assert ((await world.get(here)).value, (await world.get(there)).value) == (HIGH, types_pb2.Level.UNSPECIFIED)
    assert await world.write((there, "HIGH"), (here, "HIGH"), request_id="both") == outcomes


async def test_write_when_the_request_id_is_repeated_moves_once(world: World) -> None:
    led = await world.create()
    first = await world.write((led, "HIGH"), request_id="pulse")
    await world.write((led, "LOW"))
    assert await world.write((led, "HIGH"), request_id="pulse") == first
    assert world.agents.boards[PI].level(17) is Level.LOW


async def test_write_when_it_failed_may_be_repeated_with_its_id(world: World) -> None:
    led = await world.create()
    world.lose()
    with pytest.raises(errors.Unavailable):
        await world.write((led, "HIGH"), request_id="pulse")
    world.regain()
    assert (await world.write((led, "HIGH"), request_id="pulse"))[0].observed.value == HIGH


async def test_write_when_many_write_at_once_leaves_disk_and_line_agreeing(world: World) -> None:
    led = await world.create()
    await asyncio.gather(*(world.write((led, "HIGH" if number % 2 else "LOW")) for number in range(40)))
    found = await world.get(led)
    assert found.value == found.observed.value


async def test_write_when_another_is_under_way_waits_for_it_to_be_kept(world: World) -> None:
    board = world.agents.boards[PI]
    led, other = await world.create(), await world.create("other", pin={"bcm": 18})
    board.gate = asyncio.Event()
    calls = [asyncio.ensure_future(world.write((led, level), (other, level))) for level in ("HIGH", "LOW", "HIGH")]
    alone = asyncio.ensure_future(world.create("alone", pin={"bcm": 27}))
    await until(lambda: board.waiting_at_gate == 2)
    await settle()
    assert (board.waiting_at_gate, all(not call.done() for call in calls)) == (2, True)
    board.gate.set()
    await asyncio.gather(*calls, alone)
    assert [operation.action for batch in board.batches for operation in batch if operation.bcm == 18][-3:] == [
        operation.action for batch in board.batches for operation in batch if operation.bcm == 17
    ][-3:]


async def test_write_when_cancelled_half_way_is_finished(world: World) -> None:
    board = world.agents.boards[PI]
    led = await world.create()
    board.gate = asyncio.Event()
    call = asyncio.ensure_future(world.write((led, "HIGH"), request_id="cut"))
    await until(lambda: board.waiting_at_gate == 1)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    board.gate.set()
    board.gate = None
    assert (await world.write((led, "HIGH"), request_id="cut"))[0].observed.value == HIGH
    assert (await world.get(led)).value == HIGH
    assert sum(type(batch[0].action).__name__ == "Write" for batch in board.batches) == 1


async def test_read_when_asked_answers_in_order_from_the_hardware(world: World) -> None:
    world.add_pi(OTHER_PI)
    here, there = await world.create("here", value="HIGH"), await world.create("there", node_id=OTHER_PI)
    outcomes = await world.read(there, here)
    assert [(outcome.id, outcome.observed.value, outcome.observed.stale) for outcome in outcomes] == [
        (there.id, LOW, False),
        (here.id, HIGH, False),
    ]


async def test_read_when_the_node_is_away_answers_what_was_seen_last(world: World) -> None:
    led = await world.create(value="HIGH")
    world.lose()
    [outcome] = await world.read(led)
    assert (outcome.observed.value, outcome.observed.stale, outcome.HasField("error")) == (HIGH, True, False)


async def test_read_when_the_agent_refuses_is_the_calls_error(world: World) -> None:
    led = await world.create()
    world.agents.boards[PI].refusals[17] = errors.FailedPrecondition("not in use", reason="LINE_NOT_CONFIGURED")
    with pytest.raises(errors.FailedPrecondition):
        await world.read(led)


async def test_read_when_the_hardware_fails_is_not_passed_off_as_old(world: World) -> None:
    led = await world.create()
    world.agents.boards[PI].refusals[17] = errors.Unavailable("the chip does not answer", reason="HARDWARE_ERROR")
    with pytest.raises(errors.Unavailable) as caught:
        await world.read(led)
    assert caught.value.reason == "HARDWARE_ERROR"


async def test_read_when_an_id_is_unknown_names_it(world: World) -> None:
    with pytest.raises(errors.NotFound) as caught:
        await world.read(v1.GpioResource(id="no-such"))
    assert caught.value.metadata["id"] == "no-such"


async def test_list_when_there_are_many_pages_through_all_once(world: World) -> None:
    made = [await world.create(f"led-{bcm}", pin={"bcm": bcm}) for bcm in (17, 18, 22, 23, 27)]
    seen, token = [], ""
    for _ in range(3):
        page = await world.listed(page_size=2, page_token=token)
        seen += [resource.id for resource in page.gpio_resources]
        token = page.next_page_token
    assert (seen, token) == (sorted(resource.id for resource in made), "")
    assert not page.gpio_resources[0].observed.stale


async def test_list_when_filtered_leaves_the_others_out(world: World) -> None:
    world.add_pi(OTHER_PI)
    here, there = await world.create("here"), await world.create("there", node_id=OTHER_PI, namespace="lab")
    assert [resource.id for resource in (await world.listed(node_id=PI)).gpio_resources] == [here.id]
    assert [resource.id for resource in (await world.listed(namespace="lab")).gpio_resources] == [there.id]
    world.lose()
    assert (await world.listed(node_id=PI)).gpio_resources[0].observed.stale


async def test_list_when_the_token_belongs_to_another_listing_is_invalid(world: World) -> None:
    for bcm in (17, 18):
        await world.create(f"led-{bcm}", pin={"bcm": bcm})
    token = (await world.listed(page_size=1)).next_page_token
    for wrong in ("rubbish", token[:4] + ("B" if token[4] != "B" else "C") + token[5:]):
        with pytest.raises(errors.InvalidArgument):
            await world.listed(page_token=wrong)
    with pytest.raises(errors.InvalidArgument) as caught:
        await world.listed(page_token=token, namespace="lab")
    assert caught.value.reason == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize("method", ["ListGpioResources", "GetGpioResource", "ReadPins"])
@pytest.mark.parametrize(
    ("who", "allowed"), [("user/mona monitor", True), ("svc/events", False), ("node/" + PI, False), ("gateway", False)]
)
async def test_reading_when_asked_by_somebody_is_decided_by_role(world: World, method: str, who: str, allowed: bool) -> None:
    led = await world.create()
    requests = {
        "ListGpioResources": v1.ListGpioResourcesRequest(),
        "GetGpioResource": v1.GetGpioResourceRequest(id=led.id),
        "ReadPins": v1.ReadPinsRequest(ids=[led.id]),
    }
    name, *roles = who.split()
    call = rpc.unary(getattr(world.stub(name, *roles), method), requests[method])
    if allowed:
        await call
    else:
        with pytest.raises((errors.PermissionDenied, errors.Unauthenticated)):
            await call


@pytest.mark.parametrize("who", ["user/mona monitor", "svc/events", "node/" + PI, "gateway"])
async def test_writing_when_not_allowed_moves_nothing(world: World, who: str) -> None:
    led = await world.create()
    name, *roles = who.split()
    stub = world.stub(name, *roles)
    writes = v1.WritePinsRequest(writes=[v1.PinWrite(id=led.id, value=HIGH)])
    for call in (
        rpc.unary(stub.WritePins, writes),
        rpc.unary(stub.UpdateGpioResource, v1.UpdateGpioResourceRequest(id=led.id, value=HIGH)),
        rpc.unary(stub.DeleteGpioResource, v1.DeleteGpioResourceRequest(id=led.id)),
    ):
        with pytest.raises((errors.PermissionDenied, errors.Unauthenticated)):
            await call
    assert world.agents.boards[PI].level(17) is Level.LOW
    assert len((await world.listed()).gpio_resources) == 1
