"""Watchers of nodes.

Each is owed the newest state of every node, not every state: a slow one skips what it was too slow for, and costs no more memory than
there are nodes, however long it sleeps.
"""

import asyncio
import enum
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass

from picontroller.core.ids import NodeId
from picontroller.discovery.nodes import Node


class ChangeKind(enum.Enum):
    """What happened to a node. Names equal those of ``picontroller.v1.WatchNodesResponse.Change``."""

    UPDATED = 1
    DELETED = 2
    SYNCED = 3


@dataclass(frozen=True, slots=True)
class Change:
    """A node's newest state; ``node`` is None unless it was UPDATED, ``node_id`` is None in SYNCED."""

    kind: ChangeKind
    node_id: NodeId | None = None
    node: Node | None = None


class Watcher:
    """What one reader is still owed, by node."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._owed: dict[NodeId, Node | None] = {node.id: node for node in nodes}
        self._told: set[NodeId] = set()
        self._changed = asyncio.Event()

    @property
    def owed(self) -> int:
        """How many nodes the reader has news of to come."""
        return len(self._owed)

    def offer(self, node_id: NodeId, node: Node | None) -> None:
        """Owe the reader a node's new state, None for its end, instead of whatever it was owed about that node."""
        if node is None and node_id not in self._told:
            self._owed.pop(node_id, None)  # who never heard of the node need not hear of its end
            return
        self._owed[node_id] = node
        self._changed.set()

    async def changes(self) -> AsyncGenerator[Change, None]:
        """Yield all nodes, SYNCED, then what changes, without end."""
        for node_id in list(self._owed):
            if node_id in self._owed:
                yield self._take(node_id)
        yield Change(ChangeKind.SYNCED)
        while True:
            while self._owed:
                yield self._take(next(iter(self._owed)))
            self._changed.clear()
            await self._changed.wait()

    def _take(self, node_id: NodeId) -> Change:
        node = self._owed.pop(node_id)
        if node is None:
            self._told.discard(node_id)
            return Change(ChangeKind.DELETED, node_id)
        self._told.add(node_id)
        return Change(ChangeKind.UPDATED, node_id, node)


class Watchers:
    """Everybody who watches."""

    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()

    def __len__(self) -> int:
        return len(self._watchers)

    def offer(self, node_id: NodeId, node: Node | None) -> None:
        """Tell everybody of a node's new state, None for its end."""
        for watcher in self._watchers:
            watcher.offer(node_id, node)

    async def watch(self, nodes: Callable[[], Iterable[Node]]) -> AsyncGenerator[Change, None]:
        """Yield what ``nodes`` returns when the iteration begins, SYNCED, then what changes. Close the iterator to end it."""
        watcher = Watcher(nodes())
        self._watchers.add(watcher)
        try:
            async with aclosing(watcher.changes()) as changes:
                async for change in changes:
                    yield change
        finally:
            self._watchers.discard(watcher)
