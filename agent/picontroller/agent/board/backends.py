"""Which board an agent has: the real one or a simulated one, with the driver and the sensors that go with it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from picontroller.agent.board import hardware, simulated
from picontroller.agent.board.hardware import Board
from picontroller.agent.board.metrics import Sample, SystemMetrics
from picontroller.agent.board.simulated import SimulatedMetrics
from picontroller.agent.gpio.drivers import PinDriver
from picontroller.agent.settings import Settings
from picontroller.core.clock import Clock

OpenDriver = Callable[[Settings, Clock], Awaitable[tuple[PinDriver, Callable[[], Awaitable[None]]]]]
"""Opens a driver; see ``open_driver``."""


class Metrics(Protocol):
    """The machine's state."""

    def sample(self) -> Sample:
        """Return the state now."""
        ...


class Machine:
    """The board under this agent, real or simulated. ``board`` is as it was when last looked at."""

    def __init__(self, look: Callable[[], Board]) -> None:
        self._look = look
        self.board = look()

    def look(self) -> Board:
        """Look again and return what is there."""
        self.board = self._look()
        return self.board

    def reserved(self) -> Mapping[int, str]:
        """Return why lines can't be used, by BCM number."""
        return self.board.reserved

    def problems(self) -> tuple[str, ...]:
        """Return what the agent may not open."""
        return self.board.permission_problems


def machine_of(settings: Settings) -> Machine:
    """Return the machine that ``settings`` speak of. Raises ValueError for a model that can't be simulated."""
    if settings.backend == "sim":
        board = simulated.board_like(settings.simulated_model)
        return Machine(lambda: board)
    return Machine(lambda: hardware.detect(settings.root))


def metrics_of(machine: Machine, settings: Settings, clock: Clock, node_id: str) -> Metrics:
    """Return the sensors of a machine."""
    if machine.board.simulated:
        return SimulatedMetrics(clock, machine.board, node_id)
    return SystemMetrics(clock, settings.root)


async def open_driver(settings: Settings, clock: Clock) -> tuple[PinDriver, Callable[[], Awaitable[None]]]:
    """Return the driver that ``settings`` name, open, and what brings a simulated board to life in the background.

    Raises FailedPrecondition for hardware that is not there or may not be used.
    """
    if settings.backend == "sim":
        from picontroller.agent.gpio.drivers.sim import SimDriver  # here and below, because an agent needs one of them
        from picontroller.agent.gpio.drivers.simulation import Simulation

        driver = SimDriver(Simulation(model=settings.simulated_model, life_seconds=settings.simulated_life_seconds), clock)
        return driver, driver.live
    from picontroller.agent.gpio.drivers import gpiod

    return await gpiod.open_driver(settings.root, settings.chip), _nothing


async def _nothing() -> None:
    """Do nothing: real boards live by themselves."""
