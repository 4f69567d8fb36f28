"""Listing nodes page by page, in the order of their ids: a node that comes or goes between two pages shifts no other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from picontroller.core.ids import NodeId
from picontroller.discovery.nodes import Node, NodeStatus
from picontroller.discovery.registry import Registry


@dataclass(frozen=True, slots=True)
class Filter:
    """Which nodes to list: those in ``statuses`` (any when empty) and in cluster ``cluster_id`` (any when empty)."""

    statuses: frozenset[NodeStatus] = frozenset()
    cluster_id: str = ""

    def matches(self, node: Node) -> bool:
        """Return whether the node is to be listed."""
        return (not self.statuses or node.status in self.statuses) and self.cluster_id in ("", node.cluster_id)

    def name(self) -> Sequence[object]:
        """Return what tells this listing from others."""
        return ["nodes", sorted(status.name for status in self.statuses), self.cluster_id]


@dataclass(frozen=True, slots=True)
class Page:
    """Some nodes, and the token of the page behind them; empty on the last."""

    nodes: Sequence[Node]
    next_page_token: str


class Pages(Protocol):
    """How long pages are, and where they go on."""

    def size(self, asked: int) -> int:
        """Return how many nodes to answer when ``asked`` were asked for."""
        ...

    async def seal(self, listing: Sequence[object], last: NodeId) -> str:
        """Return the token of the page behind ``last``."""
        ...

    async def unseal(self, listing: Sequence[object], token: str) -> NodeId | None:
        """Return behind which node a page begins, None for an empty token. Raises InvalidArgument for a token of another listing."""
        ...


async def page(registry: Registry, pages: Pages, wanted: Filter, asked: int, token: str) -> Page:
    """Return the page of ``wanted`` nodes that ``token`` leads to. Raises InvalidArgument for a token of another listing."""
    size = pages.size(asked)
    after = await pages.unseal(wanted.name(), token)
    found = registry.select(wanted.matches, after, size + 1)
    more = len(found) > size
    return Page(found[:size], await pages.seal(wanted.name(), found[size - 1].id) if more else "")
