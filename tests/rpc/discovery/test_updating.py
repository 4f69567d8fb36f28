"""What people change about nodes: presence, masks, etags, If-Match, request ids, and forgetting."""

import asyncio

import pytest
from google.protobuf import json_format
from google.protobuf.field_mask_pb2 import FieldMask

from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.v1 import discovery_pb2 as v1
from tests.rpc.discovery.world import World, new_node_id

WORKER = v1.NodeRole.WORKER


async def _update(world: World, node_id: str, who: str = "user/anna", if_match: str = "", **fields: object) -> v1.Node:
    request = v1.UpdateNodeRequest(id=node_id, **fields)  # type: ignore[arg-type]  # any field
    metadata = {"if-match": if_match} if if_match else None
    node: v1.Node = await rpc.unary(world.stub(who).UpdateNode, request, metadata=metadata)
    return node


async def test_update_when_fields_are_present_changes_those(world: World) -> None:
    before = await world.register(new_node_id())
    node = await _update(world, before.id, labels={"room": "attic", "example.org/rack": "2"}, role=WORKER)
    assert (dict(node.labels), node.role, node.cluster_id) == ({"room": "attic", "example.org/rack": "2"}, WORKER, "")
    node = await _update(world, before.id, cluster_id="home")
    assert (dict(node.labels), node.role, node.cluster_id) == ({"room": "attic", "example.org/rack": "2"}, WORKER, "home")
    assert await world.get(before.id) == node
    events = await world.events()
    assert [event.type for event in events] == ["node.discovered", "node.updated", "node.updated"]
    data = json_format.MessageToDict(events[2].data)
    assert (events[2].cluster_id, data["role"], data["labels"]["room"]) == ("home", "worker", "attic")


async def test_update_when_labels_are_given_replaces_all_there_are(world: World) -> None:
    before = await world.register(new_node_id())
    await _update(world, before.id, labels={"room": "attic"})
    assert dict((await _update(world, before.id, labels={"floor": "2"})).labels) == {"floor": "2"}


async def test_update_when_masked_changes_exactly_what_the_mask_names(world: World) -> None:
    before = await world.register(new_node_id())
    await _update(world, before.id, labels={"room": "attic"}, role=WORKER, cluster_id="home")
    masked = FieldMask(paths=["labels", "role"])
    node = await _update(world, before.id, cluster_id="elsewhere", update_mask=masked)
    assert (dict(node.labels), node.role, node.cluster_id) == ({}, v1.NodeRole.UNSPECIFIED, "home")


async def test_update_when_it_wishes_what_is_changes_nothing(world: World) -> None:
    before = await world.register(new_node_id())
    first = await _update(world, before.id, labels={"room": "attic"})
    assert await _update(world, before.id, labels={"room": "attic"}) == first
    assert await world.event_types() == ["node.discovered", "node.updated"]


@pytest.mark.parametrize("mask", [None, FieldMask()])
async def test_update_when_it_sets_nothing_is_refused(world: World, mask: FieldMask | None) -> None:
    before = await world.register(new_node_id())
    with pytest.raises(errors.InvalidArgument) as caught:
        await _update(world, before.id, update_mask=mask)
    assert caught.value.reason == "NOTHING_TO_CHANGE"
    assert await world.get(before.id) == before


async def test_update_when_the_etag_is_current_happens_and_else_not(world: World) -> None:
    before = await world.register(new_node_id())
    after = await _update(world, before.id, labels={"a": "1"}, etag=before.etag)
    assert after.etag != before.etag
    with pytest.raises(errors.Conflict) as caught:
        await _update(world, before.id, labels={"a": "2"}, etag=before.etag)
    assert (caught.value.reason, caught.value.metadata) == ("ETAG_STALE", {"id": before.id, "etag": after.etag})
    assert await world.get(before.id) == after


async def test_if_match_when_given_guards_like_the_etag_field(world: World) -> None:
    before = await world.register(new_node_id())
    first = await _update(world, before.id, labels={"a": "1"}, if_match=f'"{before.etag}"')
    second = await _update(world, before.id, labels={"a": "2"}, if_match="*")
    third = await _update(world, before.id, labels={"a": "3"}, if_match=f'"{first.etag}", "{second.etag}"')
    for stale in (f'"{before.etag}"', before.etag, f'W/"{third.etag}"', "nonsense"):
        with pytest.raises(errors.Conflict):
            await _update(world, before.id, labels={"a": "4"}, if_match=stale)
    with pytest.raises(errors.Conflict):
        await _update(world, before.id, labels={"a": "4"}, if_match=f'"{third.etag}"', etag=second.etag)
    assert await world.get(before.id) == third


async def test_update_when_repeated_with_its_request_id_answers_as_the_first_did(world: World) -> None:
    before = await world.register(new_node_id())
    first = await _update(world, before.id, labels={"a": "1"}, etag=before.etag, request_id="r1")
    other = await _update(world, before.id, labels={"b": "2"})
    assert await _update(world, before.id, labels={"a": "1"}, etag=before.etag, request_id="r1") == first
    assert await world.get(before.id) == other
    assert await world.event_types() == ["node.discovered", "node.updated", "node.updated"]


async def test_update_when_repeated_after_a_restart_answers_as_the_first_did(quiet_world: World) -> None:
    async with quiet_world.running():
        before = await quiet_world.register(new_node_id())
        first = await _update(quiet_world, before.id, labels={"a": "1"}, request_id="r1")
    async with quiet_world.running():
        assert await _update(quiet_world, before.id, labels={"a": "1"}, request_id="r1") == first


async def test_request_id_when_another_caller_uses_it_is_another_request(world: World) -> None:
    before = await world.register(new_node_id())
    await _update(world, before.id, labels={"a": "1"}, request_id="r1")
    assert dict((await _update(world, before.id, "user/berta", labels={"b": "2"}, request_id="r1")).labels) == {"b": "2"}


async def test_update_when_there_is_no_such_node_says_so(world: World) -> None:
    with pytest.raises(errors.NotFound):
        await _update(world, "nobody", labels={"a": "1"})


@pytest.mark.parametrize("labels", [{"": "x"}, {"a b": "x"}, {"a": "x y"}, {"a": "x" * 64}, {"-a": "x"}])
async def test_label_when_kubernetes_would_not_have_it_is_refused(world: World, labels: dict[str, str]) -> None:
    before = await world.register(new_node_id())
    with pytest.raises(errors.InvalidArgument) as caught:
        await _update(world, before.id, labels=labels)
    assert caught.value.violations[0].field.startswith("labels")
    assert await world.get(before.id) == before


async def test_delete_when_done_forgets_the_node(world: World) -> None:
    node = await world.register(new_node_id())
    await rpc.unary(world.stub().DeleteNode, v1.DeleteNodeRequest(id=node.id, etag=node.etag))
    with pytest.raises(errors.NotFound):
        await world.get(node.id)
    with pytest.raises(errors.NotFound):
        await rpc.unary(world.stub().DeleteNode, v1.DeleteNodeRequest(id=node.id))
    events = await world.events()
    assert [event.type for event in events] == ["node.discovered", "node.deleted"]
    assert events[1].data["cause"] == "deleted"


async def test_delete_when_the_node_has_changed_is_refused(world: World) -> None:
    before = await world.register(new_node_id())
    after = await _update(world, before.id, labels={"a": "1"})
    delete = world.stub().DeleteNode
    with pytest.raises(errors.Conflict):
        await rpc.unary(delete, v1.DeleteNodeRequest(id=before.id, etag=before.etag))
    with pytest.raises(errors.Conflict):
        await rpc.unary(delete, v1.DeleteNodeRequest(id=before.id), metadata={"if-match": f'"{before.etag}"'})
    assert await world.get(before.id) == after
    await rpc.unary(delete, v1.DeleteNodeRequest(id=before.id), metadata={"if-match": f'"{after.etag}"'})


async def test_node_when_deleted_stays_deleted_after_a_restart(quiet_world: World) -> None:
    async with quiet_world.running():
        node = await quiet_world.register(new_node_id())
        await rpc.unary(quiet_world.stub().DeleteNode, v1.DeleteNodeRequest(id=node.id))
    async with quiet_world.running():
        with pytest.raises(errors.NotFound):
            await quiet_world.get(node.id)


async def test_update_given_up_at_any_moment_is_done_or_not_and_its_repetition_has_one_effect(world: World) -> None:
    node = await world.register(new_node_id())
    rounds = 30
    for number in range(rounds):
        request = v1.UpdateNodeRequest(id=node.id, labels={"round": str(number)}, request_id=f"r{number}")
        call = world.stub().UpdateNode(request, timeout=5)
        for _ in range(number):  # so many turns of the loop into the call
            await asyncio.sleep(0)
        call.cancel()
        after = await rpc.unary(world.stub().UpdateNode, request)
        assert await world.get(node.id) == after
    assert await world.event_types() == ["node.discovered"] + ["node.updated"] * rounds


async def test_update_when_everything_about_it_is_wrong_is_answered_in_brief(world: World) -> None:
    node = await world.register(new_node_id())
    labels = {f"-{number:02}" + "x" * 300: "y" * 100 for number in range(64)}
    with pytest.raises(errors.InvalidArgument) as caught:
        await _update(world, node.id, labels=labels)
    assert caught.value.violations[-1].field == "(more)"
    assert all(violation.field.startswith("labels[") for violation in caught.value.violations[:-1])
