# ruff: noqa: N802 - methods are named as in the proto
"""DiscoveryService: unpack, call, pack. What nodes are and when they change is told in ``nodes`` and ``registry``."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from google.protobuf.empty_pb2 import Empty

from picontroller.core.ids import NodeId
from picontroller.discovery import listing, messages
from picontroller.discovery.listing import Pages
from picontroller.discovery.registry import Registry
from picontroller.v1 import discovery_pb2 as v1
from picontroller.v1 import discovery_pb2_grpc


class DiscoveryServicer(discovery_pb2_grpc.DiscoveryServiceServicer):
    """Serves the registry."""

    def __init__(self, registry: Registry, pages: Pages) -> None:
        self._registry = registry
        self._pages = pages

    async def ListNodes(self, request: v1.ListNodesRequest, context: Any) -> v1.ListNodesResponse:
        """Answer a page of nodes."""
        wanted = messages.filter_from(request)
        return messages.page_to(await listing.page(self._registry, self._pages, wanted, request.page_size, request.page_token))

    async def GetNode(self, request: v1.GetNodeRequest, context: Any) -> v1.Node:
        """Answer one node."""
        return messages.node_to(self._registry.get(NodeId(request.id)))

    async def UpdateNode(self, request: v1.UpdateNodeRequest, context: Any) -> v1.Node:
        """Change what people decide."""
        changes, identity = messages.changes_from(request), messages.identity_from(request)
        precondition = messages.precondition_from(request.etag, context.invocation_metadata())
        return messages.node_to(await self._registry.update(NodeId(request.id), changes, precondition, identity))

    async def DeleteNode(self, request: v1.DeleteNodeRequest, context: Any) -> Empty:
        """Forget a node."""
        precondition = messages.precondition_from(request.etag, context.invocation_metadata())
        await self._registry.delete(NodeId(request.id), precondition)
        return Empty()

    async def RegisterNode(self, request: v1.RegisterNodeRequest, context: Any) -> v1.Node:
        """Take up what an agent says of itself."""
        return messages.node_to(await self._registry.register(messages.registration_from(request)))

    async def UnregisterNode(self, request: v1.UnregisterNodeRequest, context: Any) -> Empty:
        """Forget a node as its agent wishes."""
        await self._registry.unregister(NodeId(request.id))
        return Empty()

    async def ReportHealth(self, request: v1.ReportHealthRequest, context: Any) -> v1.ReportHealthResponse:
        """Take a sign of life."""
        return v1.ReportHealthResponse(register=await self._registry.report(NodeId(request.id), tuple(request.problems)))

    async def WatchNodes(self, request: v1.WatchNodesRequest, context: Any) -> AsyncIterator[v1.WatchNodesResponse]:
        """Answer all nodes and then what changes."""
        async with aclosing(self._registry.watch()) as changes:
            async for change in changes:
                yield messages.change_to(change)
