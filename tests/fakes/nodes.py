"""A list of nodes in memory, as the GPIO manager sees it. Passes ``tests/contract/gpio/test_nodes.py`` with the real one."""

from collections.abc import Callable, Mapping

from picontroller.core.errors import NotFound, Unavailable
from picontroller.gpio.boards import Node


class FakeNodes:
    """A ``gpio.boards.Nodes``. ``away`` makes a node that is not in the list unfindable instead of unknown."""

    def __init__(self) -> None:
        self.away = False
        self._nodes: dict[str, Node] = {}
        self._listeners: list[Callable[[], None]] = []

    def put(self, node: Node) -> None:
        """Add a node, or give it a new state."""
        self._nodes[node.id] = node
        self._announce()

    def remove(self, node_id: str) -> None:
        """Forget a node."""
        del self._nodes[node_id]
        self._announce()

    async def find(self, node_id: str) -> Node:
        if node_id in self._nodes:
            return self._nodes[node_id]
        if self.away:
            raise Unavailable("the list of nodes can't be had", reason="NODES_UNAVAILABLE")
        raise NotFound(f"there is no node {node_id}", reason="NODE_UNKNOWN", metadata={"node_id": node_id})

    def known(self) -> Mapping[str, Node]:
        return self._nodes

    def on_change(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def _announce(self) -> None:
        for listener in self._listeners:
            listener()
