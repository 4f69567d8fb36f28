"""The nodes there are, in memory, in step with the disk.

Every change is decided inside a transaction against what is on disk, and shown (to readers and watchers) only once it is safe there. It
runs to its end even when the caller goes away half way, so that memory never falls behind the disk.
"""

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from picontroller.core.clock import Clock
from picontroller.core.ids import NodeId
from picontroller.core.version import version
from picontroller.discovery import duplicates, nodes, releases
from picontroller.discovery.liveness import Liveness
from picontroller.discovery.nodes import Changes, Decide, Node, NodeNotFound, NodeStatus, Precondition, Registration
from picontroller.discovery.releases import Releases
from picontroller.discovery.watching import Change, Watchers

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """Whose request it is, under which id, and all it says. An empty ``request_id`` asks for no idempotency."""

    principal: str
    request_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """The node after a change; ``changed`` is false when nothing happened, also because the same request had been served before."""

    node: Node | None
    changed: bool


class NodeStore(Protocol):
    """Where nodes are safe."""

    async def all(self) -> list[Node]:
        """Return every node."""
        ...

    async def change(self, node_id: NodeId, decide: Decide, request: RequestIdentity | None = None) -> Outcome:
        """Let ``decide`` decide about a node and keep its decision with its events, all or nothing. What it raises passes through.

        A repeated ``request`` is answered as the first was. Raises Conflict when its id was used for another one, NodeDeleted for a new
        node that was deleted before.
        """
        ...

    async def keep_last_seen(self, times: Mapping[NodeId, datetime]) -> None:
        """Note when nodes were last heard of; nodes that are not there are passed over."""
        ...


class Registry:
    """All nodes. Call ``load`` first and ``close`` last; in between only one event loop may use it."""

    def __init__(self, store: NodeStore, liveness: Liveness, clock: Clock, accepted: Releases | None = None) -> None:
        self._store = store
        self._liveness = liveness
        self._clock = clock
        self._nodes: dict[NodeId, Node] = {}
        self._reworded: dict[NodeId, tuple[str, ...]] = {}
        self._accepted = accepted or Releases(version())
        self._turned_away: dict[NodeId, tuple[str, ...]] = {}
        self._watchers = Watchers()
        self._changing: set[asyncio.Task[Outcome]] = set()
        self._changed = asyncio.Event()

    async def load(self) -> None:
        """Read what was known before."""
        for node in await self._store.all():
            self._nodes[node.id] = node
            self._liveness.remember(node.id, node.last_seen)

    async def close(self) -> None:
        """Wait for changes under way and write down what is only in memory."""
        await asyncio.gather(*self._changing, return_exceptions=True)
        await self.flush()

    def get(self, node_id: NodeId) -> Node:
        """Return a node. Raises NodeNotFound."""
        if node_id not in self._nodes:
            raise NodeNotFound(node_id)
        return self._fresh(self._nodes[node_id])

    def select(self, matches: Callable[[Node], bool], after: NodeId | None, limit: int) -> list[Node]:
        """Return up to ``limit`` nodes that match, by id, beginning behind ``after`` (at the beginning when None)."""
        behind = (self._nodes[node_id] for node_id in sorted(self._nodes) if after is None or node_id > after)
        return [self._fresh(node) for node in itertools.islice(filter(matches, behind), limit)]

    async def register(self, registration: Registration) -> Node:
        """Take up what an agent says of itself. Saying the same again changes nothing but ``last_seen``.

        Raises NodeDeleted for a node that was deleted: a new certificate, if it could get one, would not bring it back either. Raises
        VersionSkew for an agent of a release that does not work with ours.
        """
        self._refuse_skew(registration)
        now = self._liveness.hear(registration.id)
        known = self._nodes.get(registration.id)
        if known is None or known.registration != registration:
            await self._change(registration.id, nodes.register(registration, now))
        return self.get(registration.id)

    async def report(self, node_id: NodeId, problems: tuple[str, ...]) -> bool:
        """Take a sign of life; return whether the node must register (again) because nobody knows it.

        Nothing is written unless the node's status or the kind of its problems changes. New figures in their text wait for ``flush``.
        """
        known = self._nodes.get(node_id)
        if known is None or self._accepted.refusal(known.registration.agent_version) is not None:
            return True
        now = self._liveness.hear(node_id)
        alive = known.status in nodes.ALIVE
        self._reworded.pop(node_id, None)
        if alive and nodes.codes(known.reported) == nodes.codes(problems):
            if known.reported != problems:
                self._reworded[node_id] = problems
        elif not alive or known.reported != problems:
            await self._report(node_id, problems, now)
        return node_id not in self._nodes

    async def update(self, node_id: NodeId, changes: Changes, precondition: Precondition, request: RequestIdentity) -> Node:
        """Change what people decide about a node and return it as it is then. Raises NodeNotFound, Conflict, AlreadyExists."""
        if changes.cluster_id or changes.role is not None:
            await self.notice_problems()  # clusters must not get a namesake that came a moment ago
        outcome = await self._change(node_id, nodes.update(node_id, changes, precondition, self._clock.now()), request)
        if outcome.node is None:
            raise NodeNotFound(node_id)
        return self._fresh(outcome.node)

    async def delete(self, node_id: NodeId, precondition: Precondition) -> None:
        """Forget a node as an administrator wishes. Raises NodeNotFound, Conflict."""
        await self._change(node_id, nodes.delete(node_id, precondition, "deleted", self._clock.now()))

    async def unregister(self, node_id: NodeId) -> None:
        """Forget a node as its agent wishes. One that is not there is as wished already."""
        if node_id in self._nodes:
            await self._change(node_id, nodes.delete(node_id, Precondition(), "unregistered", self._clock.now()))

    def watch(self) -> AsyncGenerator[Change, None]:
        """Yield every node, SYNCED, then what changes, without end."""
        return self._watchers.watch(lambda: [self._fresh(node) for node in self._nodes.values()])

    async def lose_silent(self) -> None:
        """Declare those nodes lost that have been silent for too long."""
        for node in [node for node in self._nodes.values() if node.status is not NodeStatus.LOST]:
            if self._liveness.silent(node.id):
                log.info("node is lost", extra={"node_id": node.id, "hostname": node.registration.hostname})
                await self._change(node.id, nodes.lose(self._clock.now()))

    def seconds_until_silent(self) -> float:
        """Return how long nobody can become lost."""
        return self._liveness.seconds_until_silent(node.id for node in self._nodes.values() if node.status is not NodeStatus.LOST)

    async def flush(self) -> None:
        """Write down last signs of life and reworded problems."""
        while self._reworded:
            node_id, problems = self._reworded.popitem()
            await self._report(node_id, problems, self._liveness.last_seen(node_id) or self._clock.now())
        times = self._liveness.unwritten()
        if times:
            await self._store.keep_last_seen(times)
            self._liveness.count_as_written(times)

    async def notice_problems(self) -> None:
        """Bring up to date what no node can know of itself: who else looks like it, and whether its agent's version is one for us."""
        for node_id, twins in duplicates.lines(self._nodes.values()).items():
            if (node := self._nodes.get(node_id)) is None:
                continue
            lines = (self._turned_away.get(node_id) or self._accepted.lines(node.registration.agent_version)) + twins
            if node.noticed != lines:
                await self._change(node_id, nodes.notice(lines, self._clock.now()))

    async def until_changed(self) -> None:
        """Return once a node has changed since the last call returned."""
        await self._changed.wait()
        self._changed.clear()

    def _refuse_skew(self, registration: Registration) -> None:
        """Raise VersionSkew for an agent that is too old or too new, after a node that is known says so; others were never here."""
        refusal = self._accepted.refusal(registration.agent_version)
        if refusal is None:
            if self._turned_away.pop(registration.id, None) is not None:
                self._changed.set()
            return
        if registration.id in self._nodes:
            self._turned_away[registration.id] = (releases.turned_away(refusal),)
            self._changed.set()
        log.info("an agent of another release was refused", extra={"node_id": registration.id, "error": refusal.message})
        raise refusal

    async def _report(self, node_id: NodeId, problems: tuple[str, ...], now: datetime) -> None:
        try:
            await self._change(node_id, nodes.report(node_id, problems, now))
        except NodeNotFound:
            log.info("node was deleted while it reported", extra={"node_id": node_id})

    async def _change(self, node_id: NodeId, decide: Decide, request: RequestIdentity | None = None) -> Outcome:
        task = asyncio.get_running_loop().create_task(self._carry_out(node_id, decide, request))
        self._changing.add(task)
        task.add_done_callback(self._changing.discard)
        return await asyncio.shield(task)

    async def _carry_out(self, node_id: NodeId, decide: Decide, request: RequestIdentity | None) -> Outcome:
        """Change disk, then memory. The store answers in the order in which it was asked, so that memory takes the same turns."""
        outcome = await self._store.change(node_id, decide, request)
        if outcome.changed and outcome.node is None:
            self._nodes.pop(node_id, None)
            self._reworded.pop(node_id, None)
            self._turned_away.pop(node_id, None)
            self._liveness.forget(node_id)
            self._watchers.offer(node_id, None)
        elif outcome.changed and outcome.node is not None:
            self._nodes[node_id] = outcome.node
            if self._liveness.last_seen(node_id) is None:  # it registered while its deletion was under way
                self._liveness.hear(node_id)
            self._watchers.offer(node_id, self._fresh(outcome.node))
        if outcome.changed:
            self._changed.set()
        return outcome

    def _fresh(self, node: Node) -> Node:
        return replace(node, last_seen=self._liveness.last_seen(node.id) or node.last_seen)
