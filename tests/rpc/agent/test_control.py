"""ControlGPIO over the wire: what moves, what is refused, and that a batch happens wholly or not at all."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from picontroller.agent.gpio import pins
from picontroller.agent.gpio.drivers import Direction, Feature
from picontroller.agent.gpio.drivers.simulation import Simulation
from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.v1 import agent_pb2 as v1
from picontroller.v1 import types_pb2
from tests.rpc.agent.world import Level, Mode, SafeState, World, configure, pin, read, release, world, write

HIGH, LOW = pins.Level.HIGH, pins.Level.LOW


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as running:
        yield running


async def test_output_when_written_moves_and_is_read_back(agent: World) -> None:
    answer = await agent.control(configure(17, value=Level.LOW, safe=SafeState.LOW), write(17, Level.HIGH))
    assert [result.observed.value for result in answer.results] == [Level.LOW, Level.HIGH]
    assert agent.driver.board.level(17) is HIGH
    assert answer.atomicity == "SIM"
    resolved = answer.results[0].resolved
    assert (resolved.bcm, resolved.header, resolved.chip, resolved.line, resolved.kernel_name) == (17, 11, "pinctrl-bcm2711", 17, "GPIO17")
    assert answer.results[1].observed.HasField("time")


async def test_input_when_read_shows_what_is_outside(agent: World) -> None:
    await agent.control(configure(27, mode=Mode.INPUT))
    agent.driver.board.drive(27, HIGH)
    answer = await agent.control(read(27))
    assert answer.results[0].observed.value == Level.HIGH


async def test_names_when_different_mean_the_same_line(agent: World) -> None:
    await agent.control(configure(17))
    refs = [
        types_pb2.PinRef(bcm=17),
        types_pb2.PinRef(header=11),
        *(types_pb2.PinRef(name=n) for n in ("GPIO17", "BCM17", "J8:11", "BOARD11")),
    ]
    answer = await agent.control(*(v1.PinOperation(pin=ref, read=v1.ReadPin()) for ref in refs))
    assert {result.resolved.bcm for result in answer.results} == {17}


async def test_output_when_released_is_undriven_and_forgotten(agent: World) -> None:
    await agent.control(configure(17, value=Level.HIGH))
    answer = await agent.control(release(17))
    assert not answer.results[0].HasField("observed")
    assert agent.driver.board.direction(17) is Direction.INPUT
    assert not agent.driver.board.held
    with pytest.raises(errors.FailedPrecondition) as caught:
        await agent.control(read(17))
    assert caught.value.reason == "LINE_NOT_CONFIGURED"


async def test_release_when_repeated_succeeds(agent: World) -> None:
    assert len((await agent.control(release(17), release(17))).results) == 2


async def test_batch_when_one_operation_is_wrong_moves_nothing(agent: World) -> None:
    await agent.control(configure(17, value=Level.LOW), configure(27, mode=Mode.INPUT))
    operations = agent.driver.board.operations
    with pytest.raises(errors.FailedPrecondition) as caught:
        await agent.control(write(17, Level.HIGH), write(27, Level.HIGH))
    assert (caught.value.reason, caught.value.metadata["operation"]) == ("NOT_AN_OUTPUT", "1")
    assert agent.driver.board.operations == operations


async def test_batch_when_hardware_fails_half_way_is_taken_back(agent: World) -> None:
    await agent.control(configure(17, value=Level.LOW), configure(27, value=Level.HIGH), configure(22, value=Level.LOW))
    agent.driver.board.fail(3)
    with pytest.raises(errors.Unavailable) as caught:
        await agent.control(write(17, Level.HIGH), write(27, Level.LOW), write(22, Level.HIGH))
    assert caught.value.reason == "HARDWARE_ERROR"
    assert [agent.driver.board.level(bcm) for bcm in (17, 27, 22)] == [LOW, HIGH, LOW]
    await agent.control(write(17, Level.HIGH), write(27, Level.LOW), write(22, Level.HIGH))
    assert [agent.driver.board.level(bcm) for bcm in (17, 27, 22)] == [HIGH, LOW, HIGH]


async def test_epoch_when_lower_is_refused_and_nothing_moves(agent: World) -> None:
    old, new = types_pb2.Epoch(term=2, counter=9), types_pb2.Epoch(term=3, counter=1)
    await agent.control(configure(17, old, value=Level.LOW), write(17, Level.LOW, new))
    with pytest.raises(errors.Conflict) as caught:
        await agent.control(write(17, Level.HIGH, old))
    assert (caught.value.reason, caught.value.metadata["epoch"]) == ("EPOCH_STALE", "3.1")
    assert agent.driver.board.level(17) is LOW


async def test_epoch_when_missing_is_refused_but_for_reading(agent: World) -> None:
    await agent.control(configure(17), read(17))
    with pytest.raises(errors.InvalidArgument) as caught:
        await agent.control(v1.PinOperation(pin=pin(17), write=v1.WritePin(value=Level.HIGH)))
    assert (caught.value.reason, caught.value.violations[0].field) == ("EPOCH_MISSING", "operations[0].epoch")


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        (types_pb2.PinRef(header=1), "PIN_POWER"),
        (types_pb2.PinRef(header=2), "PIN_POWER"),
        (types_pb2.PinRef(header=39), "PIN_POWER"),
        (types_pb2.PinRef(name="J8:17"), "PIN_POWER"),
        (types_pb2.PinRef(bcm=0), "PIN_RESERVED"),
        (types_pb2.PinRef(bcm=1), "PIN_RESERVED"),
        (types_pb2.PinRef(header=27), "PIN_RESERVED"),
        (types_pb2.PinRef(name="GPIO1"), "PIN_RESERVED"),
        (types_pb2.PinRef(name="GPIO28"), "PIN_UNKNOWN"),
        (types_pb2.PinRef(name="BOARD41"), "PIN_UNKNOWN"),
        (types_pb2.PinRef(name="J8:0"), "PIN_UNKNOWN"),
        (types_pb2.PinRef(name="17"), "PIN_UNKNOWN"),
        (types_pb2.PinRef(name="nothing"), "PIN_UNKNOWN"),
        (types_pb2.PinRef(bcm=28), "INVALID_ARGUMENT"),
        (types_pb2.PinRef(header=41), "INVALID_ARGUMENT"),
        (types_pb2.PinRef(header=0), "INVALID_ARGUMENT"),
        (types_pb2.PinRef(), "INVALID_ARGUMENT"),
    ],
)
async def test_abuse_71_pin_when_it_can_not_be_is_invalid_argument(agent: World, ref: types_pb2.PinRef, reason: str) -> None:
    operation = v1.PinOperation(pin=ref, epoch=types_pb2.Epoch(term=1), configure=v1.ConfigurePin(mode=Mode.OUTPUT, value=Level.HIGH))
    with pytest.raises(errors.InvalidArgument) as caught:
        await agent.control(operation)
    assert caught.value.reason == reason
    assert any(violation.field.startswith("operations[0].pin") for violation in caught.value.violations)
    assert agent.driver.board.operations == 0


async def test_line_when_a_bus_uses_it_is_refused(agent: World) -> None:
    with pytest.raises(errors.FailedPrecondition) as caught:
        await agent.control(configure(2))
    assert (caught.value.reason, caught.value.metadata["use"]) == ("PIN_RESERVED", "I2C1 in use")


async def test_line_when_held_by_another_program_names_it(tmp_path: Path) -> None:
    async with world(tmp_path, Simulation(claimed={4: "w1"})) as agent:
        with pytest.raises(errors.FailedPrecondition) as caught:
            await agent.control(configure(17, value=Level.HIGH), configure(4))
        assert (caught.value.reason, caught.value.metadata["consumer"]) == ("LINE_BUSY", "w1")
        assert agent.driver.board.direction(17) is Direction.INPUT
        assert not agent.driver.board.held


async def test_feature_when_the_board_lacks_it_is_unsupported(tmp_path: Path) -> None:
    async with world(tmp_path, Simulation(features=frozenset({Feature.BIAS}))) as agent:
        with pytest.raises(errors.Unsupported) as caught:
            await agent.control(configure(17, mode=Mode.INPUT, edge=types_pb2.Edge.BOTH))
        assert (caught.value.reason, caught.value.metadata["feature"]) == ("FEATURE_MISSING", "edges")


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"mode": Mode.INPUT, "value": Level.HIGH}, "operations[0].configure.value"),
        ({"mode": Mode.INPUT, "drive": types_pb2.Drive.OPEN_DRAIN}, "operations[0].configure.drive"),
        ({"mode": Mode.OUTPUT, "edge": types_pb2.Edge.RISING}, "operations[0].configure.edge"),
        ({"mode": Mode.UNSPECIFIED}, "operations[0].configure.mode"),
        ({"mode": 7}, "operations[0].configure.mode"),
        ({"mode": Mode.OUTPUT, "safe": 9}, "operations[0].configure.safe"),
    ],
)
async def test_configuration_when_it_contradicts_itself_names_the_field(agent: World, settings: dict[str, int], field: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        await agent.control(configure(17, **settings))
    assert field in {violation.field for violation in caught.value.violations}


@pytest.mark.parametrize("operations", [[], [read(17)] * 257, [v1.PinOperation(pin=pin(17))]], ids=["none", "too many", "nothing to do"])
async def test_batch_when_out_of_shape_is_invalid(agent: World, operations: list[v1.PinOperation]) -> None:
    with pytest.raises(errors.InvalidArgument):
        await agent.control(*operations)


@pytest.mark.parametrize("caller", ["svc/discovery", "svc/events", f"node/{'0' * 8}", "user/anna", "gateway"])
async def test_control_when_called_by_anyone_but_the_manager_is_refused(agent: World, caller: str) -> None:
    stub = agent.stub(caller, roles=("cluster-admin",) if caller.startswith("user/") else ())
    with pytest.raises((errors.PermissionDenied, errors.Unauthenticated)):
        await rpc.unary(stub.ControlGPIO, v1.ControlGPIORequest(operations=[configure(17, value=Level.HIGH)]))
    assert agent.driver.board.operations == 0


async def test_call_when_it_runs_out_of_time_before_its_turn_moves_nothing(agent: World) -> None:
    await agent.control(configure(17, value=Level.LOW))
    agent.driver.slow(30)
    with pytest.raises(errors.DeadlineExceeded):
        await rpc.unary(agent.stub().ControlGPIO, v1.ControlGPIORequest(operations=[write(17, Level.HIGH)]), seconds=0.2)
    agent.driver.slow(0)
    assert (await agent.control(read(17))).results[0].observed.value == Level.LOW
