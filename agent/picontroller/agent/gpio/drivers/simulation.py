"""Settings of simulated hardware, and the wiring behind them: which level a pin has, given who drives it.

Levels here are physical: True is 3.3 V. What active-low lines make of them is the driver's business.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from picontroller.agent.gpio.drivers import Chip, Direction, Feature, LineSettings
from picontroller.agent.gpio.pins import Bias, Drive, Level
from picontroller.core.header import POSITION_OF

PULLED_UP_AT_BOOT = frozenset(range(9))
"""BCM 0-8 are pulled up when a Pi starts, the others down."""

EXPANDER = Chip("raspberrypi-exp-gpio", 8, header=False)
_CHIPS = {
    "Raspberry Pi Zero 2 W": (Chip("pinctrl-bcm2835", 54, header=True),),
    "Raspberry Pi 3 Model B": (Chip("pinctrl-bcm2835", 54, header=True), EXPANDER),
    "Raspberry Pi 4 Model B": (Chip("pinctrl-bcm2711", 58, header=True), EXPANDER),
    "Raspberry Pi 5": (Chip("pinctrl-rp1", 54, header=True), Chip("gpio-brcmstb@107d508500", 32, header=False)),
}
MODELS = tuple(_CHIPS)
ALL_FEATURES = frozenset(Feature)


@dataclass(frozen=True, slots=True)
class Simulation:
    """How a simulated board is built and how it misbehaves."""

    model: str = "Raspberry Pi 4 Model B"
    """Board model, one of ``MODELS``; a model with its revision (``Raspberry Pi 5 Model B Rev 1.0``) counts as its model."""

    claimed: Mapping[int, str] = field(default_factory=dict)
    """Lines that somebody else holds, with the name of the holder: requests for them find the line busy."""

    levels: Mapping[int, Level] = field(default_factory=dict)
    """What drives pins from outside when the board starts; the others follow their pulls."""

    nets: tuple[tuple[int, ...], ...] = ()
    """Pins wired together: what one drives, the others see."""

    bounces: int = 0
    """How often a contact opens and closes again before a level that comes from outside stays."""

    bounce_seconds: float = 0.001
    """Time between two bounces."""

    life_seconds: float | None = None
    """Every so often ``life_pins`` toggle, so that a simulated fleet has something to show. None: never."""

    life_pins: tuple[int, ...] = (4,)
    """The pins that live."""

    features: frozenset[Feature] = ALL_FEATURES
    """What the board can do. An emulated Pi, for example, knows no edges."""

    def __post_init__(self) -> None:
        self.chips()
        named = {*self.claimed, *self.levels, *self.life_pins, *(pin for net in self.nets for pin in net)}
        if strangers := sorted(named - POSITION_OF.keys()):
            raise ValueError(f"the header has no BCM line {', '.join(map(str, strangers))}")
        wired = [pin for net in self.nets for pin in net]
        if len(wired) != len(set(wired)) or any(len(net) < 2 for net in self.nets):
            raise ValueError("each net must join two pins or more, and a pin may be in one net only")
        if not 0 <= self.bounces <= 100:
            raise ValueError("bounces must be between 0 and 100")
        if self.bounce_seconds <= 0 or (self.life_seconds is not None and self.life_seconds <= 0):
            raise ValueError("times must be longer than nothing")
        if not all(self.claimed.values()):
            raise ValueError("a claimed line needs the name of its holder")

    def chips(self) -> tuple[Chip, ...]:
        """Return the chips of the model. Raises ValueError for a model that is not known."""
        for model, chips in _CHIPS.items():
            if self.model.startswith(model):
                return chips
        raise ValueError(f"model {self.model!r} can't be simulated; known are {', '.join(MODELS)}")


class Wiring:
    """The pins of a board as a circuit: held lines, nets, and what is connected from outside."""

    def __init__(self, simulation: Simulation) -> None:
        self.held: dict[int, LineSettings] = {}
        self._outside: dict[int, bool] = {bcm: level is Level.HIGH for bcm, level in simulation.levels.items()}
        self._retained: dict[int, LineSettings] = {}
        self._pulls: dict[int, Bias] = {bcm: Bias.PULL_UP if bcm in PULLED_UP_AT_BOOT else Bias.PULL_DOWN for bcm in POSITION_OF}
        self._net: dict[int, tuple[int, ...]] = {bcm: net for net in simulation.nets for bcm in net}

    def net(self, bcm: int) -> tuple[int, ...]:
        """Return the pins that share a wire with ``bcm``, itself included."""
        return self._net.get(bcm, (bcm,))

    def connect(self, bcm: int, high: bool | None) -> None:
        """Drive a pin from outside; None cuts the wire."""
        if high is None:
            self._outside.pop(bcm, None)
        else:
            self._outside[bcm] = high

    def hold(self, bcm: int, settings: LineSettings) -> None:
        """Hold a line with these settings; AS_IS keeps the way it works."""
        if settings.direction is not Direction.AS_IS:
            self._retained[bcm] = settings
        if settings.bias is not Bias.AS_IS:
            self._pulls[bcm] = settings.bias
        self.held[bcm] = settings

    def let_go(self, bcm: int) -> None:
        """Release a line. It keeps driving, as on Raspberry Pi's own kernels: the harder case for those who rely on it."""
        self.held.pop(bcm, None)

    def direction(self, bcm: int) -> Direction:
        """Return which way a line works, held or not."""
        retained = self._retained.get(bcm)
        return retained.direction if retained else Direction.INPUT

    def high(self, bcm: int) -> bool:
        """Return the level at a pin: whoever drives wins, low over high; then what is outside; then the pulls."""
        net = self.net(bcm)
        driven = [level for pin in net if (level := self._driven(pin)) is not None]
        if driven:
            return all(driven)
        outside = [self._outside[pin] for pin in net if pin in self._outside]
        if outside:
            return all(outside)
        return any(self._pulls[pin] is Bias.PULL_UP for pin in net)

    def levels(self, bcms: Iterable[int]) -> dict[int, bool]:
        """Return the levels at pins."""
        return {bcm: self.high(bcm) for bcm in bcms}

    def _driven(self, bcm: int) -> bool | None:
        """Return what a line's output stage drives; None when it is an input or an open output at rest."""
        settings = self._retained.get(bcm)
        if settings is None or settings.direction is not Direction.OUTPUT:
            return None
        high = (settings.level is Level.HIGH) != settings.active_low
        if settings.drive is Drive.OPEN_DRAIN and high:
            return None
        if settings.drive is Drive.OPEN_SOURCE and not high:
            return None
        return high
