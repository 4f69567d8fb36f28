"""Lists of nodes: pages, filters, tokens."""

import pytest

from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.v1 import discovery_pb2 as v1
from tests.rpc.discovery.world import World, new_node_id

READY, DISCOVERED, LOST = v1.NodeStatus.READY, v1.NodeStatus.DISCOVERED, v1.NodeStatus.LOST


async def _nodes(world: World, count: int) -> list[str]:
    node_ids = [new_node_id() for _ in range(count)]
    for node_id in node_ids:
        await world.register(node_id)
    return sorted(node_ids)


async def _list(world: World, **wanted: object) -> v1.ListNodesResponse:
    answer: v1.ListNodesResponse = await rpc.unary(world.stub().ListNodes, v1.ListNodesRequest(**wanted))  # type: ignore[arg-type]  # any field
    return answer


async def test_list_when_there_are_no_nodes_is_empty(world: World) -> None:
    assert await _list(world) == v1.ListNodesResponse()


async def test_pages_when_followed_hold_each_node_once_by_id(world: World) -> None:
    node_ids = await _nodes(world, 7)
    found, token, sizes = [], "", []
    for _ in range(10):
        page = await _list(world, page_size=3, page_token=token)
        found += [node.id for node in page.nodes]
        sizes.append(len(page.nodes))
        token = page.next_page_token
        if not token:
            break
    assert found == node_ids
    assert sizes == [3, 3, 1]


async def test_page_when_it_holds_exactly_the_rest_has_no_next(world: World) -> None:
    await _nodes(world, 3)
    page = await _list(world, page_size=3)
    assert (len(page.nodes), page.next_page_token) == (3, "")


async def test_pages_when_nodes_come_and_go_between_them_shift_no_other(world: World) -> None:
    node_ids = await _nodes(world, 6)
    first = await _list(world, page_size=3)
    await rpc.unary(world.stub().DeleteNode, v1.DeleteNodeRequest(id=node_ids[2]))  # the very node that the token points behind
    await rpc.unary(world.stub().DeleteNode, v1.DeleteNodeRequest(id=node_ids[0]))
    second = await _list(world, page_size=3, page_token=first.next_page_token)
    assert [node.id for node in second.nodes] == node_ids[3:]


async def test_list_when_filtered_holds_what_matches(world: World) -> None:
    node_ids = await _nodes(world, 4)
    await world.report(node_ids[1])
    await rpc.unary(world.stub().UpdateNode, v1.UpdateNodeRequest(id=node_ids[2], cluster_id="home"))
    assert [node.id for node in (await _list(world, status=[READY])).nodes] == [node_ids[1]]
    assert [node.id for node in (await _list(world, status=[READY, DISCOVERED])).nodes] == node_ids
    assert [node.id for node in (await _list(world, cluster_id="home")).nodes] == [node_ids[2]]
    assert not (await _list(world, cluster_id="home", status=[READY])).nodes
    assert not (await _list(world, status=[LOST])).nodes


async def test_token_when_the_service_restarted_still_leads_on(quiet_world: World) -> None:
    async with quiet_world.running():
        node_ids = await _nodes(quiet_world, 3)
        token = (await _list(quiet_world, page_size=2)).next_page_token
    async with quiet_world.running():
        assert [node.id for node in (await _list(quiet_world, page_size=2, page_token=token)).nodes] == node_ids[2:]


@pytest.mark.parametrize("status", [[0], [17], [READY] * 9])
async def test_list_when_the_filter_is_wrong_is_refused(world: World, status: list[int]) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        await _list(world, status=status)
    assert all(violation.field.startswith("status") for violation in caught.value.violations)


async def test_get_when_there_is_no_such_node_says_so(world: World) -> None:
    with pytest.raises(errors.NotFound) as caught:
        await world.get("nobody")
    assert (caught.value.reason, caught.value.metadata) == ("NODE_NOT_FOUND", {"id": "nobody"})
