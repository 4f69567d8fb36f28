"""The GPIO manager over a real agent with simulated hardware: from the call to the line and from the line to the event."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from picontroller.core import errors
from picontroller.core.rpc.wiring import Surroundings
from picontroller.gpio import wiring
from picontroller.gpio.boards import Batch, Health, Node, Operation, Outcome, Position
from picontroller.gpio.resources import Level
from picontroller.gpio.settings import Settings
from picontroller.v1 import types_pb2
from tests.contract.gpio.benches import RealBench, real_bench
from tests.rpc.gpio.world import World, opened

HIGH, LOW = types_pb2.Level.HIGH, types_pb2.Level.LOW


@dataclass
class NewestAgent:
    """The agent of a bench, whichever run it is in."""

    bench: RealBench

    async def control(self, node: Node, operations: Sequence[Operation], seconds: float) -> list[Outcome]:
        return await self.bench.agents.control(node, operations, seconds)

    async def health(self, node: Node, manager_ttl_seconds: float) -> Health:
        return await self.bench.agents.health(node, manager_ttl_seconds)

    def events(self, node: Node, after: Position | None) -> AsyncGenerator[Batch, None]:
        return self.bench.agents.events(node, after)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[RealBench]:
    (tmp_path / "pi").mkdir()
    async with real_bench(tmp_path / "pi") as running:
        yield running


@pytest.fixture
async def world(tmp_path: Path, bench: RealBench) -> AsyncIterator[World]:
    async with opened(tmp_path) as world:
        world.clock = bench.clock
        world.nodes.put(bench.node)
        async with world.running(agents=NewestAgent(bench)):
            yield world


async def test_pin_when_created_written_and_deleted_moves_and_is_told(world: World, bench: RealBench) -> None:
    led = await world.create(node_id=bench.node.id, safe="LOW")
    assert (led.resolved.chip, led.observed.value) == ("pinctrl-bcm2711", LOW)
    assert (await world.write((led, "HIGH")))[0].observed.value == HIGH
    assert bench.level(17) is Level.HIGH
    assert (await world.get(led)).observed.value == HIGH
    await world.delete(led)
    assert bench.level(17) is Level.LOW
    await world.until_told("gpio.deleted")
    assert [event.type for event in world.told()][:3] == ["gpio.created", "gpio.state.changed", "gpio.state.changed"]
    assert [event.data["state"] for event in world.told("gpio.state.changed")][:2] == ["low", "high"]


async def test_edges_when_they_happen_are_told_in_order(world: World, bench: RealBench) -> None:
    await world.create("button", node_id=bench.node.id, mode="INPUT", pin={"bcm": 27}, edge="BOTH")
    for level in (Level.HIGH, Level.LOW, Level.HIGH):
        await bench.drive(27, level)
    events = await world.until_told("gpio.edge", 3)
    assert [event.data["state"] for event in events] == ["high", "low", "high"]


async def test_agent_when_restarted_has_its_lines_back_as_wished(world: World, bench: RealBench) -> None:
    await world.create("safe", node_id=bench.node.id, value="HIGH", safe="LOW")
    await world.create("back", node_id=bench.node.id, value="HIGH", safe="LOW", restore="DESIRED", pin={"bcm": 18})
    button = await world.create("button", node_id=bench.node.id, mode="INPUT", pin={"bcm": 27}, edge="BOTH")
    await bench.restart()
    assert (bench.level(17), bench.level(18)) == (Level.LOW, Level.LOW)
    await world.until_told_in_time("gpio.restored", 3)
    assert (bench.level(17), bench.level(18)) == (Level.LOW, Level.HIGH)
    assert not (await world.get(button)).observed.stale


async def test_agent_when_it_heard_nothing_has_wanted_values_back(world: World, bench: RealBench) -> None:
    await world.create("back", node_id=bench.node.id, value="HIGH", safe="LOW", restore="DESIRED")
    world.nodes.put(Node(bench.node.id, bench.node.address, online=False))
    for _ in range(4):
        await bench.clock.advance(10)
    assert bench.level(17) is Level.LOW
    world.nodes.put(bench.node)
    await world.in_time(lambda: bench.level(17) is Level.HIGH)


async def test_create_when_the_board_uses_the_line_passes_the_reason_on(world: World, bench: RealBench) -> None:
    with pytest.raises(errors.Error) as caught:
        await world.create(node_id=bench.node.id, pin={"bcm": 2})
    assert caught.value.reason == "PIN_RESERVED"
    assert not (await world.listed()).gpio_resources


async def test_write_when_the_hardware_fails_says_so_and_changes_nothing(world: World, bench: RealBench) -> None:
    led = await world.create(node_id=bench.node.id, value="LOW")
    bench.fail_next()
    with pytest.raises(errors.Unavailable) as caught:
        await world.write((led, "HIGH"))
    assert caught.value.reason == "HARDWARE_ERROR"
    found = await world.get(led)
    assert (found.value, found.observed.value, found.etag) == (LOW, LOW, led.etag)


async def test_build_when_asked_has_all_background_work(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        identity = world.authority.identity(tmp_path / "identity", "svc/gpio")
        surroundings = Surroundings("gpio", tmp_path / "gpio", Settings(), identity, world.mesh("svc/gpio"), world.clock)
        async with wiring.build(surroundings) as service:
            assert (service.name, set(service.background)) == ("gpio", {"nodes", "nodes attended", "events", "audit", "audit upkeep"})
