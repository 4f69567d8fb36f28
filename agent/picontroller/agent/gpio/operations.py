"""What may be done with lines. A batch of operations happens wholly or not at all; ``lines`` says how."""

from dataclasses import dataclass
from datetime import datetime

from picontroller.agent.gpio.pins import Bias, Drive, Edge, Level, Mode, PinRef, ResolvedPin, SafeState


@dataclass(frozen=True, slots=True, order=True)
class Epoch:
    """A fencing token: the line's agent refuses one that is lower than the highest it has seen. Ordered by term, then counter."""

    term: int
    counter: int

    def __str__(self) -> str:
        return f"{self.term}.{self.counter}"


@dataclass(frozen=True, slots=True)
class Configure:
    """Take a line into use, or change how it is used. ``value`` None lets an output begin in its safe state."""

    mode: Mode
    value: Level | None = None
    safe: SafeState = SafeState.INPUT
    bias: Bias = Bias.AS_IS
    drive: Drive = Drive.PUSH_PULL
    active_low: bool = False
    edge: Edge = Edge.NONE
    debounce_us: int = 0


@dataclass(frozen=True, slots=True)
class Write:
    """Drive an output."""

    value: Level


@dataclass(frozen=True, slots=True)
class Read:
    """Look at a line in use."""


@dataclass(frozen=True, slots=True)
class Release:
    """Bring a line to its safe state and forget it. Nothing happens to a line that is not in use."""


Action = Configure | Write | Read | Release


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing to do with one line, under an epoch. Reading needs none."""

    pin: PinRef
    action: Action
    epoch: Epoch | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """How a line is after an operation: ``level`` was read back from the hardware at ``time``; both None after a release."""

    pin: ResolvedPin
    level: Level | None = None
    time: datetime | None = None
