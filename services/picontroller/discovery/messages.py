"""Between nodes and their messages."""

from collections.abc import Iterable

from google.protobuf import timestamp_pb2

from picontroller.core import callers, etags
from picontroller.core.errors import InvalidArgument, Violation
from picontroller.core.ids import NodeId
from picontroller.discovery.listing import Filter, Page
from picontroller.discovery.nodes import Changes, Node, NodeRole, NodeStatus, Precondition, Registration
from picontroller.discovery.registry import RequestIdentity
from picontroller.discovery.watching import Change
from picontroller.v1 import discovery_pb2, types_pb2

UPDATABLE = ("labels", "role", "cluster_id")


def node_to(node: Node) -> discovery_pb2.Node:
    """Return a node as a message."""
    told = node.registration
    last_seen, create_time = timestamp_pb2.Timestamp(), timestamp_pb2.Timestamp()
    last_seen.FromDatetime(node.last_seen)
    create_time.FromDatetime(node.create_time)
    return discovery_pb2.Node(
        id=node.id,
        hostname=told.hostname,
        ip_address=told.ip_address,
        mac_address=told.mac_address,
        architecture=told.architecture,
        model=told.model,
        role=discovery_pb2.NodeRole.Value.Value(node.role.name),
        status=discovery_pb2.NodeStatus.Value.Value(node.status.name),
        cluster_id=node.cluster_id,
        labels=dict(node.labels),
        capabilities=types_pb2.Capabilities.FromString(told.capabilities),
        agent_version=told.agent_version,
        last_seen=last_seen,
        etag=node.etag,
        agent_address=told.agent_address,
        create_time=create_time,
        problems=node.problems,
    )


def page_to(page: Page) -> discovery_pb2.ListNodesResponse:
    """Return a page of nodes as a message."""
    return discovery_pb2.ListNodesResponse(nodes=[node_to(node) for node in page.nodes], next_page_token=page.next_page_token)


def change_to(change: Change) -> discovery_pb2.WatchNodesResponse:
    """Return a change as a message: the whole node, only its id when it is gone, no node at all in SYNCED."""
    kind = discovery_pb2.WatchNodesResponse.Change.Value.Value(change.kind.name)
    if change.node is not None:
        return discovery_pb2.WatchNodesResponse(change=kind, node=node_to(change.node))
    return discovery_pb2.WatchNodesResponse(change=kind, node=discovery_pb2.Node(id=change.node_id) if change.node_id else None)


def filter_from(request: discovery_pb2.ListNodesRequest) -> Filter:
    """Return which nodes a request wants listed."""
    return Filter(frozenset(NodeStatus(status) for status in request.status), request.cluster_id)


def registration_from(request: discovery_pb2.RegisterNodeRequest) -> Registration:
    """Return what an agent says of itself."""
    return Registration(
        id=NodeId(request.id),
        hostname=request.hostname,
        ip_address=request.ip_address,
        mac_address=request.mac_address,
        architecture=request.architecture,
        model=request.capabilities.model,
        agent_version=request.agent_version,
        agent_address=request.agent_address,
        capabilities=request.capabilities.SerializeToString(deterministic=True),
    )


def changes_from(request: discovery_pb2.UpdateNodeRequest) -> Changes:
    """Return what a request changes: exactly what its mask names, else the fields that are present.

    Labels are present when there is one: only a mask can take them all away. Raises InvalidArgument for a mask that names anything else,
    and when nothing would change.
    """
    named = list(request.update_mask.paths)
    unknown = [path for path in named if path not in UPDATABLE]
    if unknown:
        faults = [Violation("update_mask", f"{path[:64]!r} can't be updated; {', '.join(UPDATABLE)} can") for path in unknown]
        raise InvalidArgument("; ".join(fault.description for fault in faults), reason="UPDATE_MASK_INVALID", violations=faults)
    if not named:
        present = {"labels": bool(request.labels), "role": request.HasField("role"), "cluster_id": request.HasField("cluster_id")}
        named = [field for field in UPDATABLE if present[field]]
    return Changes(
        labels=dict(request.labels) if "labels" in named else None,
        role=NodeRole(request.role) if "role" in named else None,
        cluster_id=request.cluster_id if "cluster_id" in named else None,
    )


def precondition_from(etag: str, metadata: Iterable[tuple[str, str | bytes]] | None) -> Precondition:
    """Return which states a change may meet, by the request's field and by the caller's ``If-Match``."""
    return Precondition(etags.expected(etag, metadata))


def identity_from(request: discovery_pb2.UpdateNodeRequest) -> RequestIdentity:
    """Return how a repetition of this caller's request is recognised."""
    return RequestIdentity(callers.current().principal, request.request_id, request.SerializeToString(deterministic=True))
