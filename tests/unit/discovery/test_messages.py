"""Between nodes and messages: what is wished, under which condition, and how a node looks from outside."""

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from picontroller.core.errors import InvalidArgument
from picontroller.discovery import messages
from picontroller.discovery.nodes import Changes, NodeRole, NodeStatus
from picontroller.discovery.watching import Change, ChangeKind
from picontroller.v1 import discovery_pb2 as v1
from picontroller.v1 import types_pb2
from tests.unit.discovery.samples import ONE, ready


@pytest.mark.parametrize(
    ("field", "headers", "allowed"),
    [
        ("", [], None),
        ("a", [], {"a"}),
        ("", ['"a"'], {"a"}),
        ("", ["a"], {"a"}),
        ("", ['"a", "b"'], {"a", "b"}),
        ("", ['"a"', '"b"'], {"a", "b"}),
        ("", ["*"], None),
        ("a", ["*"], {"a"}),
        ("a", ['"a", "b"'], {"a"}),
        ("a", ['"b"'], set()),
        ("", [""], None),
        ("", ['W/"a"'], {'W/"a'}),
    ],
)
def test_precondition_when_read_from_field_and_headers(field: str, headers: list[str], allowed: set[str] | None) -> None:
    metadata = [("x-request-id", "r"), *(("if-match", header) for header in headers)]
    assert messages.precondition_from(field, metadata).etags == allowed
    assert messages.precondition_from("", None).etags is None


@pytest.mark.parametrize(
    ("request_", "changes"),
    [
        (v1.UpdateNodeRequest(labels={"a": "1"}), Changes(labels={"a": "1"})),
        (v1.UpdateNodeRequest(role=v1.NodeRole.UNSPECIFIED), Changes(role=NodeRole.UNSPECIFIED)),
        (v1.UpdateNodeRequest(cluster_id=""), Changes(cluster_id="")),
        (v1.UpdateNodeRequest(update_mask=FieldMask(paths=["labels"])), Changes(labels={})),
        (v1.UpdateNodeRequest(update_mask=FieldMask(paths=["role", "cluster_id"])), Changes(role=NodeRole.UNSPECIFIED, cluster_id="")),
        (v1.UpdateNodeRequest(labels={"a": "1"}, cluster_id="x", update_mask=FieldMask(paths=["cluster_id"])), Changes(cluster_id="x")),
    ],
)
def test_changes_when_read_are_what_is_present_or_masked(request_: v1.UpdateNodeRequest, changes: Changes) -> None:
    assert messages.changes_from(request_) == changes


def test_changes_when_the_mask_names_strange_fields_names_each() -> None:
    with pytest.raises(InvalidArgument) as caught:
        messages.changes_from(v1.UpdateNodeRequest(labels={"a": "1"}, update_mask=FieldMask(paths=["status", "labels", "x" * 10_000])))
    first, second = caught.value.violations
    assert "'status'" in first.description
    assert len(second.description) < 200


@pytest.mark.parametrize("kind", [NodeStatus, NodeRole, ChangeKind])
def test_enums_when_compared_with_the_proto_have_its_names_and_numbers(kind: type[NodeStatus] | type[NodeRole] | type[ChangeKind]) -> None:
    proto = {NodeStatus: v1.NodeStatus.Value, NodeRole: v1.NodeRole.Value, ChangeKind: v1.WatchNodesResponse.Change.Value}[kind]
    ours = {member.name: member.value for member in kind}
    assert dict(proto.items()) == {"UNSPECIFIED": 0} | ours


def test_change_when_packed_has_the_node_its_id_or_nothing() -> None:
    node = ready(ONE)
    assert messages.change_to(Change(ChangeKind.UPDATED, ONE, node)).node == messages.node_to(node)
    assert messages.change_to(Change(ChangeKind.DELETED, ONE)).node == v1.Node(id=ONE)
    assert not messages.change_to(Change(ChangeKind.SYNCED)).HasField("node")


def test_capabilities_when_the_agent_is_newer_than_we_are_pass_through_whole() -> None:
    request = v1.RegisterNodeRequest(id=ONE, capabilities=types_pb2.Capabilities(model="Pi 9"))
    request.capabilities.MergeFromString(b"\xfa\x3e\x03new")  # field 1007, which we do not know
    node = messages.node_to(ready(ONE, capabilities=messages.registration_from(request).capabilities))
    assert b"\xfa\x3e\x03new" in node.capabilities.SerializeToString()
