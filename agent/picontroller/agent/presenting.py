"""What this node is right now: the board is looked at anew each time, because devices come and go and permissions get mended."""

from pathlib import Path

from picontroller.agent import addresses
from picontroller.agent.board import simulated
from picontroller.agent.board.backends import Machine
from picontroller.agent.capabilities import Capabilities, Presentation, capabilities
from picontroller.agent.gpio.drivers import PinDriver
from picontroller.agent.gpio.panel import Panel
from picontroller.agent.settings import Settings
from picontroller.core.version import version


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
