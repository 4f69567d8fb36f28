"""The event bus as a service's outbox sees it: events in, a safe sequence out."""

from collections.abc import Sequence
from typing import Any, cast

from google.protobuf import struct_pb2, timestamp_pb2

from picontroller.core.events import Event
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc import metrics
from picontroller.core.rpc.mesh import Mesh
from picontroller.v1 import events_pb2, events_pb2_grpc


def event_to(event: Event) -> events_pb2.Event:
    """Return an event as a message, without a cursor."""
    time = timestamp_pb2.Timestamp()
    time.FromDatetime(event.time)
    data = struct_pb2.Struct()
    data.update(cast("dict[str, Any]", dict(event.data)))
    return events_pb2.Event(
        type=event.type,
        timestamp=time,
        resource=event.resource,
        cluster_id=event.cluster_id,
        node_id=event.node_id,
        namespace=event.namespace,
        data=data,
    )


class EventBus:
    """Publishes to the event service. Implements ``core.store.outbox.Publisher``."""

    def __init__(self, mesh: Mesh, source: str) -> None:
        self._mesh = mesh
        self._published = metrics.EVENTS_PUBLISHED.labels(source)

    async def publish(self, epoch: str, first_sequence: int, events: Sequence[Event]) -> int:
        """Return the last sequence that is on the bus's disk. Raises Unavailable when the bus does not answer."""
        stub = events_pb2_grpc.EventServiceStub(self._mesh.service("events"))
        request = events_pb2.PublishRequest(source_epoch=epoch, first_sequence=first_sequence, events=[event_to(event) for event in events])
        response: events_pb2.PublishResponse = await rpc.unary(stub.Publish, request, seconds=10)
        self._published.inc(len(events))
        return response.last_sequence
