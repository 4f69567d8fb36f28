"""Between protobuf and the journal's nouns.

An event is parsed once, when it arrives; from then on it is bytes. A cursor is added by appending its field to them, and a response is read
from its pieces laid end to end: both are what the wire format promises, and cost a tenth of building the messages in Python.
"""

import math
from collections.abc import Iterable

from google.protobuf import struct_pb2, timestamp_pb2

from picontroller.core.callers import Caller, Role
from picontroller.core.clock import Clock
from picontroller.core.errors import InvalidArgument, PermissionDenied, Violation
from picontroller.core.events import Event
from picontroller.core.rpc import publishing
from picontroller.events.cursors import Cursors
from picontroller.events.entries import LARGEST_SEQUENCE, Appended, Batch, Entry, Loss, Record, Submission
from picontroller.events.filters import Filter
from picontroller.events.listing import Page
from picontroller.v1 import events_pb2

# A quarter of the largest message, so that a batch with one such event still fits.
LARGEST_EVENT_BYTES = 1024 * 1024
LOST = "events.lost"
# How the types begin that nobody else may read, or count.
ADMINISTRATORS_ONLY = ("audit.",)
_EARLIEST_SECONDS, _LATEST_SECONDS = -62_135_596_800, 253_402_300_799  # the years 1 to 9999: what JSON can say
_FIELD_1 = b"\x0a"  # field 1 of a message, with a length: `cursor` in Event, `events` in the responses


def submission_from(request: events_pb2.PublishRequest, source: str) -> Submission:
    """Return a request's events. Raises InvalidArgument, with all violations, for what rules in the proto can't say."""
    violations: list[Violation] = []
    if request.first_sequence + len(request.events) > LARGEST_SEQUENCE:
        violations.append(Violation("first_sequence", "is too large"))
    records = tuple(_record_from(event, f"events[{index}]", violations) for index, event in enumerate(request.events))
    if violations:
        text = "; ".join(f"{violation.field}: {violation.description}" for violation in violations[:3])
        raise InvalidArgument(text, violations=violations)
    return Submission(source, request.source_epoch, request.first_sequence, records)


def _record_from(event: events_pb2.Event, place: str, violations: list[Violation]) -> Record:
    event.ClearField("cursor")
    # One event that JSON can't say would end every REST and WebSocket reader that comes to it.
    if not (_EARLIEST_SECONDS <= event.timestamp.seconds <= _LATEST_SECONDS and 0 <= event.timestamp.nanos < 1_000_000_000):
        violations.append(Violation(f"{place}.timestamp", "must lie in the years 1 to 9999"))
    if not all(_finite(value) for value in event.data.fields.values()):
        violations.append(Violation(f"{place}.data", "must hold finite numbers only"))
    body = event.SerializeToString()
    if len(body) > LARGEST_EVENT_BYTES:
        violations.append(Violation(place, f"must not be larger than {LARGEST_EVENT_BYTES} bytes"))
    return Record(event.type, event.resource, event.node_id, event.namespace, event.cluster_id, body)


def record_of(event: Event) -> Record:
    """Return an event of our own as what the journal keeps."""
    return _record_from(publishing.event_to(event), "", [])


def _finite(value: struct_pb2.Value) -> bool:
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        return math.isfinite(value.number_value)
    if kind == "struct_value":
        return all(_finite(inner) for inner in value.struct_value.fields.values())
    if kind == "list_value":
        return all(_finite(inner) for inner in value.list_value.values)
    return kind is not None  # a value that is none of the kinds can't be said in JSON either


class LossDescriber:
    """Makes a loss an event of the type ``events.lost``, so that who was promised every event learns of those that never came."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __call__(self, loss: Loss) -> Record:
        """Return the event that stands for ``loss``. ``data`` has the source's epoch and its first and last sequence as text."""
        data = struct_pb2.Struct()
        data.update({"source_epoch": loss.source_epoch, "first_sequence": str(loss.first), "last_sequence": str(loss.last)})
        time = timestamp_pb2.Timestamp()
        time.FromDatetime(self._clock.now())
        event = events_pb2.Event(type=LOST, resource=loss.source, timestamp=time, data=data)
        return _record_from(event, "", [])


def filter_from(message: events_pb2.EventFilter, caller: Caller) -> Filter:
    """Return a filter that hides what ``caller`` may not see. Raises PermissionDenied for types that are wholly hidden."""
    hidden = () if Role.CLUSTER_ADMIN in caller.roles else ADMINISTRATORS_ONLY
    for glob in message.type:
        if hidden and glob.startswith(hidden):
            raise PermissionDenied(f"{caller.principal} may not read events of the type {glob}", reason="TYPE_FORBIDDEN")
    resources, nodes, namespaces = frozenset(message.resource), frozenset(message.node_id), frozenset(message.namespace)
    return Filter(tuple(message.type), resources, nodes, namespaces, hidden)


def appended_to(appended: Appended, cursors: Cursors) -> events_pb2.PublishResponse:
    """Return what is on disk."""
    return events_pb2.PublishResponse(cursor=cursors.seal(appended.position), last_sequence=appended.last_sequence)


def batch_to(batch: Batch, cursors: Cursors) -> events_pb2.SubscribeResponse:
    """Return a batch of a subscription."""
    response = events_pb2.SubscribeResponse.FromString(_events_to(batch.entries, cursors))
    response.cursor = cursors.seal(batch.position)
    return response


def page_to(page: Page, cursors: Cursors) -> events_pb2.ListEventsResponse:
    """Return a page."""
    response = events_pb2.ListEventsResponse.FromString(_events_to(page.entries, cursors))
    response.next_page_token = page.next_page_token
    return response


def _events_to(entries: Iterable[Entry], cursors: Cursors) -> bytes:
    """Return entries as the field ``events`` (number 1) of a response, each with its cursor (number 1 of an event)."""
    pieces: list[bytes] = []
    for entry in entries:
        cursor = cursors.seal(entry.sequence).encode()
        body = entry.record.body
        pieces += (_FIELD_1, _varint(len(body) + len(cursor) + 2), body, _FIELD_1, _varint(len(cursor)), cursor)
    return b"".join(pieces)


def _varint(number: int) -> bytes:
    pieces = bytearray()
    while number > 0x7F:
        pieces.append(number & 0x7F | 0x80)
        number >>= 7
    pieces.append(number)
    return bytes(pieces)
