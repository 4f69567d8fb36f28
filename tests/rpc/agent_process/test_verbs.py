"""The agent's verbs beyond joining and running well: killed, then gone; metrics; help."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

from picontroller.agent.admission import membership
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.mesh import Mesh
from picontroller.v1 import agent_pb2, agent_pb2_grpc, types_pb2
from tests.fakes.control_plane import NODE_ID, FakeControlPlane
from tests.rpc.agent_process.test_process import run, started

OUTPUT = agent_pb2.ConfigurePin(mode=types_pb2.PinMode.OUTPUT, safe=types_pb2.SafeState.LOW, value=types_pb2.Level.HIGH)


async def _kill_with_an_output(plane: FakeControlPlane, folder: Path, tmp_path: Path) -> None:
    """Run an agent with an output that is high and kill it."""
    async with started(tmp_path, "run", "--listen", "127.0.0.1:0", "--data-dir", str(folder)) as agent:
        assert agent.stdout is not None
        address = (await asyncio.wait_for(agent.stdout.readline(), 30)).decode().split()[-1]
        manager = Mesh(plane.authority.identity(tmp_path / "gpio", "svc/gpio"), {})
        operation = agent_pb2.PinOperation(pin=types_pb2.PinRef(bcm=17), epoch=types_pb2.Epoch(term=1, counter=1), configure=OUTPUT)
        stub = agent_pb2_grpc.NodeAgentServiceStub(manager.node(NODE_ID, address))
        await rpc.unary(stub.ControlGPIO, agent_pb2.ControlGPIORequest(operations=[operation]))
        await manager.close()
        agent.send_signal(signal.SIGKILL)
        await asyncio.wait_for(agent.communicate(), 20)


async def test_leave_when_the_agent_was_killed_makes_its_outputs_safe_or_refuses(
    plane: FakeControlPlane, folder: Path, tmp_path: Path
) -> None:
    await _kill_with_an_output(plane, folder, tmp_path)
    assert list(json.loads((folder / "lines.json").read_text())["outputs"]) == ["17"]
    no_hardware = {"PICONTROLLER_AGENT__BACKEND": "gpiod", "PICONTROLLER_AGENT__ROOT": str(tmp_path)}
    status, _, err = await run(tmp_path, "leave", "--data-dir", str(folder), stdin=b"", **no_hardware)
    assert status == 5
    assert "OUTPUTS_NOT_SAFE" in err
    assert "--force" in err
    assert plane.unregistered == []
    assert membership.identity_of(folder).exists()
    status, out, _ = await run(tmp_path, "leave", "--simulate", "--data-dir", str(folder), stdin=b"", **no_hardware)
    assert (status, out) == (0, f"left {plane.address}; node {NODE_ID} is no more\n")
    assert plane.unregistered == [NODE_ID]


async def test_leave_when_forced_needs_neither_hardware_nor_membership(plane: FakeControlPlane, folder: Path, tmp_path: Path) -> None:
    (folder / "lines.json").write_text("{")
    (folder / "join.json").write_text("{")
    no_hardware = {"PICONTROLLER_AGENT__BACKEND": "gpiod", "PICONTROLLER_AGENT__ROOT": str(tmp_path)}
    status, out, err = await run(tmp_path, "leave", "--force", "--data-dir", str(folder), stdin=b"", **no_hardware)
    assert (status, out) == (0, "left a control plane that is not known any more\n")
    assert "outputs that may not be safe" in err
    assert not membership.identity_of(folder).exists()


async def test_metrics_when_the_port_is_free_are_served_where_the_agent_says(plane: FakeControlPlane, folder: Path, tmp_path: Path) -> None:
    metrics = {"PICONTROLLER_AGENT__METRICS": "127.0.0.1:0"}
    async with started(tmp_path, "run", "--listen", "127.0.0.1:0", "--data-dir", str(folder), **metrics) as agent:
        assert agent.stdout is not None
        line = (await asyncio.wait_for(agent.stdout.readline(), 30)).decode()
        _, _, address = line.strip().partition(", metrics on ")
        page = await asyncio.to_thread(_fetch, f"http://{address}/metrics")
        assert "picontroller_rpc_seconds" in page
        agent.send_signal(signal.SIGTERM)
        _, err = await asyncio.wait_for(agent.communicate(), 20)
    assert agent.returncode == 0
    said = [json.loads(text) for text in err.decode().splitlines()]
    assert [entry["address"] for entry in said if entry["event"] == "metrics are served"] == [address]


async def test_metrics_when_the_port_is_taken_are_one_line_that_names_it(plane: FakeControlPlane, folder: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        metrics = {"PICONTROLLER_AGENT__METRICS": address}
        status, out, err = await run(tmp_path, "run", "--listen", "127.0.0.1:0", "--data-dir", str(folder), stdin=b"", **metrics)
    assert (status, out) == (5, "")
    said = [line for line in err.splitlines() if not line.startswith("{")]
    assert len(said) == 1
    assert said[0].startswith(f"error: metrics can't be served on {address}: ")


def test_help_when_asked_for_the_agent_is_no_mistake(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "COLUMNS": "120"}
    pictl = Path(sys.executable).with_name("pictl")
    for words, usage in (
        ((pictl, "agent", "--help"), "usage: pictl agent run"),
        ((pictl, "agent", "-h"), "usage: pictl agent run"),
        ((sys.executable, "-m", "picontroller.agent", "--help"), "usage: python -m picontroller.agent {run,join,leave}"),
    ):
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, env=environment)
        assert (done.returncode, done.stderr) == (0, ""), words
        assert done.stdout.startswith(usage), words


def _fetch(address: str) -> str:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return str(answer.read().decode())
