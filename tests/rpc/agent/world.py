"""An agent behind a real server on a Unix socket, with mutual TLS and simulated hardware."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from picontroller.agent.board.hardware import Board
from picontroller.agent.board.metrics import Interface, Sample
from picontroller.agent.capabilities import Capabilities, capabilities
from picontroller.agent.gpio import panel as gpio
from picontroller.agent.gpio.drivers.sim import SimDriver
from picontroller.agent.gpio.drivers.simulation import Simulation
from picontroller.agent.gpio.panel import Panel
from picontroller.agent.service import NodeAgentServicer
from picontroller.agent.validation.validator import AgentValidator
from picontroller.core.clock import Clock, SystemClock
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.hosting import Manners, serving
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.rpc.wiring import Service
from picontroller.core.tls.identity import IdentityFolder
from picontroller.v1 import agent_pb2 as v1
from picontroller.v1 import agent_pb2_grpc, types_pb2
from tests.fakes.authority import FakeAuthority

NODE_ID = "6f1c2d3e-0000-4000-8000-000000000001"
PATIENCE_SECONDS = 10.0
BOARD = Board("Raspberry Pi 4 Model B Rev 1.5", "bcm2711", "c03115", 4 << 30, ("i2c-1",), reserved={2: "I2C1 in use"}, simulated=True)

Level, SafeState, Mode = types_pb2.Level, types_pb2.SafeState, types_pb2.PinMode


@dataclass
class StubMetrics:
    """A machine with nothing to say but the time."""

    clock: Clock
    taken: int = 0

    def sample(self) -> Sample:
        self.taken += 1
        return Sample(
            time=self.clock.now(),
            cpu_usage=12.5,
            interfaces=(Interface("eth0", "b8:27:eb:00:00:01", 1, 2, 1000),),
            uptime=timedelta(seconds=90),
            load=(0.5, 0.25, 0.125),
            memory_bytes=4 << 30,
        )


@dataclass
class StubHardware:
    """A board of which only the lines are asked anew."""

    driver: SimDriver
    panel: Panel

    async def capabilities(self) -> Capabilities:
        return capabilities(BOARD, self.driver, await self.panel.lines.survey())


@dataclass
class StubHealth:
    """What is wrong beside the lines."""

    lines: list[str] = field(default_factory=list)

    def problems(self) -> list[str]:
        return self.lines


@dataclass
class World:
    """A running agent, and the means to call it as anybody."""

    folder: Path
    socket: str
    authority: FakeAuthority
    driver: SimDriver
    panel: Panel
    metrics: StubMetrics
    health: StubHealth
    meshes: dict[str, Mesh] = field(default_factory=dict)

    def stub(self, caller: str = "svc/gpio", roles: tuple[str, ...] = ()) -> Any:
        """Return a stub that calls as ``caller``."""
        if caller not in self.meshes:
            identity = self.authority.identity(self.folder / f"as-{caller.replace('/', '-')}", caller, roles=roles)
            self.meshes[caller] = Mesh(identity, {})
        return agent_pb2_grpc.NodeAgentServiceStub(self.meshes[caller].node(NODE_ID, self.socket))

    async def control(self, *operations: v1.PinOperation) -> v1.ControlGPIOResponse:
        """Carry out a batch as the GPIO manager."""
        request = v1.ControlGPIORequest(operations=operations)
        response: v1.ControlGPIOResponse = await rpc.unary(self.stub().ControlGPIO, request)
        return response

    async def close(self) -> None:
        for mesh in self.meshes.values():
            await mesh.close()


@asynccontextmanager
async def world(
    folder: Path,
    simulation: Simulation | None = None,
    *,
    clock: Clock | None = None,
    reserved: Callable[[], Mapping[int, str]] = lambda: {2: "I2C1 in use", 3: "I2C1 in use"},
    identity: IdentityFolder | None = None,
    listen: str = "",
) -> AsyncIterator[World]:
    """Run an agent; a second run on the same folder finds what the first remembered."""
    clock = clock or SystemClock()
    authority = FakeAuthority()
    driver = SimDriver(simulation or Simulation(), clock)
    async with gpio.opened(driver, folder, clock, reserved) as panel:
        metrics, health = StubMetrics(clock), StubHealth()
        servicer = NodeAgentServicer(panel, metrics, StubHardware(driver, panel), health, clock)
        service = Service(
            "agent",
            (lambda server: agent_pb2_grpc.add_NodeAgentServiceServicer_to_server(servicer, server),),
            {"silence": panel.run},
        )
        identity = identity or authority.identity(folder / "node", f"node/{NODE_ID}")
        manners = Manners(AgentValidator(), SystemClock(), grace_seconds=1)
        async with serving(service, identity, [listen or f"unix:{folder}/a.sock"], manners) as served:
            running = World(folder, served.addresses[0], authority, driver, panel, metrics, health)
            try:
                yield running
            finally:
                await running.close()


def pin(bcm: int) -> types_pb2.PinRef:
    return types_pb2.PinRef(bcm=bcm)


EPOCH = types_pb2.Epoch(term=1, counter=1)


def configure(bcm: int, epoch: types_pb2.Epoch = EPOCH, **settings: Any) -> v1.PinOperation:
    settings.setdefault("mode", Mode.OUTPUT)
    return v1.PinOperation(pin=pin(bcm), epoch=epoch, configure=v1.ConfigurePin(**settings))


def write(bcm: int, value: types_pb2.Level.Value.ValueType, epoch: types_pb2.Epoch = EPOCH) -> v1.PinOperation:
    return v1.PinOperation(pin=pin(bcm), epoch=epoch, write=v1.WritePin(value=value))


def read(bcm: int) -> v1.PinOperation:
    return v1.PinOperation(pin=pin(bcm), read=v1.ReadPin())


def release(bcm: int, epoch: types_pb2.Epoch = EPOCH) -> v1.PinOperation:
    return v1.PinOperation(pin=pin(bcm), epoch=epoch, release=v1.ReleasePin())


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds, for a bounded time."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.005)
