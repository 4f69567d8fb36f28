"""GPIO resources and their rules. A resource is a line in use; a line has one resource at most.

Levels are logical (active-low lines are inverted by the kernel). ``value`` is what is wanted, ``observed`` what was seen: the rules here
never mix the two. Absent choices are filled in once, by ``new_resource``, so that everything after it reads what will happen.
"""

import dataclasses
import enum
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NewType

from picontroller.core import header, ids
from picontroller.core.errors import Conflict, FailedPrecondition, InvalidArgument, NotFound, Violation

ResourceId = NewType("ResourceId", str)


class Mode(enum.Enum):
    """What a line is used for. Names and numbers of the enums here equal those of ``picontroller.v1``; None stands for UNSPECIFIED."""

    INPUT = 1
    OUTPUT = 2


class Level(enum.Enum):
    """Logical level of a line."""

    LOW = 1
    HIGH = 2


class Safe(enum.Enum):
    """Where an output goes when nobody is in charge."""

    LOW = 1
    HIGH = 2
    INPUT = 3
    HOLD = 4


class Restore(enum.Enum):
    """What happens to the wanted value after the agent was restarted."""

    SAFE = 1
    DESIRED = 2


class Bias(enum.Enum):
    """Pull of a line."""

    DISABLED = 1
    PULL_UP = 2
    PULL_DOWN = 3


class Drive(enum.Enum):
    """How an output drives."""

    PUSH_PULL = 1
    OPEN_DRAIN = 2
    OPEN_SOURCE = 3


class Edge(enum.Enum):
    """Which changes of an input are events."""

    NONE = 1
    RISING = 2
    FALLING = 3
    BOTH = 4


class Stage(enum.Enum):
    """How far a resource has come. One in CREATING reserves its line and is shown to nobody."""

    CREATING = "creating"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class Pin:
    """A line as it was asked for: ``("bcm", "17")``, ``("header", "11")`` or ``("name", "GPIO17")``."""

    kind: Literal["bcm", "header", "name"]
    text: str

    def __str__(self) -> str:
        return f"{self.kind} {self.text}"


@dataclass(frozen=True, slots=True)
class Resolved:
    """The line that a Pin is. ``header`` is 0 for a line that is not on the header."""

    bcm: int
    header: int
    chip: str = ""
    line: int = 0
    kernel_name: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Epoch:
    """Fences a line: agents refuse what comes under a lower one than they have seen. Ordered by term, then counter."""

    term: int
    counter: int


@dataclass(frozen=True, slots=True)
class Observation:
    """A level seen on the hardware at ``time``; ``stale`` when the node could not be asked."""

    level: Level | None
    time: datetime
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Resource:
    """A line in use.

    ``run_id`` is the agent's start under which the line was configured last. ``applied`` is False while an output stands in its safe state
    instead of at ``value``. ``debounce`` is in microseconds. ``etag`` changes with everything but ``observed``, ``run_id`` and ``applied``.
    """

    id: ResourceId
    name: str
    namespace: str
    node_id: str
    pin: Pin
    resolved: Resolved
    mode: Mode
    create_time: datetime
    etag: str
    epoch: Epoch = Epoch(0, 0)
    value: Level | None = None
    safe: Safe | None = None
    restore: Restore = Restore.SAFE
    bias: Bias | None = None
    drive: Drive | None = None
    active_low: bool = False
    edge: Edge | None = None
    debounce: int = 0
    observed: Observation | None = None
    stage: Stage = Stage.CREATING
    run_id: str = ""
    applied: bool = False

    @property
    def full_name(self) -> str:
        """Namespace and name, as people say it."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a new resource is to be; None and empty fields are filled in by ``new_resource``."""

    name: str
    namespace: str
    node_id: str
    pin: Pin
    mode: Mode
    value: Level | None = None
    safe: Safe | None = None
    restore: Restore | None = None
    bias: Bias | None = None
    drive: Drive | None = None
    active_low: bool = False
    edge: Edge | None = None
    debounce: int = 0


CHANGEABLE = ("value", "safe", "restore", "bias", "edge", "debounce")


@dataclass(frozen=True, slots=True)
class Change:
    """What is to become different: ``fields`` names which of the others count. A counting field that is None goes back to its default."""

    fields: frozenset[str]
    value: Level | None = None
    safe: Safe | None = None
    restore: Restore | None = None
    bias: Bias | None = None
    edge: Edge | None = None
    debounce: int = 0


def bcm_of(pin: Pin, kernel_names: Iterable[tuple[str, int]]) -> int:
    """Return the BCM number of ``pin``. ``kernel_names`` are those of the node's lines, for names that the header does not explain.

    Raises InvalidArgument (PIN_UNKNOWN, PIN_POWER, PIN_RESERVED) that names the field.
    """
    try:
        if pin.kind == "bcm":
            return header.bcm_from_number(int(pin.text))
        if pin.kind == "header":
            return header.bcm_from_position(int(pin.text))
        found = header.bcm_from_name(pin.text)
        if found is not None:
            return found
        lines = [bcm for name, bcm in kernel_names if name == pin.text]
        if len(lines) != 1:
            raise InvalidArgument(f"the node has no line called {pin.text}", reason="PIN_UNKNOWN")
        return header.bcm_from_number(lines[0])
    except InvalidArgument as error:
        raise InvalidArgument(error.message, reason=error.reason, violations=[Violation(f"pin.{pin.kind}", error.message)]) from None


def new_resource(wish: Wish, bcm: int, now: datetime) -> Resource:
    """Return the resource that ``wish`` asks for on line ``bcm``, absent choices filled in, in CREATING and without an epoch."""
    output = wish.mode is Mode.OUTPUT
    return Resource(
        id=ResourceId(ids.new_uuid()),
        name=wish.name,
        namespace=wish.namespace or "default",
        node_id=wish.node_id,
        pin=wish.pin,
        resolved=Resolved(bcm, header.POSITION_OF[bcm]),
        mode=wish.mode,
        create_time=now,
        etag=ids.new_etag(),
        value=wish.value,
        safe=(wish.safe or Safe.INPUT) if output else None,
        restore=wish.restore or Restore.SAFE,
        bias=wish.bias,
        drive=(wish.drive or Drive.PUSH_PULL) if output else None,
        active_low=wish.active_low,
        edge=None if output else (wish.edge or Edge.NONE),
        debounce=wish.debounce,
        applied=wish.value is not None,
    )


def changed(resource: Resource, change: Change) -> Resource:
    """Return ``resource`` with ``change`` and a fresh etag.

    Raises InvalidArgument when nothing is changed or a level is missing, FailedPrecondition (NOT_AN_OUTPUT, NOT_AN_INPUT) for fields that
    the resource's mode has no use for.
    """
    if not change.fields:
        raise InvalidArgument("nothing to change: give a field or an update_mask that names one", reason="NOTHING_TO_CHANGE")
    if "value" in change.fields and change.value is None:
        fault = Violation("value", "is named in update_mask and missing; give LOW or HIGH")
        raise InvalidArgument("value is named in update_mask and missing", reason="VALUE_MISSING", violations=[fault])
    output = resource.mode is Mode.OUTPUT
    if not output and (misplaced := sorted({"value", "safe"} & change.fields)):
        raise not_an_output(resource, misplaced[0])
    if output and (misplaced := sorted({"edge", "debounce"} & change.fields)):
        raise FailedPrecondition(f"{resource.full_name} is not an input: {misplaced[0]} belongs to inputs", reason="NOT_AN_INPUT")
    named = change.fields
    return dataclasses.replace(
        resource,
        value=change.value if "value" in named else resource.value,
        safe=(change.safe or Safe.INPUT) if "safe" in named else resource.safe,
        restore=(change.restore or Restore.SAFE) if "restore" in named else resource.restore,
        bias=change.bias if "bias" in named else resource.bias,
        edge=(change.edge or Edge.NONE) if "edge" in named else resource.edge,
        debounce=change.debounce if "debounce" in named else resource.debounce,
        etag=ids.new_etag(),
    )


def not_an_output(resource: Resource, what: str) -> FailedPrecondition:
    """Return the error for treating an input as an output."""
    return FailedPrecondition(
        f"{resource.full_name} is not an output: {what} belongs to outputs", reason="NOT_AN_OUTPUT", metadata={"id": resource.id}
    )


def unknown(resource_id: str) -> NotFound:
    """Return the error for an id that no resource has."""
    return NotFound(f"there is no GPIO resource {resource_id}", reason="GPIO_RESOURCE_UNKNOWN", metadata={"id": resource_id})


def check_etag(resource: Resource, expected: frozenset[str] | None) -> None:
    """Raise Conflict unless the resource's etag is among those ``expected``; None expects any."""
    if expected is not None and resource.etag not in expected:
        raise Conflict(
            f"{resource.full_name} was changed by somebody else; read it again", reason="ETAG_STALE", metadata={"etag": resource.etag}
        )
