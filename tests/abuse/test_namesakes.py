"""Two machines under one name. What decides is who people see and what could be mixed up: pins go by id, clusters by name."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.v1 import discovery_pb2 as v1
from tests.rpc.discovery.world import World, new_node_id, opened

MACS = ("b8:27:eb:00:00:01", "b8:27:eb:00:00:02")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path) as world, world.running():
        yield world


async def join_both(world: World) -> tuple[str, str]:
    """Register two Pis fresh from the image, one second apart."""
    first, second = new_node_id(), new_node_id()
    for node_id, mac in zip((first, second), MACS, strict=True):
        await world.register(node_id, hostname="raspberrypi", mac_address=mac)
        await world.report(node_id)
        await world.clock.advance(1)
    return first, second


async def test_abuse_57_second_node_of_a_name_is_seen_says_so_and_joins_no_cluster_until_renamed(world: World) -> None:
    first, second = await join_both(world)
    (problem,) = (await world.until_status(second, "ERROR")).problems
    assert problem.startswith(f"DUPLICATE_HOSTNAME: raspberrypi is the name of node {first} already;")
    untouched = await world.get(first)
    assert (untouched.status, list(untouched.problems)) == (v1.NodeStatus.READY, [])
    into_cluster = v1.UpdateNodeRequest(id=second, cluster_id="home", role=v1.NodeRole.WORKER)
    before = await world.get(second)
    with pytest.raises(errors.AlreadyExists) as caught:
        await rpc.unary(world.stub().UpdateNode, into_cluster)
    assert (caught.value.reason, first in caught.value.message) == ("HOSTNAME_TAKEN", True)
    assert await world.get(second) == before
    assert (await rpc.unary(world.stub().UpdateNode, v1.UpdateNodeRequest(id=first, cluster_id="home"))).cluster_id == "home"
    await world.register(second, hostname="raspberrypi-2", mac_address=MACS[1])
    await world.until_status(second, "READY")
    assert (await rpc.unary(world.stub().UpdateNode, into_cluster)).cluster_id == "home"


async def test_abuse_57_node_that_an_admin_lets_rejoin_on_another_board_keeps_its_name(world: World) -> None:
    first, _ = await join_both(world)
    await world.register(first, hostname="raspberrypi", mac_address="b8:27:eb:00:00:03")
    await world.report(first)
    rejoined = await world.until_status(first, "READY")
    assert (list(rejoined.problems), rejoined.mac_address) == ([], "b8:27:eb:00:00:03")
