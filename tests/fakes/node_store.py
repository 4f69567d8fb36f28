"""Nodes in memory: discovery's store without a disk, with a knob that makes it fail and one that holds it up."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from picontroller.core.errors import Conflict, Error, InvalidArgument
from picontroller.core.events import Event
from picontroller.core.ids import NodeId
from picontroller.discovery.departures import NodeDeleted
from picontroller.discovery.nodes import Decide, Node
from picontroller.discovery.registry import Outcome, RequestIdentity


class FakeNodeStore:
    """Implements ``registry.NodeStore`` and ``listing.Pages``.

    ``failure`` is raised by the next changes until it is None again; while ``gate`` is not set, changes wait. ``events`` are those of all
    changes in order, ``writes`` counts transactions that changed something.
    """

    def __init__(self, *nodes: Node) -> None:
        self.nodes: dict[NodeId, Node] = {node.id: node for node in nodes}
        self.events: list[Event] = []
        self.deleted: set[NodeId] = set()
        self.writes = 0
        self.failure: Error | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self._turns = asyncio.Lock()
        self._answered: dict[tuple[str, str], tuple[bytes, Node]] = {}
        self._tokens: dict[str, tuple[list[object], NodeId]] = {}

    async def all(self) -> list[Node]:
        return [self.nodes[node_id] for node_id in sorted(self.nodes)]

    async def change(self, node_id: NodeId, decide: Decide, request: RequestIdentity | None = None) -> Outcome:
        async with self._turns:
            await self.gate.wait()
            if self.failure is not None:
                raise self.failure
            key = (request.principal, request.request_id) if request is not None and request.request_id else None
            if request is not None and key in self._answered:
                body, answer = self._answered[key]
                if body != request.body:
                    raise Conflict("used for another request", reason="REQUEST_ID_REUSED")
                return Outcome(answer, changed=False)
            before = self.nodes.get(node_id)
            decision = decide(before)
            if before is None and decision.node is not None and node_id in self.deleted:
                raise NodeDeleted(node_id)
            self.events += decision.events
            if decision.node is None:
                self.nodes.pop(node_id, None)
                if decision.lasting:
                    self.deleted.add(node_id)
            else:
                self.nodes[node_id] = decision.node
            if request is not None and key is not None and decision.node is not None:
                self._answered[key] = (request.body, decision.node)
            self.writes += decision.node != before
            return Outcome(decision.node, decision.node != before)

    async def keep_last_seen(self, times: Mapping[NodeId, datetime]) -> None:
        if self.failure is not None:
            raise self.failure
        self.writes += 1
        for node_id, time in times.items():
            if node_id in self.nodes:
                self.nodes[node_id] = replace(self.nodes[node_id], last_seen=time)

    async def recorded(self) -> list[Event]:
        """Return the events of all changes, in order."""
        return list(self.events)

    def size(self, asked: int) -> int:
        return min(asked or 100, 1000)

    async def seal(self, listing: Sequence[object], last: NodeId) -> str:
        token = f"token-{len(self._tokens)}"
        self._tokens[token] = (list(listing), last)
        return token

    async def unseal(self, listing: Sequence[object], token: str) -> NodeId | None:
        if not token:
            return None
        made_for, last = self._tokens.get(token, ([], NodeId("")))
        if made_for != list(listing):
            raise InvalidArgument("page_token is not valid for this listing", reason="PAGE_TOKEN_INVALID")
        return last
