"""What a WebSocket client asks for in its query, and how an event looks to it."""

import json

from google.protobuf.json_format import MessageToDict
from starlette.datastructures import QueryParams

from picontroller.core.errors import InvalidArgument
from picontroller.v1 import events_pb2

_FILTERS = ("type", "resource", "node_id", "namespace")


def request_from(query: QueryParams) -> events_pb2.SubscribeRequest:
    """Return the subscription that a query describes. Raises InvalidArgument for a parameter that isn't known or is given too often."""
    unknown = sorted(set(query) - {*_FILTERS, "after"})
    if unknown:
        raise InvalidArgument(f"unknown query parameter {unknown[0][:64]!r}", reason="QUERY_UNKNOWN")
    if len(query.getlist("after")) > 1:
        raise InvalidArgument("after may be given once", reason="QUERY_REPEATED")
    chosen = {name: [value for value in query.getlist(name) if value] for name in _FILTERS}
    return events_pb2.SubscribeRequest(filter=events_pb2.EventFilter(**chosen), after=query.get("after", ""))


def event_to_json(event: events_pb2.Event) -> str:
    """Return an event as the JSON object that clients get. Keys that say nothing are left out, but for ``data``."""
    named = {"resource": event.resource, "cluster_id": event.cluster_id, "node_id": event.node_id, "namespace": event.namespace}
    body = {
        "type": event.type,
        "timestamp": event.timestamp.ToJsonString(),
        **{name: value for name, value in named.items() if value},
        "data": MessageToDict(event.data),
        "cursor": event.cursor,
    }
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False)
