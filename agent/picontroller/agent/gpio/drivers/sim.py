"""Simulated hardware: a part of the product, for trying it on a laptop and for testing what real hardware does only when it breaks.

It keeps the contract of ``drivers``. What tests and demonstrations do to the hardware, they do to ``board``. Everything happens on the
event loop; nothing blocks.
"""

from collections.abc import Callable

from picontroller.agent.gpio.drivers import Chip, Direction, EdgeListener, Feature, PinBank, T
from picontroller.agent.gpio.drivers.board import SimBoard
from picontroller.agent.gpio.drivers.simulation import Simulation
from picontroller.agent.gpio.pins import Level
from picontroller.core.clock import Clock
from picontroller.core.errors import Unavailable


class SimDriver:
    """Reaches the lines of a ``SimBoard``."""

    def __init__(self, simulation: Simulation, clock: Clock) -> None:
        self.board = SimBoard(simulation, clock)
        self._simulation = simulation
        self._clock = clock
        self._delay = 0.0
        self._closed = False

    @property
    def name(self) -> str:
        """``sim``."""
        return "sim"

    @property
    def atomicity(self) -> str:
        """``SIM``."""
        return "SIM"

    @property
    def chips(self) -> tuple[Chip, ...]:
        """The chips of the simulated model."""
        return self._simulation.chips()

    @property
    def label(self) -> str:
        """Label of the header's chip."""
        return next(chip.label for chip in self.chips if chip.header)

    @property
    def features(self) -> frozenset[Feature]:
        """What the simulated board can do."""
        return self._simulation.features

    async def perform(self, work: Callable[[PinBank], T]) -> T:
        """Run ``work`` here and now, after the delay that ``slow`` set."""
        if self._delay:
            await self._clock.sleep(self._delay)
        if self._closed:
            raise Unavailable("the GPIO driver is closed", reason="DRIVER_CLOSED")
        return work(self.board)

    def listen(self, listener: EdgeListener) -> None:
        """Report edges to ``listener``."""
        self.board.listener = listener

    def problems(self) -> list[str]:
        """Return nothing: what a simulated board lacks, its user took away."""
        return []

    async def close(self) -> None:
        """Let all lines go."""
        self._closed = True
        await self.board.close()

    def slow(self, seconds: float) -> None:
        """Let each piece of work wait so long before it begins."""
        self._delay = seconds

    async def live(self) -> None:
        """Toggle the pins that live, for ever. Returns at once when none does."""
        if self._simulation.life_seconds is None:
            return
        while not self._closed:
            await self._clock.sleep(self._simulation.life_seconds)
            for bcm in self._simulation.life_pins:
                if self.board.direction(bcm) is Direction.INPUT:
                    self.board.drive(bcm, Level.LOW if self.board.level(bcm) is Level.HIGH else Level.HIGH)
