"""A node and the rules by which it changes.

Every change is a function from the node as it is to a ``Decision``: the node as it shall be and the events that tell of it. The functions
run inside a transaction, in the writer's thread: they must not touch anything but their arguments. A decision for an equal node means
that nothing happens at all, neither a write nor an event.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from picontroller.core import ids
from picontroller.core.errors import AlreadyExists, Conflict, InvalidArgument, NotFound, Violation
from picontroller.core.events import Event
from picontroller.core.ids import NodeId


class NodeStatus(enum.Enum):
    """How a node is. Names equal those of ``picontroller.v1.NodeStatus``."""

    DISCOVERED = 1
    PROVISIONING = 2
    READY = 3
    ERROR = 4
    LOST = 5


HOSTNAME_TAKEN = "DUPLICATE_HOSTNAME"
ALIVE = frozenset({NodeStatus.READY, NodeStatus.ERROR})


class NodeRole(enum.Enum):
    """What a node does in its cluster. Names equal those of ``picontroller.v1.NodeRole``."""

    UNSPECIFIED = 0
    CONTROL_PLANE = 1
    WORKER = 2


class NodeNotFound(NotFound):
    """No node has that id."""

    default_reason = "NODE_NOT_FOUND"

    def __init__(self, node_id: NodeId) -> None:
        super().__init__(f"there is no node {node_id}", metadata={"id": node_id})


@dataclass(frozen=True, slots=True)
class Registration:
    """What an agent says of itself. ``capabilities`` are the agent's own message, serialised, which discovery only passes on."""

    id: NodeId
    hostname: str
    ip_address: str
    mac_address: str
    architecture: str
    model: str
    agent_version: str
    agent_address: str
    capabilities: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Node:
    """A node: its registration, what people decided, and how it is.

    ``reported`` are the problems it told us of, ``noticed`` those that only we can see. ``last_seen`` is what was written down last and may
    be a minute old; ``registry`` knows better.
    """

    registration: Registration
    create_time: datetime
    last_seen: datetime
    etag: str
    status: NodeStatus = NodeStatus.DISCOVERED
    role: NodeRole = NodeRole.UNSPECIFIED
    cluster_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    reported: tuple[str, ...] = ()
    noticed: tuple[str, ...] = ()

    @property
    def id(self) -> NodeId:
        """The node's id."""
        return self.registration.id

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that is wrong with it, one line each."""
        return self.reported + self.noticed


@dataclass(frozen=True, slots=True)
class Changes:
    """What people want to change; None leaves a field as it is. At least one is given."""

    labels: Mapping[str, str] | None = None
    role: NodeRole | None = None
    cluster_id: str | None = None

    def __post_init__(self) -> None:
        if self.labels is None and self.role is None and self.cluster_id is None:
            fault = Violation("update_mask", "give labels, role or cluster_id, or a mask that names one")
            raise InvalidArgument("the request changes nothing", reason="NOTHING_TO_CHANGE", violations=[fault])


@dataclass(frozen=True, slots=True)
class Decision:
    """What shall be (None: no node any more, for good when ``lasting``) and the events that tell of it."""

    node: Node | None
    events: tuple[Event, ...] = ()
    lasting: bool = False


Decide = Callable[[Node | None], Decision]


@dataclass(frozen=True, slots=True)
class Precondition:
    """The etags a change may meet; None lets it meet any."""

    etags: frozenset[str] | None = None

    def check(self, node: Node) -> None:
        """Raise Conflict unless ``node`` is in the state that the caller knows."""
        if self.etags is not None and node.etag not in self.etags:
            raise Conflict(
                f"node {node.id} has changed since; read it again", reason="ETAG_STALE", metadata={"id": node.id, "etag": node.etag}
            )


def register(registration: Registration, now: datetime) -> Decide:
    """Take up a new node, or take over what a known one says anew. Its status is left to its next sign of life.

    A node that left and registers again is a new node: nothing is remembered of the old one. One that was deleted may not.
    """

    def decide(node: Node | None) -> Decision:
        if node is None:
            fresh = Node(registration, create_time=now, last_seen=now, etag=ids.new_etag())
            return Decision(fresh, (_event("node.discovered", fresh, now),))
        if node.registration == registration:
            return Decision(node)
        changed = replace(node, registration=registration, last_seen=now, etag=ids.new_etag())
        return Decision(changed, (_event("node.updated", changed, now),))

    return decide


def report(node_id: NodeId, problems: tuple[str, ...], now: datetime) -> Decide:
    """Note a sign of life and what the node says is wrong with it. Raises NodeNotFound."""

    def decide(node: Node | None) -> Decision:
        known = _existing(node, node_id)
        return _assess(known, replace(known, reported=problems, last_seen=now), now)

    return decide


def notice(problems: tuple[str, ...], now: datetime) -> Decide:
    """Note what is wrong with a node as seen from here. A node that is not alive keeps its status; one that has gone stays away."""

    def decide(node: Node | None) -> Decision:
        if node is None or node.noticed == problems:
            return Decision(node)
        seen = replace(node, noticed=problems)
        return _assess(node, seen, now) if node.status in ALIVE else Decision(replace(seen, etag=ids.new_etag()))

    return decide


def lose(now: datetime) -> Decide:
    """Note that a node has been silent for too long."""

    def decide(node: Node | None) -> Decision:
        if node is None or node.status is NodeStatus.LOST:
            return Decision(node)
        lost = replace(node, status=NodeStatus.LOST, etag=ids.new_etag())
        return Decision(lost, (_event("node.lost", lost, now),))

    return decide


def update(node_id: NodeId, changes: Changes, precondition: Precondition, now: datetime) -> Decide:
    """Change what people decide. Raises NodeNotFound, Conflict for a stale etag, AlreadyExists as ``_refuse_namesake`` does."""

    def decide(node: Node | None) -> Decision:
        known = _existing(node, node_id)
        precondition.check(known)
        wanted = replace(
            known,
            labels=known.labels if changes.labels is None else dict(changes.labels),
            role=known.role if changes.role is None else changes.role,
            cluster_id=known.cluster_id if changes.cluster_id is None else changes.cluster_id,
        )
        if wanted == known:
            return Decision(known)
        _refuse_namesake(known, wanted)
        changed = replace(wanted, etag=ids.new_etag())
        return Decision(changed, (_event("node.updated", changed, now),))

    return decide


def delete(node_id: NodeId, precondition: Precondition, cause: str, now: datetime) -> Decide:
    """Forget a node; ``cause`` (``deleted``, ``unregistered``) goes into the event. Raises NodeNotFound, or Conflict for a stale etag."""

    def decide(node: Node | None) -> Decision:
        known = _existing(node, node_id)
        precondition.check(known)
        return Decision(None, (_event("node.deleted", known, now, cause=cause),), lasting=cause == "deleted")

    return decide


def codes(problems: tuple[str, ...]) -> frozenset[str]:
    """Return what stands before the colon of each problem: what is wrong, without figures that differ at each report."""
    return frozenset(problem.partition(":")[0] for problem in problems)


def _refuse_namesake(known: Node, wanted: Node) -> None:
    """Raise AlreadyExists when a node with another's name is to join a cluster: clusters tell their nodes apart by name."""
    taken = next((problem for problem in known.noticed if problem.startswith(HOSTNAME_TAKEN)), None)
    joins = (wanted.cluster_id and wanted.cluster_id != known.cluster_id) or (
        wanted.role is not NodeRole.UNSPECIFIED and wanted.role is not known.role
    )
    if taken and joins:
        raise AlreadyExists(taken.partition(": ")[2], reason="HOSTNAME_TAKEN", metadata={"id": known.id})


def _existing(node: Node | None, node_id: NodeId) -> Node:
    if node is None:
        raise NodeNotFound(node_id)
    return node


def _assess(before: Node, seen: Node, now: datetime) -> Decision:
    """Give ``seen``, which is alive, the status that its problems make; there is an event when status or kind of problem changed."""
    status = NodeStatus.ERROR if seen.problems else NodeStatus.READY
    if before.status is status and before.problems == seen.problems:
        return Decision(before)
    assessed = replace(seen, status=status, etag=ids.new_etag())
    if before.status is status and codes(before.problems) == codes(seen.problems):
        return Decision(assessed)
    return Decision(assessed, (_event("node.degraded" if assessed.problems else "node.ready", assessed, now),))


def _event(kind: str, node: Node, now: datetime, **more: str) -> Event:
    data: dict[str, object] = {
        "hostname": node.registration.hostname,
        "ip_address": node.registration.ip_address,
        "model": node.registration.model,
        "status": node.status.name.lower(),
        "role": node.role.name.lower() if node.role is not NodeRole.UNSPECIFIED else "",
        "labels": dict(node.labels),
        "problems": list(node.problems),
    }
    return Event(kind, now, resource=node.id, cluster_id=node.cluster_id, node_id=node.id, data=data | more)
