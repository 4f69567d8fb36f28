"""Agents that run, in this process, with simulated hardware."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from picontroller.agent.admission import membership
from picontroller.agent.gpio.drivers import PinDriver
from picontroller.agent.gpio.drivers.sim import SimDriver
from picontroller.agent.gpio.drivers.simulation import Simulation
from picontroller.agent.gpio.pins import Level
from picontroller.agent.settings import Settings
from picontroller.agent.wiring import Agent, running_agent
from picontroller.core.clock import Clock, SystemClock
from picontroller.core.errors import FailedPrecondition, PermissionDenied, Unauthenticated, Unavailable
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.tls.identity import Trust, credentials_from, key_to_pem, new_key, server_name
from picontroller.v1 import agent_pb2, agent_pb2_grpc, types_pb2
from tests.fakes.control_plane import NODE_ID, FakeControlPlane

SETTINGS = Settings(listen="127.0.0.1:0", backend="sim", report_seconds=0.1, grace_seconds=0.2)
PIN = types_pb2.PinRef(bcm=17)
EPOCH = types_pb2.Epoch(term=1, counter=1)
LOW, HIGH = types_pb2.Level.LOW, types_pb2.Level.HIGH


def turn_on() -> agent_pb2.ControlGPIORequest:
    """Make GPIO17 an output that is safe when low, and drive it high."""
    use = agent_pb2.ConfigurePin(mode=types_pb2.PinMode.OUTPUT, safe=types_pb2.SafeState.LOW)
    return agent_pb2.ControlGPIORequest(
        operations=[
            agent_pb2.PinOperation(pin=PIN, epoch=EPOCH, configure=use),
            agent_pb2.PinOperation(pin=PIN, epoch=EPOCH, write=agent_pb2.WritePin(value=HIGH)),
        ]
    )


def stub(mesh: Mesh, agent: Agent) -> agent_pb2_grpc.NodeAgentServiceStub:
    return agent_pb2_grpc.NodeAgentServiceStub(mesh.node(agent.node_id, agent.address))


async def test_agent_when_joined_registers_reports_and_moves_pins(plane: FakeControlPlane, folder: Path, tmp_path: Path) -> None:
    async with running_agent(SETTINGS, folder, SystemClock()) as agent:
        await plane.until(lambda: len(plane.registrations) == 1 and len(plane.reports) >= 3)
        said = plane.registrations[0]
        assert (said.id, said.agent_address, said.ip_address) == (NODE_ID, agent.address, "127.0.0.1")
        assert said.capabilities.simulated
        assert said.capabilities.gpio_backend == "sim"
        assert {line.pin.bcm: line.reserved for line in said.capabilities.lines if line.reserved} == {
            0: "ID EEPROM", 1: "ID EEPROM", 2: "I2C1 in use", 3: "I2C1 in use",
        }  # fmt: skip
        manager = Mesh(plane.authority.identity(tmp_path / "gpio", "svc/gpio"), {})
        answer = await rpc.unary(stub(manager, agent).ControlGPIO, turn_on())
        assert answer.results[1].observed.value == HIGH
        sample = await rpc.unary(stub(manager, agent).GetSystemMetrics, agent_pb2.GetSystemMetricsRequest())
        assert 30 < sample.temperature < 65
        found = await rpc.unary(stub(manager, agent).GetCapabilities, agent_pb2.GetCapabilitiesRequest())
        assert found == said.capabilities
        health = await rpc.unary(stub(manager, agent).HealthCheck, agent_pb2.HealthCheckRequest())
        assert (health.healthy, health.lines_in_use) == (True, 1)
        await manager.close()
    assert plane.reports[-1] == []
    assert len(plane.registrations) == 1


async def test_agent_when_the_control_plane_forgot_it_registers_again(plane: FakeControlPlane, folder: Path) -> None:
    async with running_agent(SETTINGS, folder, SystemClock()):
        await plane.until(lambda: len(plane.registrations) == 1)
        plane.wants_registration = True
        await plane.until(lambda: len(plane.registrations) == 2)


async def test_agent_when_it_stops_makes_outputs_safe_before_it_drains(plane: FakeControlPlane, folder: Path, tmp_path: Path) -> None:
    manager = Mesh(plane.authority.identity(tmp_path / "gpio", "svc/gpio"), {})
    async with running_agent(SETTINGS, folder, SystemClock()) as agent:
        await rpc.unary(stub(manager, agent).ControlGPIO, turn_on())
        events = rpc.stream(stub(manager, agent).WatchEdges, agent_pb2.WatchEdgesRequest())
        await anext(events)
        watching = asyncio.create_task(anext(events))
    batch = await watching  # the stream was still open when the line moved: safe first, then the drain
    assert [(event.value, event.cause) for event in batch.events] == [(LOW, agent_pb2.PinEvent.Cause.SAFE)]
    with pytest.raises(Unavailable):
        await anext(events)
    await manager.close()


async def test_agent_when_started_again_is_safe_before_it_serves(plane: FakeControlPlane, folder: Path, tmp_path: Path) -> None:
    manager = Mesh(plane.authority.identity(tmp_path / "gpio", "svc/gpio"), {})
    async with running_agent(SETTINGS, folder, SystemClock()) as agent:
        await rpc.unary(stub(manager, agent).ControlGPIO, turn_on())
    async with running_agent(SETTINGS, folder, SystemClock()) as agent:
        read = agent_pb2.ControlGPIORequest(operations=[agent_pb2.PinOperation(pin=PIN, read=agent_pb2.ReadPin())])
        answer = await rpc.unary(stub(manager, agent).ControlGPIO, read)
        assert answer.results[0].observed.value == LOW
    await manager.close()


async def test_agents_when_there_are_many_live_in_one_process(plane: FakeControlPlane, folder: Path, tmp_path: Path) -> None:
    other_id = "0b8de4a2-6e25-4b8e-8f2e-3c0f9d5a7a01"
    other = tmp_path / "other"
    membership.save(other, membership.Membership(plane.address, other_id))
    plane.authority.identity(other / "tls", f"node/{other_id}")
    async with AsyncExitStack() as stack:
        agents = [await stack.enter_async_context(running_agent(SETTINGS, each, SystemClock())) for each in (folder, other)]
        await plane.until(lambda: len(plane.registrations) == 2)
        assert {said.id: said.agent_address for said in plane.registrations} == {agent.node_id: agent.address for agent in agents}


async def test_agent_when_another_holds_its_folder_refuses_to_start(plane: FakeControlPlane, folder: Path) -> None:
    async with running_agent(SETTINGS, folder, SystemClock()):
        with pytest.raises(FailedPrecondition) as caught:
            async with running_agent(SETTINGS, folder, SystemClock()):
                pass
        assert caught.value.reason == "FOLDER_IN_USE"


async def test_agent_when_it_has_not_joined_says_how_to(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="pictl join") as caught:
        async with running_agent(SETTINGS, tmp_path / "nothing", SystemClock()):
            pass
    assert caught.value.reason == "NOT_JOINED"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("tls/identity.pem", "IDENTITY_DAMAGED"),
        ("tls/trust.json", "IDENTITY_DAMAGED"),
        ("join.json", "JOIN_DAMAGED"),
        (None, "NOT_JOINED"),
    ],
)
async def test_agent_when_it_cannot_know_who_it_is_makes_known_outputs_safe_all_the_same(
    damage: str | None, reason: str, plane: FakeControlPlane, folder: Path, tmp_path: Path
) -> None:
    board = SimDriver(Simulation(levels={17: Level.HIGH}), SystemClock())  # GPIO17 is as an agent left it that was killed
    manager = Mesh(plane.authority.identity(tmp_path / "gpio", "svc/gpio"), {})
    async with running_agent(SETTINGS, folder, SystemClock()) as agent:
        await rpc.unary(stub(manager, agent).ControlGPIO, turn_on())
    await manager.close()
    if damage is None:
        membership.forget(folder)
    else:
        (folder / damage).write_text("{")

    async def open_driver(settings: Settings, clock: Clock) -> tuple[PinDriver, Callable[[], Awaitable[None]]]:
        return board, board.live

    assert board.board.level(17) is Level.HIGH
    with pytest.raises(FailedPrecondition) as caught:
        async with running_agent(SETTINGS, folder, SystemClock(), open_driver):
            pass
    assert caught.value.reason == reason
    assert board.board.level(17) is Level.LOW
    assert board.board.held == frozenset()  # the driver was closed


async def test_agent_when_the_gateway_is_away_still_serves_and_comes_back(plane: FakeControlPlane, folder: Path, tmp_path: Path) -> None:
    member = membership.load(folder)
    membership.save(folder, membership.Membership("127.0.0.1:9", member.node_id))
    manager = Mesh(plane.authority.identity(tmp_path / "gpio", "svc/gpio"), {})
    async with running_agent(SETTINGS, folder, SystemClock()) as agent:
        answer = await rpc.unary(stub(manager, agent).ControlGPIO, turn_on())
        assert answer.results[1].observed.value == HIGH
    membership.save(folder, member)
    async with running_agent(SETTINGS, folder, SystemClock()):
        await plane.until(lambda: len(plane.registrations) == 1)
    await manager.close()


async def test_certificate_when_two_thirds_of_its_life_are_over_is_renewed_while_calls_go_on(
    plane: FakeControlPlane, folder: Path, tmp_path: Path
) -> None:
    _replace_certificate(plane, folder, datetime.now(UTC) - timedelta(seconds=60), datetime.now(UTC) + timedelta(seconds=25))
    identity = membership.identity_of(folder)
    identity.load()
    old = identity.credentials.serial
    manager = Mesh(plane.authority.identity(tmp_path / "gpio", "svc/gpio"), {})
    async with running_agent(SETTINGS, folder, SystemClock()) as agent:
        await plane.until(lambda: plane.renewed == [NODE_ID])
        reports = len(plane.reports)
        await plane.until(lambda: len(plane.reports) >= reports + 5)
        health = await rpc.unary(stub(manager, agent).HealthCheck, agent_pb2.HealthCheckRequest())
        assert health.healthy
    identity.load()
    assert identity.credentials.serial != old
    await manager.close()


async def test_certificate_when_it_has_expired_is_a_problem_and_lines_still_go_safe(plane: FakeControlPlane, folder: Path) -> None:
    (folder / "lines.json").unlink(missing_ok=True)
    _replace_certificate(plane, folder, datetime.now(UTC) - timedelta(days=30), datetime.now(UTC) - timedelta(days=1))
    async with running_agent(SETTINGS, folder, SystemClock()) as agent:
        assert await agent.panel.lines.make_safe("a test") == 0
    assert plane.registrations == []


async def test_caller_when_not_a_service_may_not_ask_the_agent(plane: FakeControlPlane, folder: Path, tmp_path: Path) -> None:
    async with running_agent(SETTINGS, folder, SystemClock()) as agent:
        for path, error in (
            ("user/anna", PermissionDenied),
            ("node/0b8de4a2-6e25-4b8e-8f2e-3c0f9d5a7a01", PermissionDenied),
            ("gateway", Unauthenticated),
        ):
            mesh = Mesh(plane.authority.identity(tmp_path / path, path, roles=("cluster-admin",) if "user" in path else ()), {})
            with pytest.raises(error):
                await rpc.unary(stub(mesh, agent).HealthCheck, agent_pb2.HealthCheckRequest())
            await mesh.close()


async def test_clock_when_not_set_is_said_to_callers_and_holds_back_reports(plane: FakeControlPlane, folder: Path, tmp_path: Path) -> None:
    late = datetime.now(UTC).timestamp() + 86_400
    os.utime(folder / "join.json", (late, late))
    settings = Settings(listen="127.0.0.1:0", backend="sim", report_seconds=0.1, grace_seconds=0.2, root=tmp_path)
    manager = Mesh(plane.authority.identity(tmp_path / "gpio", "svc/gpio"), {})
    async with running_agent(settings, folder, SystemClock()) as agent:
        health = await rpc.unary(stub(manager, agent).HealthCheck, agent_pb2.HealthCheckRequest())
        assert not health.healthy
        assert health.problems[0].startswith("CLOCK_UNSYNCED: ")
        assert plane.registrations == []
        os.utime(folder / "join.json", (0, 0))  # as if the clock had been set
        await plane.until(lambda: len(plane.registrations) == 1)
    await manager.close()


def _replace_certificate(plane: FakeControlPlane, folder: Path, not_before: datetime, not_after: datetime) -> None:
    identity = membership.identity_of(folder)
    identity.load()
    key, spiffe_id = new_key(), identity.credentials.spiffe_id
    chain = plane.authority.certificate(
        key.public_key(), str(spiffe_id), dns=(server_name(spiffe_id),), not_before=not_before, not_after=not_after
    )
    trust: Trust = identity.trust
    identity.store(credentials_from(key_to_pem(key), chain), trust)
