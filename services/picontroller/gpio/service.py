# ruff: noqa: N802 - methods are named as in the proto
"""GpioService: unpack, call, pack. What happens is told in ``controlling``, ``batches`` and ``following``."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from google.protobuf.empty_pb2 import Empty

from picontroller.core import etags
from picontroller.gpio import messages
from picontroller.gpio.batches import Batches
from picontroller.gpio.controlling import Controlling
from picontroller.gpio.following import Watchers
from picontroller.v1 import gpio_events_pb2, gpio_pb2_grpc
from picontroller.v1 import gpio_pb2 as v1


class GpioServicer(gpio_pb2_grpc.GpioServiceServicer):
    """Serves resources and their lines."""

    def __init__(self, controlling: Controlling, batches: Batches, watchers: Watchers) -> None:
        self._controlling = controlling
        self._batches = batches
        self._watchers = watchers

    async def ListGpioResources(self, request: v1.ListGpioResourcesRequest, context: Any) -> v1.ListGpioResourcesResponse:
        """Answer a page of resources."""
        page = await self._batches.page(request.page_size, request.page_token, request.node_id, request.namespace)
        return messages.page_to(page)

    async def CreateGpioResource(self, request: v1.CreateGpioResourceRequest, context: Any) -> v1.GpioResource:
        """Take a line into use."""
        key = messages.key_of(request, request.request_id)
        return messages.resource_to(await self._controlling.create(messages.wish_from(request), key))

    async def GetGpioResource(self, request: v1.GetGpioResourceRequest, context: Any) -> v1.GpioResource:
        """Answer a resource with its level read from the hardware."""
        return messages.resource_to(await self._batches.get(request.id))

    async def UpdateGpioResource(self, request: v1.UpdateGpioResourceRequest, context: Any) -> v1.GpioResource:
        """Change a resource."""
        change, key = messages.change_from(request), messages.key_of(request, request.request_id)
        expected = etags.expected(request.etag, context.invocation_metadata())
        return messages.resource_to(await self._controlling.update(request.id, change, expected, key))

    async def DeleteGpioResource(self, request: v1.DeleteGpioResourceRequest, context: Any) -> Empty:
        """Give a line up."""
        expected = etags.expected(request.etag, context.invocation_metadata())
        await self._controlling.delete(request.id, expected, force=request.force)
        self._batches.forget(request.id)
        return Empty()

    async def ReadPins(self, request: v1.ReadPinsRequest, context: Any) -> v1.ReadPinsResponse:
        """Read lines."""
        answers = await self._batches.read(request.ids)
        return v1.ReadPinsResponse(results=[messages.answer_to(answer) for answer in answers])

    async def WritePins(self, request: v1.WritePinsRequest, context: Any) -> v1.WritePinsResponse:
        """Drive outputs."""
        key = messages.key_of(request, request.request_id)
        answers = await self._batches.write(messages.writes_from(request), key)
        return v1.WritePinsResponse(results=[messages.answer_to(answer) for answer in answers])

    async def WatchEdges(self, request: gpio_events_pb2.WatchGpioRequest, context: Any) -> AsyncIterator[gpio_events_pb2.WatchGpioResponse]:
        """Answer what happens on lines."""
        await self._batches.check(request.ids)
        async with aclosing(self._watchers.watch(frozenset(request.ids), request.node_id)) as glimpses:
            async for glimpse in glimpses:
                yield messages.glimpse_to(glimpse)
