"""What the GPIO manager may rely on in the list of nodes: the one in memory and the one that follows a real discovery say the same."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest

from picontroller.core import errors
from picontroller.core.clock import SystemClock
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.tasks import cancel_and_wait, keep_running
from picontroller.gpio.boards import Node, Nodes
from picontroller.gpio.nodes import DiscoveredNodes
from picontroller.v1 import discovery_pb2
from tests.fakes.nodes import FakeNodes
from tests.rpc.discovery import world as discovery

ADDRESS = "192.0.2.7:7450"
NAMES = (("GPIO17", 17),)


class Bench(Protocol):
    """A list under test, and the world that it tells of."""

    nodes: Nodes

    async def join(self, node_id: str) -> None:
        """Let a node join and be alive."""
        ...

    async def lose(self, node_id: str) -> None:
        """Let a node fall silent."""
        ...

    async def forget(self, node_id: str) -> None:
        """Forget a node."""
        ...


class FakeBench:
    """The list in memory."""

    def __init__(self) -> None:
        self._fake = FakeNodes()
        self.nodes: Nodes = self._fake

    async def join(self, node_id: str) -> None:
        self._fake.put(Node(node_id, ADDRESS, True, NAMES))

    async def lose(self, node_id: str) -> None:
        self._fake.put(Node(node_id, ADDRESS, False, NAMES))

    async def forget(self, node_id: str) -> None:
        self._fake.remove(node_id)


class RealBench:
    """A real discovery."""

    def __init__(self, world: discovery.World) -> None:
        self._world = world
        self.nodes: Nodes = DiscoveredNodes(world.mesh("svc/gpio"))

    async def join(self, node_id: str) -> None:
        lines = [{"pin": {"bcm": 17, "header": 11, "kernel_name": "GPIO17"}}]
        await self._world.register(node_id, agent_address=ADDRESS, capabilities={"model": "Pi", "lines": lines})
        await self._world.report(node_id)

    async def lose(self, node_id: str) -> None:
        await self._world.clock.until_sleeping()
        await self._world.clock.advance(60)
        await self._world.until_status(node_id, "LOST")

    async def forget(self, node_id: str) -> None:
        await rpc.unary(self._world.stub().DeleteNode, discovery_pb2.DeleteNodeRequest(id=node_id))


@asynccontextmanager
async def real_bench(folder: Path) -> AsyncIterator[RealBench]:
    async with discovery.opened(folder) as world, world.running():
        bench = RealBench(world)
        assert isinstance(bench.nodes, DiscoveredNodes)
        following = asyncio.get_running_loop().create_task(keep_running("nodes", bench.nodes.run, SystemClock()))
        try:
            yield bench
        finally:
            await cancel_and_wait(following)


@pytest.fixture(params=["fake", "real"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    if request.param == "fake":
        yield FakeBench()
        return
    async with real_bench(tmp_path) as running:
        yield running


async def test_node_when_joined_is_found_and_known(bench: Bench) -> None:
    node_id = discovery.new_node_id()
    changes: list[int] = []
    bench.nodes.on_change(lambda: changes.append(1))
    await bench.join(node_id)
    assert await bench.nodes.find(node_id) == Node(node_id, ADDRESS, True, NAMES)
    await discovery.until(lambda: bench.nodes.known().get(node_id) == Node(node_id, ADDRESS, True, NAMES))
    assert changes


async def test_node_when_nobody_knows_it_is_not_found(bench: Bench) -> None:
    with pytest.raises(errors.NotFound) as caught:
        await bench.nodes.find(discovery.new_node_id())
    assert caught.value.reason == "NODE_UNKNOWN"


async def test_node_when_lost_is_offline(bench: Bench) -> None:
    node_id = discovery.new_node_id()
    await bench.join(node_id)
    await discovery.until(lambda: node_id in bench.nodes.known())
    await bench.lose(node_id)
    await discovery.until(lambda: not bench.nodes.known()[node_id].online)
    assert not (await bench.nodes.find(node_id)).online


async def test_node_when_forgotten_is_neither_known_nor_found(bench: Bench) -> None:
    node_id = discovery.new_node_id()
    await bench.join(node_id)
    await discovery.until(lambda: node_id in bench.nodes.known())
    await bench.forget(node_id)
    await discovery.until(lambda: node_id not in bench.nodes.known())
    with pytest.raises(errors.NotFound):
        await bench.nodes.find(node_id)


async def test_nodes_when_discovery_goes_and_comes_are_kept_and_put_right(tmp_path: Path) -> None:
    stays, goes = discovery.new_node_id(), discovery.new_node_id()
    async with discovery.opened(tmp_path) as world:
        mesh = Mesh(world.authority.identity(tmp_path / "manager", "svc/gpio"), {"discovery": world.socket})
        nodes = DiscoveredNodes(mesh)
        following = asyncio.get_running_loop().create_task(keep_running("nodes", nodes.run, SystemClock()))
        async with world.running():
            for node_id in (stays, goes):
                await world.register(node_id)
            await discovery.until(lambda: {stays, goes} <= set(nodes.known()))
        assert (await nodes.find(stays)).id == stays
        with pytest.raises(errors.Unavailable) as caught:
            await nodes.find(discovery.new_node_id())
        assert caught.value.reason == "NODES_UNAVAILABLE"
        await cancel_and_wait(following)
        async with world.running():
            await rpc.unary(world.stub().DeleteNode, discovery_pb2.DeleteNodeRequest(id=goes))
            following = asyncio.get_running_loop().create_task(keep_running("nodes", nodes.run, SystemClock()))
            await discovery.until(lambda: goes not in nodes.known())
            assert stays in nodes.known()
        await cancel_and_wait(following)
        await mesh.close()
