"""The list of nodes, followed from discovery in one stream and kept in memory.

What is kept outlives a discovery that is away: nodes that we knew go on being served. Only a node that we never heard of must be asked for.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import aclosing

from picontroller.core.errors import NotFound, Unavailable
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.mesh import Mesh
from picontroller.gpio import messages
from picontroller.gpio.boards import Node
from picontroller.v1 import discovery_pb2, discovery_pb2_grpc

log = logging.getLogger(__name__)

ASK_SECONDS = 2.0


class DiscoveredNodes:
    """Implements ``boards.Nodes``. ``run`` keeps it in step."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._nodes: dict[str, Node] = {}
        self._listeners: list[Callable[[], None]] = []

    def known(self) -> Mapping[str, Node]:
        """Return the nodes as last heard."""
        return self._nodes

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever ``known`` answers something else."""
        self._listeners.append(listener)

    async def find(self, node_id: str) -> Node:
        """Return a node, from memory if it is there. Raises NotFound (NODE_UNKNOWN), Unavailable (NODES_UNAVAILABLE)."""
        if (kept := self._nodes.get(node_id)) is not None:
            return kept
        stub = discovery_pb2_grpc.DiscoveryServiceStub(self._mesh.service("discovery"))
        try:
            found = await rpc.unary(stub.GetNode, discovery_pb2.GetNodeRequest(id=node_id), seconds=ASK_SECONDS)
        except NotFound:
            raise NotFound(f"there is no node {node_id}", reason="NODE_UNKNOWN", metadata={"node_id": node_id}) from None
        except Unavailable as error:
            message = f"the list of nodes can't be had: {error.message}"
            raise Unavailable(message, reason="NODES_UNAVAILABLE", retry_after=1.0) from error
        return messages.node_from(found)

    async def run(self) -> None:
        """Follow discovery's list. Ends by cancellation or with an error; run it again then."""
        stub = discovery_pb2_grpc.DiscoveryServiceStub(self._mesh.service("discovery"))
        kinds = discovery_pb2.WatchNodesResponse.Change
        heard: set[str] | None = set()
        async with aclosing(rpc.stream(stub.WatchNodes, discovery_pb2.WatchNodesRequest())) as responses:
            async for response in responses:
                if response.change == kinds.SYNCED:
                    for node_id in set(self._nodes) - (heard or set()):
                        del self._nodes[node_id]
                    heard = None
                    self._announce()
                elif response.change == kinds.DELETED:
                    if self._nodes.pop(response.node.id, None) is not None:
                        self._announce()
                else:
                    if heard is not None:
                        heard.add(response.node.id)
                    self._take(messages.node_from(response.node))
        raise Unavailable("discovery ended its stream of nodes", reason="STREAM_ENDED")

    def _take(self, node: Node) -> None:
        if self._nodes.get(node.id) != node:
            self._nodes[node.id] = node
            self._announce()

    def _announce(self) -> None:
        for listener in self._listeners:
            listener()
