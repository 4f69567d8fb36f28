"""The nouns of GPIO. Numbers of the enumerations equal those of ``picontroller.v1`` so that a conversion is a look-up.

Levels are logical: HIGH means active, also on a line that is active low.
"""

import enum
from dataclasses import dataclass
from typing import Literal


class Level(enum.IntEnum):
    """The logical value of a line."""

    LOW = 1
    HIGH = 2


class Mode(enum.IntEnum):
    """What a line is used for."""

    INPUT = 1
    OUTPUT = 2


class SafeState(enum.IntEnum):
    """Where an output goes when nobody is in charge: INPUT is not driven, HOLD stays as it is."""

    LOW = 1
    HIGH = 2
    INPUT = 3
    HOLD = 4


class Bias(enum.IntEnum):
    """The pull of a line; AS_IS leaves it."""

    AS_IS = 0
    DISABLED = 1
    PULL_UP = 2
    PULL_DOWN = 3


class Drive(enum.IntEnum):
    """How an output drives its line."""

    PUSH_PULL = 1
    OPEN_DRAIN = 2
    OPEN_SOURCE = 3


class Edge(enum.IntEnum):
    """Which changes of an input are reported."""

    NONE = 1
    RISING = 2
    FALLING = 3
    BOTH = 4


class Cause(enum.IntEnum):
    """What changed a line."""

    EDGE = 1
    WRITE = 2
    SAFE = 3
    CONFIGURE = 4


@dataclass(frozen=True, slots=True)
class PinRef:
    """A line as somebody named it: by BCM number, by position on the header, or by name. Exactly what ``kind`` says, never guessed."""

    kind: Literal["bcm", "header", "name"]
    value: int | str


@dataclass(frozen=True, slots=True)
class ResolvedPin:
    """The line that a ``PinRef`` turned out to be. ``line`` is its offset within the chip labelled ``chip``."""

    bcm: int
    header: int
    chip: str
    line: int
    kernel_name: str
