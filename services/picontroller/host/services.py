"""The list of services: name, default port, settings, how to build it. A new service is one line here."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

from picontroller.core.rpc.wiring import Build


@dataclass(frozen=True, slots=True)
class Hosted:
    """A service that can be hosted. Its modules are imported when it is first asked for, so that a process pays for what it runs."""

    name: str
    port: int

    def settings_type(self) -> type:
        """Return the class of the service's section in the configuration."""
        return cast("type", import_module(f"picontroller.{self.name}.settings").Settings)

    def build(self) -> Build:
        """Return the function that builds the service."""
        return cast("Build", import_module(f"picontroller.{self.name}.wiring").build)


SERVICES: Mapping[str, Hosted] = {
    hosted.name: hosted for hosted in (Hosted("events", 7441), Hosted("identity", 7440), Hosted("discovery", 7442), Hosted("gpio", 7445))
}
GATEWAY_PORT = 8443
AGENT_PORT = 7450


def sections() -> dict[str, type]:
    """Return the class of every section that a configuration file may have."""
    from picontroller.agent.settings import Settings as AgentSettings
    from picontroller.core.logs import LogSettings
    from picontroller.core.rpc.limits import LimitSettings
    from picontroller.gateway.settings import Settings as GatewaySettings
    from picontroller.host.settings import MeshSettings

    found: dict[str, Any] = {"log": LogSettings, "mesh": MeshSettings, "limits": LimitSettings}
    found |= {name: hosted.settings_type() for name, hosted in SERVICES.items()}
    return found | {"gateway": GatewaySettings, "agent": AgentSettings}
