"""Between resources, what agents are asked and tell, and their messages. Enumerations have the numbers of the protos; 0 is None."""

from collections.abc import Sequence
from datetime import UTC, datetime

from google.protobuf import timestamp_pb2
from google.protobuf.message import Message

from picontroller.core import callers
from picontroller.core.errors import InvalidArgument, Violation
from picontroller.core.rpc import errors as rpc_errors
from picontroller.core.store import requests
from picontroller.core.store.requests import RequestKey
from picontroller.gpio.batches import WantedLevel
from picontroller.gpio.boards import Batch, Cause, Configure, LineEvent, Node, Operation, Outcome, Position, Read, Write
from picontroller.gpio.following import Glimpse, Seen
from picontroller.gpio.resources import (
    CHANGEABLE,
    Bias,
    Change,
    Drive,
    Edge,
    Level,
    Mode,
    Observation,
    Pin,
    Resolved,
    Resource,
    Restore,
    Safe,
    Wish,
)
from picontroller.gpio.rows import Answer
from picontroller.v1 import agent_pb2, discovery_pb2, gpio_events_pb2, gpio_pb2, types_pb2

_CAUSES: dict[int, Cause] = {1: "edge", 2: "write", 3: "safe", 4: "configure"}


def key_of(request: Message, request_id: str) -> RequestKey:
    """Return how a repetition of this caller's request is recognised."""
    body = request.SerializeToString(deterministic=True)
    return requests.request_key(callers.current().principal, request_id, request.DESCRIPTOR.name, body)


def pin_from(message: types_pb2.PinRef) -> Pin:
    """Return a line as it was asked for."""
    match message.WhichOneof("ref"):
        case "bcm":
            return Pin("bcm", str(message.bcm))
        case "header":
            return Pin("header", str(message.header))
        case _:
            return Pin("name", message.name)


def pin_to(pin: Pin) -> types_pb2.PinRef:
    """Return a line as it was asked for as a message."""
    if pin.kind == "name":
        return types_pb2.PinRef(name=pin.text)
    return types_pb2.PinRef(bcm=int(pin.text)) if pin.kind == "bcm" else types_pb2.PinRef(header=int(pin.text))


def wish_from(request: gpio_pb2.CreateGpioResourceRequest) -> Wish:
    """Return what a new resource is to be."""
    return Wish(
        name=request.name,
        namespace=request.namespace,
        node_id=request.node_id,
        pin=pin_from(request.pin),
        mode=Mode(request.mode),
        value=Level(request.value) if request.value else None,
        safe=Safe(request.safe) if request.safe else None,
        restore=Restore(request.restore) if request.restore else None,
        bias=Bias(request.bias) if request.bias else None,
        drive=Drive(request.drive) if request.drive else None,
        active_low=request.active_low,
        edge=Edge(request.edge) if request.edge else None,
        debounce=request.debounce.ToMicroseconds(),
    )


def change_from(request: gpio_pb2.UpdateGpioResourceRequest) -> Change:
    """Return what a request changes: exactly what its mask names, else the fields that are present.

    Raises InvalidArgument (UPDATE_MASK_INVALID) for a mask that names anything else.
    """
    named = list(request.update_mask.paths)
    faults = [
        Violation("update_mask", f"{path!r} can't be updated; {', '.join(CHANGEABLE)} can") for path in named if path not in CHANGEABLE
    ]
    if faults:
        raise InvalidArgument("; ".join(fault.description for fault in faults), reason="UPDATE_MASK_INVALID", violations=faults)
    present = {field.name for field, _ in request.ListFields()}
    return Change(
        fields=frozenset(named or present.intersection(CHANGEABLE)),
        value=Level(request.value) if request.value else None,
        safe=Safe(request.safe) if request.safe else None,
        restore=Restore(request.restore) if request.restore else None,
        bias=Bias(request.bias) if request.bias else None,
        edge=Edge(request.edge) if request.edge else None,
        debounce=request.debounce.ToMicroseconds(),
    )


def writes_from(request: gpio_pb2.WritePinsRequest) -> list[WantedLevel]:
    """Return a batch of levels."""
    return [WantedLevel(write.id, Level(write.value)) for write in request.writes]


def resource_to(resource: Resource) -> gpio_pb2.GpioResource:
    """Return a resource as a message."""
    where = resource.resolved
    message = gpio_pb2.GpioResource(
        id=resource.id,
        name=resource.name,
        namespace=resource.namespace,
        node_id=resource.node_id,
        pin=pin_to(resource.pin),
        resolved=types_pb2.ResolvedPin(bcm=where.bcm, header=where.header, chip=where.chip, line=where.line, kernel_name=where.kernel_name),
        observed=observation_to(resource.observed),
        etag=resource.etag,
        active_low=resource.active_low,
        create_time=_timestamp(resource.create_time),
        epoch=types_pb2.Epoch(term=resource.epoch.term, counter=resource.epoch.counter),
    )
    for field in ("mode", "value", "safe", "restore", "bias", "drive", "edge"):
        if (choice := getattr(resource, field)) is not None:
            setattr(message, field, choice.value)
    if resource.debounce:
        message.debounce.FromMicroseconds(resource.debounce)
    return message


def page_to(page: tuple[Sequence[Resource], str]) -> gpio_pb2.ListGpioResourcesResponse:
    """Return a page of resources as a message."""
    found, token = page
    return gpio_pb2.ListGpioResourcesResponse(gpio_resources=[resource_to(resource) for resource in found], next_page_token=token)


def observation_to(seen: Observation | None) -> types_pb2.Observation | None:
    """Return what was seen as a message."""
    if seen is None:
        return None
    level = seen.level.value if seen.level else 0
    return types_pb2.Observation(value=types_pb2.Level.Value.ValueType(level), time=_timestamp(seen.time), stale=seen.stale)


def answer_to(answer: Answer) -> gpio_pb2.PinOutcome:
    """Return what became of one resource in a batch as a message."""
    error = rpc_errors.status_of(answer.error) if answer.error else None
    return gpio_pb2.PinOutcome(id=answer.id, observed=observation_to(answer.observed), error=error)


def glimpse_to(glimpse: Glimpse) -> gpio_events_pb2.WatchGpioResponse:
    """Return what a watcher gets as a message."""
    return gpio_events_pb2.WatchGpioResponse(events=[_gpio_event(seen) for seen in glimpse.seen], lost=glimpse.lost)


def operation_to(operation: Operation) -> agent_pb2.PinOperation:
    """Return one thing to do with one line as a message."""
    message = agent_pb2.PinOperation(pin=types_pb2.PinRef(bcm=operation.bcm))
    if operation.epoch is not None:
        message.epoch.term, message.epoch.counter = operation.epoch.term, operation.epoch.counter
    action = operation.action
    if isinstance(action, Configure):
        _configure(message.configure, action)
    elif isinstance(action, Write):
        message.write.value = types_pb2.Level.Value.ValueType(action.value.value)
    elif isinstance(action, Read):
        message.read.SetInParent()
    else:
        message.release.SetInParent()
    return message


def outcome_from(message: agent_pb2.PinResult) -> Outcome:
    """Return how a line is after an operation."""
    seen = message.observed if message.HasField("observed") else None
    where = message.resolved
    resolved = Resolved(where.bcm, where.header, where.chip, where.line, where.kernel_name)
    return Outcome(resolved, Observation(_level(seen.value), _time(seen.time)) if seen else None)


def batch_from(message: agent_pb2.WatchEdgesResponse) -> Batch:
    """Return a batch of an agent's events. Events of causes that this release does not know are passed over."""
    events = tuple(
        LineEvent(event.sequence, event.resolved.bcm, event.resolved.header, _level(event.value), _CAUSES[event.cause], _time(event.time))
        for event in message.events
        if event.cause in _CAUSES
    )
    return Batch(events, message.lost, Position(message.run_id, message.sequence))


def node_from(message: discovery_pb2.Node) -> Node:
    """Return a node as far as it matters here. Every state but LOST is worth a try."""
    online = message.status != discovery_pb2.NodeStatus.LOST and bool(message.agent_address)
    names = tuple((line.pin.kernel_name, line.pin.bcm) for line in message.capabilities.lines if line.pin.kernel_name)
    return Node(message.id, message.agent_address, online, names)


def _configure(message: agent_pb2.ConfigurePin, action: Configure) -> None:
    for field in ("mode", "value", "safe", "bias", "drive", "edge"):
        if (choice := getattr(action, field)) is not None:
            setattr(message, field, choice.value)
    message.active_low = action.active_low
    if action.debounce:
        message.debounce.FromMicroseconds(action.debounce)
    message.SetInParent()


def _gpio_event(seen: Seen) -> gpio_events_pb2.GpioEvent:
    resource, event = seen.resource, seen.event
    return gpio_events_pb2.GpioEvent(
        id=resource.id,
        name=resource.name,
        namespace=resource.namespace,
        node_id=resource.node_id,
        value=types_pb2.Level.Value.ValueType(event.level.value if event.level else 0),
        cause=event.cause,
        time=_timestamp(event.time),
        sequence=event.sequence,
    )


def _level(number: int) -> Level | None:
    return Level(number) if number in (1, 2) else None


def _time(message: timestamp_pb2.Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)


def _timestamp(time: datetime) -> timestamp_pb2.Timestamp:
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(time)
    return message
