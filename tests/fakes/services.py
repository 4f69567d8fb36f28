"""Small public services for tests of what stands in front of them.

They remember what reached them; every effect is counted in ``changes``.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import empty_pb2

from picontroller.core import callers, errors
from picontroller.core.rpc.wiring import Service
from picontroller.v1 import (
    discovery_pb2,
    discovery_pb2_grpc,
    events_pb2,
    events_pb2_grpc,
    gpio_pb2,
    gpio_pb2_grpc,
    identity_pb2,
    identity_pb2_grpc,
)

FORGED = "forged"
BATCH = 20


@dataclass
class Seen:
    """What reached the services: metadata and address of the last call, number of effects, open subscriptions."""

    metadata: dict[str, Any] = field(default_factory=dict)
    address: str = ""
    changes: int = 0
    subscriptions: int = 0
    page_size: int = -1
    asked: list[str] = field(default_factory=list)

    def note(self, context: Any) -> None:
        self.metadata = dict(context.invocation_metadata() or ())
        self.address = callers.current_address()


class FakeIdentity(identity_pb2_grpc.IdentityServiceServicer):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    async def WhoAmI(self, request: identity_pb2.WhoAmIRequest, context: Any) -> identity_pb2.Principal:
        self.seen.note(context)
        caller = callers.current()
        return identity_pb2.Principal(spiffe_id=caller.principal, roles=sorted(role.value for role in caller.roles), method=caller.method)  # type: ignore[misc]  # enum values are numbers

    async def IssueCertificate(self, request: identity_pb2.IssueCertificateRequest, context: Any) -> identity_pb2.IssuedCertificate:
        self.seen.note(context)
        if request.token != "good":
            raise errors.Unauthenticated("the join token is not known", reason="TOKEN_UNKNOWN")
        self.seen.changes += 1
        return identity_pb2.IssuedCertificate(certificate_chain_pem="PEM", spiffe_id="spiffe://pi-controller.local/node/x")


class FakeDiscovery(discovery_pb2_grpc.DiscoveryServiceServicer):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.nodes = {name: discovery_pb2.Node(id=name, hostname=f"host-{name}", etag="1") for name in ("n1", "n2")}

    async def ListNodes(self, request: discovery_pb2.ListNodesRequest, context: Any) -> discovery_pb2.ListNodesResponse:
        self.seen.note(context)
        self.seen.page_size = request.page_size
        if request.page_token:
            raise errors.InvalidArgument("the page token is not one of ours", reason="PAGE_TOKEN_INVALID")
        return discovery_pb2.ListNodesResponse(nodes=list(self.nodes.values()))

    async def GetNode(self, request: discovery_pb2.GetNodeRequest, context: Any) -> discovery_pb2.Node:
        self.seen.asked.append(request.id)
        if request.id == "slow":
            await asyncio.sleep(0.3)
            return discovery_pb2.Node(id="slow")
        if request.id not in self.nodes:
            raise errors.NotFound(f"there is no node {request.id}", reason="NODE_UNKNOWN")
        return self.nodes[request.id]

    async def UpdateNode(self, request: discovery_pb2.UpdateNodeRequest, context: Any) -> discovery_pb2.Node:
        self.seen.note(context)
        node = await self.GetNode(discovery_pb2.GetNodeRequest(id=request.id), context)
        if not request.labels:
            raise errors.InvalidArgument("nothing to change", reason="NOTHING_TO_CHANGE")
        self.seen.changes += 1
        node.labels.clear()
        node.labels.update(dict(request.labels))
        return node

    async def DeleteNode(self, request: discovery_pb2.DeleteNodeRequest, context: Any) -> empty_pb2.Empty:
        self.seen.changes += 1
        return empty_pb2.Empty()

    async def WatchNodes(self, request: discovery_pb2.WatchNodesRequest, context: Any) -> AsyncIterator[discovery_pb2.WatchNodesResponse]:
        for node in self.nodes.values():
            yield discovery_pb2.WatchNodesResponse(change=discovery_pb2.WatchNodesResponse.Change.UPDATED, node=node)
        yield discovery_pb2.WatchNodesResponse(change=discovery_pb2.WatchNodesResponse.Change.SYNCED)


class FakeGpio(gpio_pb2_grpc.GpioServiceServicer):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    async def CreateGpioResource(self, request: gpio_pb2.CreateGpioResourceRequest, context: Any) -> gpio_pb2.GpioResource:
        self.seen.note(context)
        self.seen.changes += 1
        return gpio_pb2.GpioResource(
            id="r1", name=request.name, node_id=request.node_id, pin=request.pin, mode=request.mode, active_low=request.active_low
        )

    async def UpdateGpioResource(self, request: gpio_pb2.UpdateGpioResourceRequest, context: Any) -> gpio_pb2.GpioResource:
        self.seen.note(context)
        if not request.HasField("value"):
            raise errors.InvalidArgument("nothing to change", reason="NOTHING_TO_CHANGE")
        self.seen.changes += 1
        return gpio_pb2.GpioResource(id=request.id, value=request.value)


class FakeEvents(events_pb2_grpc.EventServiceServicer):
    """A journal in memory whose cursors are ``c<number>``."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.journal: list[events_pb2.Event] = []
        self.handed_out = 0
        self._news = asyncio.Condition()

    async def add(self, type_: str, **fields: Any) -> None:
        event = events_pb2.Event(type=type_, cursor=f"c{len(self.journal) + 1}", **fields)
        event.timestamp.GetCurrentTime()
        async with self._news:
            self.journal.append(event)
            self._news.notify_all()

    async def ListEvents(self, request: events_pb2.ListEventsRequest, context: Any) -> events_pb2.ListEventsResponse:
        return events_pb2.ListEventsResponse(events=self.journal[-request.page_size :])

    async def Subscribe(self, request: events_pb2.SubscribeRequest, context: Any) -> AsyncIterator[events_pb2.SubscribeResponse]:
        self.seen.note(context)
        if request.after == FORGED:
            raise errors.OutOfRange("the cursor is not in what is kept", reason="CURSOR_OUT_OF_RANGE", metadata={"oldest": "c1"})
        if "secret" in request.filter.namespace:
            raise errors.PermissionDenied("you may not see the namespace", reason="NAMESPACE_DENIED")
        place = int(request.after.removeprefix("c")) if request.after not in ("", "start") else 0
        place = place if request.after else len(self.journal)
        self.seen.subscriptions += 1
        try:
            while True:
                batch = self.journal[place : place + BATCH]
                place += len(batch)
                yield events_pb2.SubscribeResponse(events=batch, cursor=f"c{place}")
                self.handed_out = place
                async with self._news:
                    while len(self.journal) <= place:
                        await self._news.wait()
        finally:
            self.seen.subscriptions -= 1


@dataclass
class FakeServices:
    """All of them, sharing one ``seen``."""

    seen: Seen = field(default_factory=Seen)

    def __post_init__(self) -> None:
        self.identity = FakeIdentity(self.seen)  # type: ignore[abstract]  # methods that are not here answer UNIMPLEMENTED
        self.discovery = FakeDiscovery(self.seen)  # type: ignore[abstract]  # methods that are not here answer UNIMPLEMENTED
        self.gpio = FakeGpio(self.seen)  # type: ignore[abstract]  # methods that are not here answer UNIMPLEMENTED
        self.events = FakeEvents(self.seen)  # type: ignore[abstract]  # methods that are not here answer UNIMPLEMENTED

    def services(self) -> list[Service]:
        """Return them as what ``core.rpc.hosting.serving`` takes."""
        return [
            Service("identity", (lambda server: identity_pb2_grpc.add_IdentityServiceServicer_to_server(self.identity, server),)),
            Service("discovery", (lambda server: discovery_pb2_grpc.add_DiscoveryServiceServicer_to_server(self.discovery, server),)),
            Service("gpio", (lambda server: gpio_pb2_grpc.add_GpioServiceServicer_to_server(self.gpio, server),)),
            Service("events", (lambda server: events_pb2_grpc.add_EventServiceServicer_to_server(self.events, server),)),
        ]
