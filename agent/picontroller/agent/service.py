# ruff: noqa: N802 - methods are named as in the proto
"""What the agent answers over gRPC. Who may call is declared in the proto; what a line may never do is decided below, in ``gpio``."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from picontroller.agent import messages
from picontroller.agent.board.metrics import Sample
from picontroller.agent.capabilities import Capabilities
from picontroller.agent.gpio.panel import Panel
from picontroller.core import callers
from picontroller.core.clock import Clock
from picontroller.core.version import version
from picontroller.v1 import agent_pb2, agent_pb2_grpc, types_pb2

MANAGER = "gpio"


class Metrics(Protocol):
    """The machine's state."""

    def sample(self) -> Sample:
        """Return the state now."""
        ...


class Hardware(Protocol):
    """The board."""

    async def capabilities(self) -> Capabilities:
        """Return what the board can do now."""
        ...


class Health(Protocol):
    """What is wrong with the node beside its lines."""

    def problems(self) -> Sequence[str]:
        """Return one line each, beginning with a word in capitals."""
        ...


class NodeAgentServicer(agent_pb2_grpc.NodeAgentServiceServicer):
    """NodeAgentService."""

    def __init__(self, panel: Panel, metrics: Metrics, hardware: Hardware, health: Health, clock: Clock) -> None:
        self._panel = panel
        self._metrics = metrics
        self._hardware = hardware
        self._health = health
        self._clock = clock
        self._version = version()

    async def GetSystemMetrics(self, request: agent_pb2.GetSystemMetricsRequest, context: Any) -> agent_pb2.SystemMetrics:
        """Answer one sample."""
        return messages.sample_to(self._metrics.sample())

    async def StreamSystemMetrics(
        self, request: agent_pb2.StreamSystemMetricsRequest, context: Any
    ) -> AsyncIterator[agent_pb2.SystemMetrics]:
        """Answer a sample at each interval."""
        interval = messages.interval_from(request)
        while True:
            yield messages.sample_to(self._metrics.sample())
            await self._clock.sleep(interval)

    async def ControlGPIO(self, request: agent_pb2.ControlGPIORequest, context: Any) -> agent_pb2.ControlGPIOResponse:
        """Carry out a batch."""
        operations = [messages.operation_from(operation) for operation in request.operations]
        results = await self._panel.control(operations)
        return messages.control_to(results, self._panel.lines.atomicity)

    async def WatchEdges(self, request: agent_pb2.WatchEdgesRequest, context: Any) -> AsyncIterator[agent_pb2.WatchEdgesResponse]:
        """Stream what happens on lines."""
        pins = [messages.pin_ref_from(pin) for pin in request.pins]
        async with aclosing(self._panel.watch(pins, request.after_sequence, request.run_id)) as batches:
            async for batch in batches:
                yield messages.batch_to(batch, self._panel.events.run_id)

    async def HealthCheck(self, request: agent_pb2.HealthCheckRequest, context: Any) -> agent_pb2.HealthStatus:
        """Say how the agent is, and take down the manager's sign of life."""
        if callers.current().service == MANAGER:
            self._panel.heard(messages.ttl_from(request))
        return self._status()

    async def GetCapabilities(self, request: agent_pb2.GetCapabilitiesRequest, context: Any) -> types_pb2.Capabilities:
        """Answer what is there."""
        return messages.capabilities_to(await self._hardware.capabilities())

    def _status(self) -> agent_pb2.HealthStatus:
        problems = list(dict.fromkeys([*self._health.problems(), *self._panel.problems()]))
        return messages.health_to(
            problems,
            run_id=self._panel.events.run_id,
            version=self._version,
            lines_in_use=self._panel.lines.in_use,
            safe_by_silence=self._panel.silence.safe,
        )
