"""Short forms of what a client of the bus says."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from picontroller.core.rpc import mesh as rpc
from picontroller.v1 import events_pb2, events_pb2_grpc

Stub = events_pb2_grpc.EventServiceStub


def event(kind: str = "gpio.state.changed", **fields: Any) -> events_pb2.Event:
    made = events_pb2.Event(type=kind, **fields)
    made.timestamp.GetCurrentTime()
    return made


def request(*events: events_pb2.Event, first: int = 1, epoch: str = "e") -> events_pb2.PublishRequest:
    return events_pb2.PublishRequest(events=events, source_epoch=epoch, first_sequence=first)


async def publish(stub: Stub, *kinds: str, first: int = 1, epoch: str = "e") -> events_pb2.PublishResponse:
    answer: events_pb2.PublishResponse = await rpc.unary(stub.Publish, request(*map(event, kinds), first=first, epoch=epoch))
    return answer


async def listed(stub: Stub, *, size: int = 0, **fields: Any) -> list[events_pb2.Event]:
    """Return all pages of a listing."""
    found: list[events_pb2.Event] = []
    token = ""
    for _ in range(1000):
        asked = events_pb2.ListEventsRequest(page_size=size, page_token=token, **fields)
        page: events_pb2.ListEventsResponse = await rpc.unary(stub.ListEvents, asked)
        found += page.events
        token = page.next_page_token
        if not token:
            return found
    raise AssertionError("the listing has no end")


class Subscription:
    """A subscription being read."""

    def __init__(self, responses: AsyncIterator[events_pb2.SubscribeResponse]) -> None:
        self._responses = responses

    async def response(self, seconds: float = 5.0) -> events_pb2.SubscribeResponse:
        async with asyncio.timeout(seconds):
            return await anext(self._responses)

    async def types(self, count: int, seconds: float = 5.0) -> list[str]:
        return [e.type for e in await self.events(count, seconds)]

    async def events(self, count: int, seconds: float = 5.0) -> list[events_pb2.Event]:
        """Return the next ``count`` events; more than that in their batches is a failure."""
        found: list[events_pb2.Event] = []
        async with asyncio.timeout(seconds):
            while len(found) < count:
                found += (await anext(self._responses)).events
        assert len(found) == count
        return found


@asynccontextmanager
async def subscribed(stub: Stub, after: str = "", **chosen: Sequence[str]) -> AsyncIterator[Subscription]:
    """Subscribe. Without ``after``, entered only once the bus has confirmed from where."""
    asked = events_pb2.SubscribeRequest(after=after, filter=events_pb2.EventFilter(**chosen) if chosen else None)
    responses = rpc.stream(stub.Subscribe, asked)
    try:
        subscription = Subscription(responses)
        if not after:
            assert not (await subscription.response()).events
        yield subscription
    finally:
        await responses.aclose()
