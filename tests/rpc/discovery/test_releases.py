"""Agents of other releases as they meet discovery: let in, let in with a remark, or refused in plain words."""

import pytest

from picontroller.core import errors
from picontroller.core.version import version
from picontroller.v1 import discovery_pb2 as v1
from tests.rpc.discovery.world import World, new_node_id

MAJOR, MINOR = (int(part) for part in version().split(".")[:2])


@pytest.mark.parametrize("steps", [0, 1])
async def test_agent_when_of_our_release_or_the_next_is_let_in(world: World, steps: int) -> None:
    said = f"{MAJOR}.{MINOR + steps}.7"
    node_id = new_node_id()
    assert (await world.register(node_id, agent_version=said)).agent_version == said
    await world.report(node_id)
    assert not (await world.until_status(node_id, "READY")).problems


@pytest.mark.parametrize("said", [f"{MAJOR}.{MINOR + 2}.0", f"{MAJOR + 1}.0.0"])
async def test_agent_when_too_new_is_refused_with_both_versions_and_changes_nothing(world: World, said: str) -> None:
    node_id = new_node_id()
    with pytest.raises(errors.FailedPrecondition) as caught:
        await world.register(node_id, agent_version=said)
    assert (caught.value.reason, caught.value.metadata["agent_version"]) == ("VERSION_SKEW", said)
    assert f"agent {said} does not work with control plane {version()}" in caught.value.message
    with pytest.raises(errors.NotFound):
        await world.get(node_id)
    assert await world.event_types() == []


async def test_node_when_its_agent_becomes_too_new_says_so_and_is_lost_until_it_is_back(world: World) -> None:
    node_id = new_node_id()
    await world.register(node_id, agent_version=version())
    await world.report(node_id)
    with pytest.raises(errors.FailedPrecondition):
        await world.register(node_id, agent_version=f"{MAJOR}.{MINOR + 2}.0")
    (problem,) = (await world.until_status(node_id, "ERROR")).problems
    assert problem.startswith(f"VERSION_SKEW: agent {MAJOR}.{MINOR + 2}.0 does not work with control plane {version()}")
    await world.clock.until_sleeping(2)
    await world.clock.advance(15.1)
    assert list((await world.until_status(node_id, "LOST")).problems) == [problem]
    await world.register(node_id, agent_version=version())
    await world.report(node_id)
    assert not (await world.until_status(node_id, "READY")).problems


async def test_agent_when_its_version_is_no_release_is_let_in_and_its_node_says_so(world: World) -> None:
    node_id = new_node_id()
    await world.register(node_id, agent_version="unknown")
    await world.report(node_id)
    node = await world.until_status(node_id, "ERROR")
    assert [problem.partition(":")[0] for problem in node.problems] == ["VERSION_UNKNOWN"]
    assert node.status == v1.NodeStatus.ERROR
