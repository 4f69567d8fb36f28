"""``python -m tests.bench.agent_write``: a unary write straight to the agent against a bare echo, both over mutual TLS on loopback.

One server process serves both, one client process calls both in turns, so that whatever else the machine does hits both alike. Prints
medians of the runs' p50 and their ratio as JSON; the aim is a ratio of at most 1.5. The agent runs its whole chain (identification,
authorisation, validation, log, metrics) over a simulated board; the echo returns bytes and does nothing else.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from picontroller.core.callers import SpiffeId
from picontroller.core.tls.channels import channel, server_credentials
from picontroller.core.tls.identity import IdentityFolder, server_name
from picontroller.v1 import agent_pb2 as v1
from picontroller.v1 import agent_pb2_grpc, types_pb2
from tests.fakes.authority import FakeAuthority
from tests.rpc.agent.world import NODE_ID, configure, world, write

AIM = 1.5
ECHO = "/bench.Echo/Echo"
WARM_UP = 300
TURN = 25


async def serve(folder: Path) -> None:
    """Serve the agent and the echo until standard input ends; print the echo's port."""
    identity = IdentityFolder(folder / "server")
    identity.load()

    async def echo(request: bytes, context: Any) -> bytes:
        return request

    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler("bench.Echo", {"Echo": grpc.unary_unary_rpc_method_handler(echo)})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_secure_port("127.0.0.1:0", server_credentials(identity))
    await server.start()
    async with world(folder, identity=identity, listen="127.0.0.1:0") as agent:
        print(json.dumps({"echo": f"127.0.0.1:{port}", "agent": agent.socket}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(0)


async def measure(calls: int, *works: Callable[[], Awaitable[object]]) -> list[float]:
    """Return the median time of each kind of call in microseconds, made in turns of ``TURN`` so that a busy machine slows all alike."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(calls // TURN):
        for work, taken in zip(works, times, strict=True):
            for _ in range(TURN):
                began = time.perf_counter()
                await work()
                taken.append(time.perf_counter() - began)
    return [statistics.median(taken) * 1e6 for taken in times]


async def compare(folder: Path, addresses: dict[str, str], runs: int, calls: int) -> dict[str, Any]:
    """Measure both in turns."""
    identity = IdentityFolder(folder / "client")
    identity.load()
    name = server_name(SpiffeId("", "node", NODE_ID))
    async with channel(identity, addresses["agent"], name) as to_agent, channel(identity, addresses["echo"], name) as to_echo:
        control = agent_pb2_grpc.NodeAgentServiceStub(to_agent).ControlGPIO
        echo = to_echo.unary_unary(ECHO)
        await control(v1.ControlGPIORequest(operations=[configure(17)]), timeout=10)
        requests = [v1.ControlGPIORequest(operations=[write(17, level)]) for level in (types_pb2.Level.HIGH, types_pb2.Level.LOW)]
        payload = requests[0].SerializeToString()
        turn = 0

        async def write_once() -> None:
            nonlocal turn
            turn += 1
            await control(requests[turn % 2], timeout=5)

        async def echo_once() -> None:
            await echo(payload, timeout=5)

        await measure(WARM_UP, write_once, echo_once)
        pairs = [await measure(calls, write_once, echo_once) for _ in range(runs)]
    ratios = [ours / bare for ours, bare in pairs]
    return {
        "runs": runs,
        "calls": calls,
        "write_p50_us": round(statistics.median(ours for ours, _ in pairs), 1),
        "echo_p50_us": round(statistics.median(bare for _, bare in pairs), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "aim": AIM,
    }


async def bench(runs: int, calls: int) -> dict[str, Any]:
    """Start the server process, measure, and end it."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        authority = FakeAuthority()
        authority.identity(folder / "server", f"node/{NODE_ID}")
        authority.identity(folder / "client", "svc/gpio")
        command = [sys.executable, "-m", "tests.bench.agent_write", "--serve", text]
        server = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            async with asyncio.timeout(30):
                addresses = json.loads(await server.stdout.readline())
            return await compare(folder, addresses, runs, calls)
        finally:
            server.stdin.close()
            async with asyncio.timeout(30):
                await server.wait()


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.agent_write", description="a write to the agent against a bare echo")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--calls", type=int, default=1500)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        asyncio.run(serve(chosen.serve))
    else:
        print(json.dumps(asyncio.run(bench(chosen.runs, chosen.calls))))


if __name__ == "__main__":
    main()
