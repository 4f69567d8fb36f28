"""One line as the agent uses it. What the hardware should be follows from it, so that nobody keeps a second truth."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from picontroller.agent.gpio.drivers import Direction, LineSettings
from picontroller.agent.gpio.operations import Configure, Epoch
from picontroller.agent.gpio.pins import Bias, Drive, Edge, Level, Mode, ResolvedPin, SafeState

SAFE_LEVELS = {SafeState.LOW: Level.LOW, SafeState.HIGH: Level.HIGH}


@dataclass(frozen=True, slots=True)
class Line:
    """A line in use.

    ``level`` is what an output drives; None while it is not driven: as a safe INPUT, or before its first level. ``as_is`` is True for an
    output that was taken over from whoever drove it before and left alone (safe HOLD). ``held`` is False while the driver could not get
    the line, or lost it.
    """

    pin: ResolvedPin
    mode: Mode
    level: Level | None = None
    safe: SafeState = SafeState.INPUT
    bias: Bias = Bias.AS_IS
    drive: Drive = Drive.PUSH_PULL
    active_low: bool = False
    edge: Edge = Edge.NONE
    debounce_us: int = 0
    as_is: bool = False
    held: bool = True

    def settings(self) -> LineSettings:
        """Return how the driver has to hold the line."""
        if self.mode is Mode.INPUT:
            return LineSettings(Direction.INPUT, bias=self.bias, active_low=self.active_low, edge=self.edge, debounce_us=self.debounce_us)
        if self.as_is:
            return LineSettings(Direction.AS_IS, active_low=self.active_low)
        if self.level is None:
            return LineSettings(Direction.INPUT, bias=self.bias, active_low=self.active_low)
        return LineSettings(Direction.OUTPUT, level=self.level, bias=self.bias, drive=self.drive, active_low=self.active_low)

    def at_safe(self) -> "Line":
        """Return the line as it is when nobody is in charge. Inputs, and outputs that hold, stay as they are."""
        if self.mode is Mode.INPUT or self.safe is SafeState.HOLD:
            return self
        return replace(self, level=SAFE_LEVELS.get(self.safe), as_is=False)

    def driving(self, level: Level) -> "Line":
        """Return the line with a level driven. Spelled out, because ``replace`` costs as much as all else in a write's planning."""
        return Line(
            self.pin,
            self.mode,
            level,
            self.safe,
            self.bias,
            self.drive,
            self.active_low,
            self.edge,
            self.debounce_us,
            as_is=False,
            held=True,
        )

    def undriven(self) -> "Line":
        """Return the line as an input that nobody watches: how it is let go, because a released output may go on driving."""
        return replace(self, mode=Mode.OUTPUT, level=None, as_is=False)


def configured(pin: ResolvedPin, wanted: Configure, before: Line | None) -> Line:
    """Return the line, held, that a configuration makes of ``before`` (None for a line that was not in use)."""
    line = Line(
        pin,
        wanted.mode,
        wanted.value,
        wanted.safe,
        wanted.bias,
        wanted.drive,
        wanted.active_low,
        wanted.edge,
        wanted.debounce_us,
    )
    if wanted.mode is Mode.INPUT or wanted.value is not None:
        return line
    if wanted.safe is not SafeState.HOLD:
        return line.at_safe()
    if before is None or not before.held or before.mode is Mode.INPUT:
        return replace(line, as_is=before is None or not before.held)
    return replace(line, level=before.level, as_is=before.as_is)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What outlives the agent: outputs (their safe states and how they drive; ``level`` counts for nothing) and the highest epochs seen."""

    outputs: Mapping[int, Line]
    epochs: Mapping[int, Epoch]
