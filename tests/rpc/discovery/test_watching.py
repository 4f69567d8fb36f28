"""Watching nodes: everything, SYNCED, then changes; for slow readers the newest state only."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import pytest

from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.v1 import discovery_pb2 as v1
from tests.rpc.discovery.world import PATIENCE_SECONDS, World, new_node_id

Change = v1.WatchNodesResponse.Change


class Watch:
    """A watch being read."""

    def __init__(self, responses: Any) -> None:
        self._responses = responses

    async def next(self) -> v1.WatchNodesResponse:
        async with asyncio.timeout(PATIENCE_SECONDS):
            answer: v1.WatchNodesResponse = await anext(self._responses)
            return answer

    async def until_synced(self) -> list[v1.Node]:
        nodes = []
        while (answer := await self.next()).change != Change.SYNCED:
            assert answer.change == Change.UPDATED
            nodes.append(answer.node)
        assert not answer.HasField("node")
        return nodes


@asynccontextmanager
async def _watching(world: World) -> AsyncIterator[Watch]:
    responses = rpc.stream(world.stub("user/mona", "monitor").WatchNodes, v1.WatchNodesRequest())
    async with aclosing(cast("AsyncGenerator[v1.WatchNodesResponse, None]", responses)):
        yield Watch(responses)


async def test_watch_when_begun_answers_all_nodes_then_synced_then_changes(world: World) -> None:
    one, other = await world.register(new_node_id()), await world.register(new_node_id())
    async with _watching(world) as watch:
        assert {node.id: node for node in await watch.until_synced()} == {one.id: one, other.id: other}
        await world.report(one.id)
        change = await watch.next()
        assert (change.change, change.node) == (Change.UPDATED, await world.get(one.id))
        fresh = await world.register(new_node_id())
        assert (await watch.next()).node == fresh
        await rpc.unary(world.stub().DeleteNode, v1.DeleteNodeRequest(id=other.id))
        assert await watch.next() == v1.WatchNodesResponse(change=Change.DELETED, node=v1.Node(id=other.id))


async def test_watch_when_there_are_no_nodes_is_synced_at_once(world: World) -> None:
    async with _watching(world) as watch:
        assert await watch.until_synced() == []


async def test_watch_when_a_node_falls_silent_tells_it(world: World) -> None:
    node = await world.register(new_node_id())
    await world.report(node.id)
    async with _watching(world) as watch:
        await watch.until_synced()
        await world.clock.until_sleeping(2)
        await world.clock.advance(15)
        assert (await watch.next()).node.status == v1.NodeStatus.LOST


async def test_watch_when_only_last_seen_moves_is_quiet(world: World) -> None:
    node = await world.register(new_node_id())
    await world.report(node.id)
    async with _watching(world) as watch:
        await watch.until_synced()
        for _ in range(5):
            await world.clock.advance(5)
            await world.report(node.id)
        marker = await world.register(new_node_id())
        assert (await watch.next()).node == marker


async def test_watcher_when_it_does_not_read_gets_the_newest_state_once(world: World) -> None:
    node = await world.register(new_node_id())
    async with _watching(world) as watch:
        await watch.until_synced()
        count = 150  # with capabilities of 200 kB that is more than gRPC keeps for a reader who does not read
        lines = [{"pin": {"bcm": 1, "kernel_name": "x" * 4000}} for _ in range(50)]
        for number in range(count):
            await world.register(node.id, hostname=f"pi-{number}", capabilities={"model": "m", "lines": lines})
        seen: list[str] = []
        while not seen or seen[-1] != f"pi-{count - 1}":
            seen.append((await watch.next()).node.hostname)
        numbers = [int(name.removeprefix("pi-")) for name in seen]
        assert numbers == sorted(set(numbers))
        assert len(numbers) < count / 2


async def test_watch_when_discovery_stops_ends_with_unavailable(quiet_world: World) -> None:
    async with quiet_world.running():
        watch = Watch(rpc.stream(quiet_world.stub().WatchNodes, v1.WatchNodesRequest()))
        await watch.until_synced()
        waiting = asyncio.create_task(watch.next())
    with pytest.raises(errors.Unavailable):
        await waiting
