"""An agent from join to SIGTERM, in this process, with simulated hardware."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from picontroller.agent import joining
from picontroller.agent.settings import Settings
from picontroller.agent.wiring import running_agent
from picontroller.core.clock import SystemClock
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.mesh import Mesh
from picontroller.v1 import agent_pb2, agent_pb2_grpc, types_pb2
from tests.fakes.control_plane import NODE_ID, FakeControlPlane, running_control_plane

SETTINGS = Settings(listen="127.0.0.1:0", backend="sim", report_seconds=0.1, grace_seconds=0.2)


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[FakeControlPlane]:
    async with running_control_plane(tmp_path) as plane:
        yield plane


async def test_agent_when_joined_registers_reports_and_serves(plane: FakeControlPlane, tmp_path: Path) -> None:
    folder = tmp_path / "agent"
    joined = await joining.join(plane.address, plane.token, folder, SystemClock())
    assert joined.node_id == NODE_ID
    async with running_agent(SETTINGS, folder, SystemClock()) as agent:
        await plane.until(lambda: len(plane.registrations) == 1 and len(plane.reports) >= 3)
        said = plane.registrations[0]
        assert (said.id, said.agent_address, said.capabilities.gpio_backend) == (NODE_ID, agent.address, "sim")
        assert said.capabilities.simulated
        assert len(said.capabilities.lines) == 28
        manager = Mesh(plane.authority.identity(tmp_path / "gpio", "svc/gpio"), {})
        stub = agent_pb2_grpc.NodeAgentServiceStub(manager.node(agent.node_id, agent.address))
        pin = types_pb2.PinRef(bcm=17)
        epoch = types_pb2.Epoch(term=1, counter=1)
        request = agent_pb2.ControlGPIORequest(
            operations=[
                agent_pb2.PinOperation(pin=pin, epoch=epoch, configure=agent_pb2.ConfigurePin(mode=types_pb2.PinMode.OUTPUT)),
                agent_pb2.PinOperation(pin=pin, epoch=epoch, write=agent_pb2.WritePin(value=types_pb2.Level.HIGH)),
            ]
        )
        answer = await rpc.unary(stub.ControlGPIO, request)
        assert answer.results[1].observed.value == types_pb2.Level.HIGH
        await manager.close()
    assert len(plane.registrations) == 1
