"""``python -m tests.bench.gpio_write``: WritePins through the GPIO manager against the same write made straight to the agent.

The agent is a process of its own. The manager and the event bus it publishes to are another, hosted together as in ``pictl up``, with
their files in ``PICONTROLLER_BENCH_DIR`` (a temporary folder when unset). This process calls both in turns over mutual TLS, so
that whatever else the machine does hits both alike. A write through the manager is on the manager's disk when it is acknowledged, which a
write to the agent need not be: ``commit_p50_ms`` is a bare commit of one row with ``synchronous=FULL`` in the same run. Prints JSON, times
in milliseconds, each the median of the runs.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import apsw

from picontroller.core.callers import SpiffeId
from picontroller.core.clock import SystemClock
from picontroller.core.rpc import hosting
from picontroller.core.rpc.hosting import Manners, serving
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.rpc.validation import default_validator
from picontroller.core.rpc.wiring import Surroundings
from picontroller.core.tls.channels import channel
from picontroller.core.tls.identity import IdentityFolder, server_name
from picontroller.events import wiring as events
from picontroller.events.settings import Settings as EventsSettings
from picontroller.gpio import wiring as gpio
from picontroller.gpio.agents import MeshAgents
from picontroller.gpio.boards import Node
from picontroller.gpio.settings import Settings as GpioSettings
from picontroller.v1 import agent_pb2, agent_pb2_grpc, gpio_pb2, gpio_pb2_grpc, types_pb2
from tests.fakes.authority import FakeAuthority
from tests.fakes.limits import PLENTY
from tests.fakes.nodes import FakeNodes
from tests.rpc.agent.world import NODE_ID, configure, world, write
from tests.rpc.gpio.world import creation

AIM_MS = 4.0
WARM_UP, TURN = 200, 20
LEVELS = (types_pb2.Level.HIGH, types_pb2.Level.LOW)
DIRECT_BCM = 27  # the direct writes have a line of their own, which the manager does not know


def _loaded(path: Path) -> IdentityFolder:
    identity = IdentityFolder(path)
    identity.load()
    return identity


async def serve_agent(folder: Path) -> None:
    """Serve the agent until standard input ends; print its address."""
    async with world(folder / "agent", identity=_loaded(folder / "node"), listen="127.0.0.1:0") as agent:
        await _until_input_ends({"agent": agent.socket})


async def serve_manager(folder: Path, agent: str) -> None:
    """Serve the GPIO manager and the event bus until standard input ends; print the manager's address."""
    clock, bus, nodes = SystemClock(), f"unix:{folder}/events.sock", FakeNodes()
    manners = Manners(default_validator(), clock, grace_seconds=1, limits=PLENTY)
    nodes.put(Node(NODE_ID, agent, online=True))
    async with AsyncExitStack() as stack:
        identities = {name: _loaded(folder / name) for name in ("events", "gpio")}
        mesh = Mesh(identities["gpio"], {"events": bus})
        stack.push_async_callback(mesh.close)
        around = Surroundings("events", folder / "bus", EventsSettings(), identities["events"], Mesh(identities["events"], {}), clock)
        service = await stack.enter_async_context(events.build(around))
        await stack.enter_async_context(serving(service, identities["events"], [bus], manners))
        around = Surroundings("gpio", folder / "manager", GpioSettings(), identities["gpio"], mesh, clock)
        service = await stack.enter_async_context(gpio.build_upon(around, nodes, MeshAgents(mesh)))
        running = await stack.enter_async_context(serving(service, identities["gpio"], ["127.0.0.1:0"], manners))
        hosting.settle()
        await _until_input_ends({"gpio": running.addresses[0]})


async def _until_input_ends(told: dict[str, str]) -> None:
    print(json.dumps(told), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def _timed(calls: int, *works: Callable[[int], Awaitable[object]]) -> list[list[float]]:
    """Return how many milliseconds each call took, by kind of call, made in turns of ``TURN``."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(calls // TURN):
        for work, taken in zip(works, times, strict=True):
            for number in range(TURN):
                began = time.perf_counter()
                await work(number)
                taken.append((time.perf_counter() - began) * 1000)
    return times


def _commits(folder: Path, count: int) -> float:
    """Return the median time of a bare commit of one row."""
    connection = apsw.Connection(str(folder / "limit.db"))
    connection.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL").fetchall()
    connection.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, value INTEGER)")
    taken = []
    for number in range(count):
        began = time.perf_counter()
        with connection:
            connection.execute("INSERT OR REPLACE INTO t VALUES (1, ?)", (number,))
        taken.append((time.perf_counter() - began) * 1000)
    connection.close()
    return statistics.median(taken)


async def compare(folder: Path, addresses: dict[str, str], runs: int, calls: int) -> dict[str, Any]:
    """Measure both in turns."""
    person, service, name = _loaded(folder / "person"), _loaded(folder / "gpio"), server_name(SpiffeId("", "node", NODE_ID))
    async with (
        channel(person, addresses["gpio"], "gpio.pi-controller.local") as to_gpio,
        channel(service, addresses["agent"], name) as to_agent,
    ):
        manager, control = gpio_pb2_grpc.GpioServiceStub(to_gpio), agent_pb2_grpc.NodeAgentServiceStub(to_agent).ControlGPIO
        made = await manager.CreateGpioResource(creation("led", node_id=NODE_ID), timeout=10)
        await control(agent_pb2.ControlGPIORequest(operations=[configure(DIRECT_BCM)]), timeout=10)
        batches = [gpio_pb2.WritePinsRequest(writes=[gpio_pb2.PinWrite(id=made.id, value=level)]) for level in LEVELS]
        singles = [agent_pb2.ControlGPIORequest(operations=[write(DIRECT_BCM, level)]) for level in LEVELS]

        async def through(number: int) -> None:
            response = await manager.WritePins(batches[number % 2], timeout=5)
            if response.results[0].observed.value != LEVELS[number % 2]:
                raise RuntimeError("the line did not move")

        async def direct(number: int) -> None:
            await control(singles[number % 2], timeout=5)

        await _timed(WARM_UP, through, direct)
        pairs, commits = [], []
        for _ in range(runs):
            pairs.append(await _timed(calls, through, direct))
            commits.append(await asyncio.to_thread(_commits, folder, calls))
    managed, agents = ([each[index] for each in pairs] for index in (0, 1))
    p50 = statistics.median(statistics.median(taken) for taken in managed)
    limit = statistics.median(statistics.median(taken) for taken in agents)
    return {
        "write_pins_p50_ms": round(p50, 3),
        "write_pins_p99_ms": round(statistics.median(statistics.quantiles(taken, n=100)[98] for taken in managed), 3),
        "agent_write_p50_ms": round(limit, 3),
        "commit_p50_ms": round(statistics.median(commits), 3),
        "ratio": round(p50 / limit, 2),
        "aim_p50_ms": AIM_MS,
    }


async def bench(runs: int, calls: int) -> dict[str, Any]:
    """Start both processes, measure, and end them."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("PICONTROLLER_BENCH_DIR")) as text:
        folder, authority = Path(text), FakeAuthority()
        (folder / "agent").mkdir()
        for name, path in (("node", f"node/{NODE_ID}"), ("gpio", "svc/gpio"), ("events", "svc/events")):
            authority.identity(folder / name, path)
        authority.identity(folder / "person", "user/anna", roles=("gpio-operator", "cluster-admin"))
        addresses: dict[str, str] = {}
        servers: list[asyncio.subprocess.Process] = []
        try:
            for part in ("agent", "manager"):
                command = [sys.executable, "-m", "tests.bench.gpio_write", "--serve", part, text, addresses.get("agent", "")]
                servers.append(
                    await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
                )
                assert servers[-1].stdout is not None
                async with asyncio.timeout(30):
                    addresses |= json.loads(await servers[-1].stdout.readline())
            return await compare(folder, addresses, runs, calls)
        finally:
            for server in reversed(servers):
                async with asyncio.timeout(30):
                    await server.communicate(b"")  # closes its standard input, which ends it


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpio_write", description="a write through the manager against the agent's")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--serve", nargs=3, metavar=("PART", "FOLDER", "AGENT"), help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.serve:
        part, text, agent = said.serve
        asyncio.run(serve_agent(Path(text)) if part == "agent" else serve_manager(Path(text), agent))
    else:
        print(json.dumps(asyncio.run(bench(said.runs, said.calls))))


if __name__ == "__main__":
    main()
