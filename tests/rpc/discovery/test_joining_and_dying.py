"""A node's life as its agent and everybody else see it: registered, alive, ailing, lost, back, gone."""

import asyncio

import pytest
from google.protobuf import json_format

from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.discovery.settings import Settings
from picontroller.v1 import discovery_pb2 as v1
from tests.rpc.discovery.world import World, new_node_id, registration

Status = v1.NodeStatus


async def test_registration_when_first_makes_a_discovered_node(world: World) -> None:
    node_id = new_node_id()
    node = await world.register(node_id, hostname="greenhouse", mac_address="b8:27:eb:00:00:01")
    assert (node.id, node.hostname, node.status) == (node_id, "greenhouse", Status.DISCOVERED)
    assert node.model == node.capabilities.model == "Raspberry Pi 3 Model B"
    assert node.create_time.ToDatetime() == node.last_seen.ToDatetime() == world.clock.now().replace(tzinfo=None)
    assert await world.get(node_id) == node
    (event,) = await world.events()
    assert (event.type, event.resource, event.node_id) == ("node.discovered", node_id, node_id)
    assert event.data["hostname"] == "greenhouse"


async def test_registration_when_repeated_changes_nothing_and_tells_nobody(world: World) -> None:
    node_id = new_node_id()
    first = await world.register(node_id)
    for _ in range(3):
        assert await world.register(node_id) == first
    assert await world.event_types() == ["node.discovered"]


async def test_registration_when_it_says_something_new_updates_the_node_and_keeps_what_people_decided(world: World) -> None:
    node_id = new_node_id()
    await world.register(node_id)
    labelled = await rpc.unary(world.stub().UpdateNode, v1.UpdateNodeRequest(id=node_id, labels={"room": "attic"}))
    moved = await world.register(node_id, agent_address="198.51.100.9:7450")
    assert (moved.agent_address, dict(moved.labels), moved.create_time) == ("198.51.100.9:7450", {"room": "attic"}, labelled.create_time)
    assert moved.etag != labelled.etag
    assert await world.event_types() == ["node.discovered", "node.updated", "node.updated"]


async def test_fifty_registrations_when_sent_at_once_make_one_node_and_one_event(world: World) -> None:
    node_id = new_node_id()
    answers = await asyncio.gather(*(world.register(node_id) for _ in range(50)))
    assert len({node.etag for node in answers}) == 1
    assert await world.event_types() == ["node.discovered"]


async def test_health_when_first_reported_makes_the_node_ready(world: World) -> None:
    node_id = new_node_id()
    await world.register(node_id)
    assert await world.report(node_id) is False
    assert (await world.get(node_id)).status == Status.READY
    assert await world.event_types() == ["node.discovered", "node.ready"]


async def test_health_when_reported_again_only_moves_last_seen(world: World) -> None:
    node_id = new_node_id()
    await world.register(node_id)
    await world.report(node_id)
    before = await world.get(node_id)
    await world.clock.advance(5)
    await world.report(node_id)
    after = await world.get(node_id)
    assert (after.last_seen.ToDatetime() - before.last_seen.ToDatetime()).total_seconds() == 5
    after.last_seen.CopyFrom(before.last_seen)
    assert after == before
    assert await world.event_types() == ["node.discovered", "node.ready"]


async def test_health_when_of_an_unknown_node_asks_it_to_register(world: World) -> None:
    assert await world.report(new_node_id()) is True
    assert not await world.events()


async def test_problems_when_reported_degrade_the_node_until_they_are_gone(world: World) -> None:
    node_id = new_node_id()
    await world.register(node_id)
    await world.report(node_id)
    await world.report(node_id, "CLOCK_UNSYNCED: the clock says 1970")
    ailing = await world.get(node_id)
    assert (ailing.status, list(ailing.problems)) == (Status.ERROR, ["CLOCK_UNSYNCED: the clock says 1970"])
    await world.report(node_id)
    well = await world.get(node_id)
    assert (well.status, list(well.problems)) == (Status.READY, [])
    assert len({ailing.etag, well.etag}) == 2
    events = await world.events()
    assert [event.type for event in events] == ["node.discovered", "node.ready", "node.degraded", "node.ready"]
    assert json_format.MessageToDict(events[2].data)["problems"] == ["CLOCK_UNSYNCED: the clock says 1970"]


async def test_node_when_silent_for_fifteen_seconds_is_lost_and_comes_back(world: World) -> None:
    node_id = new_node_id()
    await world.register(node_id)
    await world.report(node_id)
    await world.clock.until_sleeping(2)
    await world.clock.advance(14.9)
    assert (await world.get(node_id)).status == Status.READY
    await world.clock.advance(0.2)
    await world.until_status(node_id, "LOST")
    await world.report(node_id)
    assert (await world.get(node_id)).status == Status.READY
    assert await world.event_types() == ["node.discovered", "node.ready", "node.lost", "node.ready"]


async def test_node_when_it_reports_every_five_seconds_is_never_lost(world: World) -> None:
    node_id = new_node_id()
    await world.register(node_id)
    for _ in range(12):
        await world.report(node_id)
        await world.clock.advance(5)
    assert (await world.get(node_id)).status == Status.READY
    assert await world.event_types() == ["node.discovered", "node.ready"]


async def test_node_when_the_wall_clock_jumps_is_not_lost(world: World) -> None:
    node_id = new_node_id()
    await world.register(node_id)
    await world.report(node_id)
    world.clock.jump(56 * 365 * 86400.0)
    await world.clock.advance(10)
    assert (await world.get(node_id)).status == Status.READY


async def test_node_when_discovery_restarts_has_a_full_grace_period(quiet_world: World) -> None:
    world, node_id = quiet_world, new_node_id()
    async with world.running():
        await world.register(node_id)
        await world.report(node_id)
        before = await world.get(node_id)
    await world.clock.advance(600)
    async with world.running():
        await world.clock.until_sleeping(2)
        assert await world.get(node_id) == before
        await world.clock.advance(14.9)
        assert (await world.get(node_id)).status == Status.READY
        await world.clock.advance(0.2)
        await world.until_status(node_id, "LOST")
        assert await world.event_types() == ["node.discovered", "node.ready", "node.lost"]


async def test_last_seen_when_discovery_stops_is_written_down(quiet_world: World) -> None:
    world, node_id = quiet_world, new_node_id()
    async with world.running():
        await world.register(node_id)
        await world.report(node_id)
        await world.clock.advance(7)
        await world.report(node_id)
        seen = (await world.get(node_id)).last_seen
    async with world.running():
        assert (await world.get(node_id)).last_seen == seen


async def test_lost_after_when_set_is_kept_to(quiet_world: World) -> None:
    world, node_id = quiet_world, new_node_id()
    async with world.running(Settings(lost_after_seconds=60)):
        await world.register(node_id)
        await world.report(node_id)
        await world.clock.until_sleeping(2)
        await world.clock.advance(59)
        assert (await world.get(node_id)).status == Status.READY
        await world.clock.advance(1)
        await world.until_status(node_id, "LOST")


async def test_node_when_unregistered_is_gone_and_the_second_time_too(world: World) -> None:
    node_id = new_node_id()
    await world.register(node_id)
    agent = world.stub(f"node/{node_id}")
    for _ in range(2):
        await rpc.unary(agent.UnregisterNode, v1.UnregisterNodeRequest(id=node_id))
    with pytest.raises(errors.NotFound):
        await world.get(node_id)
    events = await world.events()
    assert [event.type for event in events] == ["node.discovered", "node.deleted"]
    assert events[1].data["cause"] == "unregistered"


async def test_node_when_deleted_stays_out(world: World) -> None:
    node_id = new_node_id()
    await world.register(node_id)
    await rpc.unary(world.stub().DeleteNode, v1.DeleteNodeRequest(id=node_id))
    for _ in range(2):
        with pytest.raises(errors.Unauthenticated) as caught:
            await world.register(node_id)
        assert caught.value.reason == "NODE_REVOKED"
    assert await world.event_types() == ["node.discovered", "node.deleted"]


async def test_node_when_it_left_is_asked_to_register_and_appears_anew(world: World) -> None:
    node_id = new_node_id()
    await world.register(node_id)
    await rpc.unary(world.stub().UpdateNode, v1.UpdateNodeRequest(id=node_id, labels={"room": "attic"}))
    await rpc.unary(world.stub(f"node/{node_id}").UnregisterNode, v1.UnregisterNodeRequest(id=node_id))
    assert await world.report(node_id) is True
    await world.clock.advance(1)
    again = await world.register(node_id)
    assert (again.status, dict(again.labels)) == (Status.DISCOVERED, {})
    assert again.create_time.ToDatetime() == world.clock.now().replace(tzinfo=None)
    assert await world.event_types() == ["node.discovered", "node.updated", "node.deleted", "node.discovered"]


async def test_nodes_when_they_share_a_hostname_the_second_says_so_until_it_is_renamed(world: World) -> None:
    one, other = new_node_id(), new_node_id()
    for node_id in (one, other):
        await world.register(node_id, hostname="raspberrypi")
        await world.report(node_id)
        await world.clock.advance(1)
    (problem,) = (await world.until_status(other, "ERROR")).problems
    assert problem.startswith(f"DUPLICATE_HOSTNAME: raspberrypi is the name of node {one} already;")
    assert not (await world.until_status(one, "READY")).problems
    await world.register(other, hostname="raspberrypi-2")
    for node_id in (one, other):
        assert not (await world.until_status(node_id, "READY")).problems


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "not-a-uuid"),
        ("hostname", ""),
        ("hostname", "a b"),
        ("ip_address", "300.1.1.1"),
        ("mac_address", "B8-27-EB"),
        ("architecture", ""),
        ("agent_version", ""),
        ("agent_address", "nowhere"),
    ],
)
async def test_registration_when_a_field_is_wrong_names_it(world: World, field: str, value: str) -> None:
    node_id = "not-a-uuid" if field == "id" else new_node_id()
    request = registration(node_id)
    setattr(request, field, value)
    with pytest.raises(errors.InvalidArgument) as caught:
        await rpc.unary(world.stub(f"node/{node_id}").RegisterNode, request)
    assert {violation.field for violation in caught.value.violations} == {field}
    assert not await world.events()
