"""What a GPIO driver must do: ``PinDriver`` is how the agent reaches hardware, ``PinBank`` is the hardware itself.

A driver author's contract

Threads. Everything that touches hardware happens within ``PinDriver.perform``: the driver runs the work it is given in one place (a thread
of its own, or the event loop when its calls never block), one after the other, in the order of the calls. Work that has begun runs to its
end even when the caller is cancelled. A ``PinBank`` is used only within such work, so that it needs no lock.

Lines. A line is named by its BCM number, which on the header's chip is its offset. Each requested line is held on its own, so that one
can change without touching another. A line stays requested until ``release`` or ``close``; nobody else can have it meanwhile. What a
released output does is up to the kernel: Raspberry Pi kernels keep driving it, mainline makes it an input. Never rely on either.

Atomicity. ``set`` drives its lines one after the other as close together as the hardware allows. When it fails, some may have moved and
some not; whoever called it puts them back.

Errors. FailedPrecondition LINE_BUSY (somebody else has the line; ``metadata["consumer"]`` names it), Unsupported FEATURE_MISSING (the board
can't do what the settings ask), Unavailable HARDWARE_ERROR (anything else that the hardware refused). After a failed ``request`` the line
is not held; after a failed ``reconfigure`` it is held with settings that are not known.

Edges. Reported for requested inputs whose settings ask for them, with the kernel's wall time, each line's in their order. What the kernel
dropped because nobody read in time is counted in the next edge that comes through: ``LineEdge.lost``, exact.
"""

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from picontroller.agent.gpio.pins import Bias, Drive, Edge, Level

T = TypeVar("T")

CONSUMER = "pi-controller"
"""Under which name our lines are held, so that ``gpioinfo`` tells people who has them."""


class Direction(enum.Enum):
    """Which way a line works. AS_IS requests it without touching it; for a line that is held already it changes nothing."""

    AS_IS = "as-is"
    INPUT = "input"
    OUTPUT = "output"


class Feature(enum.StrEnum):
    """What not every board can do."""

    EDGES = "edges"
    DEBOUNCE = "debounce"
    BIAS = "bias"
    OPEN_DRAIN = "open-drain"
    OPEN_SOURCE = "open-source"


@dataclass(frozen=True, slots=True)
class LineSettings:
    """How a line is requested. ``level`` is that of an output, logical; it takes effect together with the direction, without a glitch."""

    direction: Direction
    level: Level | None = None
    bias: Bias = Bias.AS_IS
    drive: Drive = Drive.PUSH_PULL
    active_low: bool = False
    edge: Edge = Edge.NONE
    debounce_us: int = 0

    def at(self, level: Level) -> "LineSettings":
        """Return the settings with another level. Spelled out, because ``replace`` costs as much as all else in a simulated write."""
        return LineSettings(self.direction, level, self.bias, self.drive, self.active_low, self.edge, self.debounce_us)


@dataclass(frozen=True, slots=True)
class LineInfo:
    """What is known of a line without requesting it. ``consumer`` is empty for a free line, ``CONSUMER`` for ours.

    ``direction`` is true of lines that somebody holds; of others the kernel remembers what they were last.
    """

    bcm: int
    kernel_name: str
    consumer: str
    direction: Direction


@dataclass(frozen=True, slots=True)
class Chip:
    """One GPIO chip of the board. ``header`` is True for the one that the 40-pin header hangs on."""

    label: str
    lines: int
    header: bool


@dataclass(frozen=True, slots=True)
class LineEdge:
    """A change of an input. ``level`` is the logical level after it, ``time_ns`` the kernel's wall time in nanoseconds since 1970.

    ``lost`` counts the line's edges between this one and the one reported before that were dropped.
    """

    bcm: int
    level: Level
    time_ns: int
    lost: int = 0


EdgeListener = Callable[[Sequence[LineEdge]], None]


class PinBank(Protocol):
    """The lines of the header's chip. To be used within ``PinDriver.perform`` only; see the module for errors."""

    def info(self, bcm: int) -> LineInfo:
        """Return what is known of a line."""
        ...

    def request(self, bcm: int, settings: LineSettings) -> None:
        """Take a line that we do not hold."""
        ...

    def reconfigure(self, bcm: int, settings: LineSettings) -> None:
        """Change a line that we hold, without letting it go in between."""
        ...

    def set(self, levels: Mapping[int, Level]) -> None:
        """Drive outputs that we hold, in the mapping's order."""
        ...

    def get(self, bcms: Iterable[int]) -> dict[int, Level]:
        """Return the levels at the pins of lines that we hold, outputs included."""
        ...

    def release(self, bcm: int) -> None:
        """Let a line go. Nothing happens when we do not hold it; never fails."""
        ...


class PinDriver(Protocol):
    """A way to reach a board's lines."""

    @property
    def name(self) -> str:
        """``gpiod`` or ``sim``."""
        ...

    @property
    def atomicity(self) -> str:
        """How nearly at once the lines of a batch move: ``SEQUENTIAL`` or ``SIM``."""
        ...

    @property
    def chips(self) -> tuple[Chip, ...]:
        """The board's chips, that of the header among them."""
        ...

    @property
    def label(self) -> str:
        """Label of the header's chip."""
        ...

    @property
    def features(self) -> frozenset[Feature]:
        """What the board can do."""
        ...

    async def perform(self, work: Callable[[PinBank], T]) -> T:
        """Run ``work`` where hardware is touched and return what it returns, or raise what it raises."""
        ...

    def listen(self, listener: EdgeListener) -> None:
        """Report edges to ``listener``, in batches, from wherever the driver works: it must be quick and may be called in a thread."""
        ...

    def problems(self) -> list[str]:
        """Return what no caller was told because it happened by itself, one line each: EDGES_NOT_READ. From any thread."""
        ...

    async def close(self) -> None:
        """Let all lines go. Waits for work that has begun; work that comes later raises Unavailable."""
        ...
