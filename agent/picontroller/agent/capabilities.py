"""What this node can do, as it tells others: the board, its GPIO backend, and the lines of its header. And how it presents itself.

Shapes follow ``picontroller.v1.Capabilities`` and ``RegisterNodeRequest``. Two equal presentations need no second registration.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from picontroller.agent.board.hardware import Board
from picontroller.agent.gpio.drivers import Chip, PinDriver
from picontroller.agent.gpio.pins import ResolvedPin


@dataclass(frozen=True, slots=True)
class HeaderLine:
    """One line of the header. ``reserved`` says why it can't be used, empty when it can."""

    pin: ResolvedPin
    reserved: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What was found on the board."""

    board: Board
    gpio_backend: str
    gpio_chips: tuple[Chip, ...]
    lines: tuple[HeaderLine, ...]
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Presentation:
    """What a node says of itself when it registers. ``mac_address`` is empty when it is not known; ``agent_address`` is ``HOST:PORT``."""

    hostname: str
    ip_address: str
    mac_address: str
    architecture: str
    capabilities: Capabilities
    agent_version: str
    agent_address: str


def capabilities(board: Board, driver: PinDriver, survey: Iterable[tuple[ResolvedPin, str]]) -> Capabilities:
    """Return what a board can do with a driver; ``survey`` is what ``Lines.survey`` found out about the header."""
    lines = tuple(HeaderLine(pin, reserved) for pin, reserved in survey)
    return Capabilities(board, driver.name, driver.chips, lines, tuple(sorted(driver.features)))
