"""Abuse of pins, as the GPIO manager answers it: lines that nobody may have, and requests that say nothing or too much."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.v1 import gpio_pb2 as v1
from picontroller.v1 import types_pb2
from tests.rpc.gpio.world import PI, World, creation, opened


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path) as world:
        world.add_pi()
        async with world.running():
            yield world


async def refused(world: World, request: v1.CreateGpioResourceRequest) -> errors.InvalidArgument:
    """Return why a creation is invalid, after making sure that nothing happened."""
    with pytest.raises(errors.InvalidArgument) as caught:
        await rpc.unary(world.stub().CreateGpioResource, request)
    assert not world.agents.boards[PI].batches
    assert not (await world.listed()).gpio_resources
    return caught.value


@pytest.mark.parametrize(
    ("pin", "reason", "field"),
    [
        ({"bcm": 0}, "PIN_RESERVED", "pin.bcm"),
        ({"bcm": 1}, "PIN_RESERVED", "pin.bcm"),
        ({"bcm": 28}, "INVALID_ARGUMENT", "pin.bcm"),
        ({"bcm": 41}, "INVALID_ARGUMENT", "pin.bcm"),
        ({"bcm": 4294967295}, "INVALID_ARGUMENT", "pin.bcm"),
        ({"header": 0}, "INVALID_ARGUMENT", "pin.header"),
        ({"header": 41}, "INVALID_ARGUMENT", "pin.header"),
        ({"header": 1}, "PIN_POWER", "pin.header"),
        ({"header": 2}, "PIN_POWER", "pin.header"),
        ({"header": 6}, "PIN_POWER", "pin.header"),
        ({"header": 17}, "PIN_POWER", "pin.header"),
        ({"header": 27}, "PIN_RESERVED", "pin.header"),
        ({"header": 28}, "PIN_RESERVED", "pin.header"),
        ({"name": "GPIO0"}, "PIN_RESERVED", "pin.name"),
        ({"name": "GPIO28"}, "PIN_UNKNOWN", "pin.name"),
        ({"name": "BOARD17"}, "PIN_POWER", "pin.name"),
        ({"name": "J8:41"}, "PIN_UNKNOWN", "pin.name"),
        ({"name": "ID_SDA"}, "PIN_RESERVED", "pin.name"),
        ({"name": "17"}, "PIN_UNKNOWN", "pin.name"),
        ({"name": "GPIO17; rm -rf /"}, "INVALID_ARGUMENT", "pin.name"),
        ({"name": ""}, "INVALID_ARGUMENT", "pin.name"),
    ],
)
async def test_abuse_71_pin_that_nobody_may_have_is_invalid(world: World, pin: dict[str, Any], reason: str, field: str) -> None:
    error = await refused(world, creation(pin=pin))
    assert (error.reason, {violation.field for violation in error.violations}) == (reason, {field})


async def test_abuse_71_header_position_is_never_taken_for_a_bcm_number(world: World) -> None:
    by_position, by_number = await world.create("a", pin={"header": 16}), await world.create("b", pin={"bcm": 16})
    assert [(one.resolved.bcm, one.resolved.header) for one in (by_position, by_number)] == [(23, 16), (16, 36)]


@pytest.mark.parametrize(
    "request_", [creation(pin={}), v1.CreateGpioResourceRequest(name="led", node_id=PI, mode=types_pb2.PinMode.OUTPUT)]
)
async def test_abuse_39_unset_oneof_is_invalid_and_changes_nothing(world: World, request_: v1.CreateGpioResourceRequest) -> None:
    error = await refused(world, request_)
    assert [violation.field for violation in error.violations] == ["pin.ref" if request_.HasField("pin") else "pin"]


@pytest.mark.parametrize("field", ["mode", "value", "safe", "restore", "bias", "drive", "edge"])
async def test_abuse_39_unknown_enum_number_in_creation_is_invalid_and_changes_nothing(world: World, field: str) -> None:
    request = creation(mode="INPUT" if field == "edge" else "OUTPUT")
    setattr(request, field, 99)
    assert field in {violation.field for violation in (await refused(world, request)).violations}


@pytest.mark.parametrize("field", ["value", "safe", "restore", "bias", "edge"])
async def test_abuse_39_unknown_enum_number_in_update_is_invalid_and_changes_nothing(world: World, field: str) -> None:
    made = await world.create()
    request = v1.UpdateGpioResourceRequest(id=made.id)
    setattr(request, field, 99)
    with pytest.raises(errors.InvalidArgument) as caught:
        await rpc.unary(world.stub().UpdateGpioResource, request)
    assert [violation.field for violation in caught.value.violations] == [field]
    assert await world.get(made) == made


@pytest.mark.parametrize("level", [0, 99, -1])
async def test_abuse_39_unknown_level_in_a_batch_is_invalid_and_moves_nothing(world: World, level: int) -> None:
    made, other = await world.create(value="LOW"), await world.create("other", value="LOW", pin={"bcm": 18})
    request = v1.WritePinsRequest(writes=[v1.PinWrite(id=made.id, value=types_pb2.Level.HIGH), v1.PinWrite(id=other.id)])
    request.writes[1].value = types_pb2.Level.Value.ValueType(level)
    with pytest.raises(errors.InvalidArgument) as caught:
        await rpc.unary(world.stub().WritePins, request)
    assert [violation.field for violation in caught.value.violations] == ["writes[1].value"]
    assert await world.get(made) == made


@pytest.mark.parametrize("path", ["name", "id", "pin.bcm", "value.x", "nonsense", "", "*", "node_id", "etag"])
async def test_abuse_39_bad_mask_path_is_invalid_names_it_and_changes_nothing(world: World, path: str) -> None:
    made = await world.create(value="LOW")
    request = v1.UpdateGpioResourceRequest(id=made.id, value=types_pb2.Level.HIGH)
    request.update_mask.paths.extend(["value", path])
    with pytest.raises(errors.InvalidArgument) as caught:
        await rpc.unary(world.stub().UpdateGpioResource, request)
    assert caught.value.reason == "UPDATE_MASK_INVALID"
    assert [repr(path) in violation.description for violation in caught.value.violations] == [True]
    assert await world.get(made) == made


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "Led"},
        {"name": "a" * 64},
        {"name": "-led"},
        {"namespace": "No_Good"},
        {"node_id": "../../etc"},
        {"node_id": ""},
        {"mode": "INPUT", "value": "HIGH"},
        {"mode": "INPUT", "safe": "LOW"},
        {"mode": "OUTPUT", "edge": "BOTH"},
        {"mode": "OUTPUT", "debounce": "0.1s"},
        {"mode": "INPUT", "debounce": "1.1s"},
        {"mode": "INPUT", "debounce": "-0.1s"},
        {"request_id": "x" * 65},
    ],
)
async def test_creation_when_a_field_can_not_be_right_is_invalid(world: World, fields: dict[str, Any]) -> None:
    assert (await refused(world, creation(**fields))).violations


@pytest.mark.parametrize("ids", [[], ["a", "a"], [""], ["a" * 65], ["../x"], [str(number) for number in range(257)]])
async def test_reading_when_the_ids_can_not_be_right_is_invalid(world: World, ids: list[str]) -> None:
    with pytest.raises(errors.InvalidArgument):
        await rpc.unary(world.stub().ReadPins, v1.ReadPinsRequest(ids=ids))
