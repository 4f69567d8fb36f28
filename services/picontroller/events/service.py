"""EventService on the wire: unpack, call, pack."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from picontroller.core import callers
from picontroller.core.errors import PermissionDenied
from picontroller.core.store import pages
from picontroller.events import messages
from picontroller.events.journal import Journal
from picontroller.events.listing import Listing
from picontroller.events.pipelining import pipelined
from picontroller.events.subscriptions import Subscriptions
from picontroller.v1 import events_pb2, events_pb2_grpc


def _source() -> str:
    """Return the name under which the caller publishes: that of its certificate, so that nobody speaks for another."""
    name = callers.current().service
    if not name:
        raise PermissionDenied("only services publish events", reason="NOT_A_SERVICE")
    return name


class EventServicer(events_pb2_grpc.EventServiceServicer):
    """Serves one journal."""

    def __init__(self, journal: Journal, subscriptions: Subscriptions, listing: Listing) -> None:
        self._journal = journal
        self._subscriptions = subscriptions
        self._listing = listing

    async def Publish(self, request: events_pb2.PublishRequest, context: Any) -> events_pb2.PublishResponse:  # noqa: N802
        """Add events; when it answers they are on disk."""
        appended = await self._journal.publish(messages.submission_from(request, _source()))
        return messages.appended_to(appended, self._journal.cursors)

    async def PublishStream(  # noqa: N802
        self, request_iterator: AsyncIterator[events_pb2.PublishRequest], context: Any
    ) -> AsyncIterator[events_pb2.PublishResponse]:
        """Add events with many requests in flight; answers come in order."""
        source = _source()
        submissions = (messages.submission_from(request, source) async for request in request_iterator)
        async with aclosing(pipelined(submissions, self._journal)) as outcomes:
            async for appended in outcomes:
                yield messages.appended_to(appended, self._journal.cursors)

    async def Subscribe(self, request: events_pb2.SubscribeRequest, context: Any) -> AsyncIterator[events_pb2.SubscribeResponse]:  # noqa: N802
        """Send the events after a cursor, then those that come."""
        caller = callers.current()
        chosen, expires = messages.filter_from(request.filter, caller), caller.expires
        async with aclosing(self._subscriptions.follow(request.after, chosen, expires)) as batches:
            async for batch in batches:
                yield messages.batch_to(batch, self._journal.cursors)

    async def ListEvents(self, request: events_pb2.ListEventsRequest, context: Any) -> events_pb2.ListEventsResponse:  # noqa: N802
        """Answer a page of past events."""
        chosen, size = messages.filter_from(request.filter, callers.current()), pages.page_size(request.page_size)
        page = await self._listing.page(chosen, request.after, size, request.page_token)
        return messages.page_to(page, self._journal.cursors)
