"""What this node is right now: the board is looked at anew each time, because devices come and go and permissions get mended."""

from collections.abc import Callable, Mapping
from pathlib import Path

from picontroller.agent import addresses, hardware, simulated
from picontroller.agent.capabilities import Capabilities, Presentation, capabilities
from picontroller.agent.gpio.drivers import PinDriver
from picontroller.agent.gpio.panel import Panel
from picontroller.agent.hardware import Board
from picontroller.agent.settings import Settings
from picontroller.core.version import version


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


class Surveyor:
    """Puts together what others are told of this node."""

    def __init__(self, machine: Machine, driver: PinDriver, panel: Panel) -> None:
        self._machine = machine
        self._driver = driver
        self._panel = panel

    async def capabilities(self) -> Capabilities:
        """Return what this node can do now."""
        return capabilities(self._machine.look(), self._driver, await self._panel.lines.survey())


class Presenter:
    """Says how this node is found and what it is."""

    def __init__(self, settings: Settings, gateway: str, node_id: str, surveyor: Surveyor, architecture: str) -> None:
        self._settings = settings
        self._gateway = gateway
        self._node_id = node_id
        self._surveyor = surveyor
        self._architecture = architecture
        self.bound = ""

    async def presentation(self) -> Presentation:
        """Return how this node presents itself now. Raises Unavailable while there is no way to the gateway."""
        reach = await addresses.reach(self._gateway, self._root())
        found = await self._surveyor.capabilities()
        return Presentation(
            hostname=addresses.hostname(self._settings.hostname),
            ip_address=reach.ip_address,
            mac_address=simulated.mac_address(self._node_id) if found.board.simulated else reach.mac_address,
            architecture="aarch64" if found.board.simulated else self._architecture,
            capabilities=found,
            agent_version=version(),
            agent_address=addresses.agent_address(self._settings.advertise, self.bound, reach.ip_address),
        )

    def _root(self) -> Path:
        return self._settings.root
