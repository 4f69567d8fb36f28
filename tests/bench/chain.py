"""``python -m tests.bench.chain``: what the whole chain of interceptors costs of a unary call, both over mutual TLS on loopback.

One server process serves the same servicer twice, once behind the chain that every service of ours has and once as gRPC's own server
would; one client process calls both in turns, so that whatever else the machine does hits both alike. Prints medians of the runs' p50 and
the chain's share of a call as JSON; the aim is a share of at most 15 %. The call reads, as most calls do, by a person
whom limits and audit look at as well.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from picontroller.core.callers import SpiffeId
from picontroller.core.tls.channels import channel, server_credentials
from picontroller.core.tls.identity import IdentityFolder, server_name
from picontroller.v1 import discovery_pb2, discovery_pb2_grpc
from tests.bench.agent_write import measure
from tests.fakes.ledger import ledger_service
from tests.fakes.limits import PLENTY

AIM = 0.15
WARM_UP = 300
NODE = "0b0e7e9e-4b5c-4f0f-9d1c-0123456789ab"


async def serve(folder: Path) -> None:
    """Serve both until standard input ends; print their addresses."""
    async with ledger_service(folder, PLENTY, listen="127.0.0.1:0") as behind:
        client = behind.mesh("user/anna", "monitor").identity
        identity = IdentityFolder(folder / "server")
        identity.load()
        server = grpc.aio.server()
        discovery_pb2_grpc.add_DiscoveryServiceServicer_to_server(behind.servicer, server)
        port = server.add_secure_port("127.0.0.1:0", server_credentials(identity))
        await server.start()
        addresses = {"bare": f"127.0.0.1:{port}", "chain": behind.address, "client": str(client.path)}
        print(json.dumps(addresses), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await server.stop(0)


async def compare(addresses: dict[str, str], runs: int, calls: int) -> dict[str, Any]:
    """Measure both in turns."""
    identity = IdentityFolder(Path(addresses["client"]))
    identity.load()
    name = server_name(SpiffeId("", "svc", "discovery"))
    async with channel(identity, addresses["chain"], name) as to_chain, channel(identity, addresses["bare"], name) as to_bare:
        ours = discovery_pb2_grpc.DiscoveryServiceStub(to_chain).GetNode
        bare = discovery_pb2_grpc.DiscoveryServiceStub(to_bare).GetNode
        request = discovery_pb2.GetNodeRequest(id=NODE)

        async def behind_the_chain() -> None:
            await ours(request, timeout=5)

        async def without() -> None:
            await bare(request, timeout=5)

        await measure(WARM_UP, behind_the_chain, without)
        pairs = [await measure(calls, behind_the_chain, without) for _ in range(runs)]
    shares = [(with_chain - alone) / with_chain for with_chain, alone in pairs]
    return {
        "runs": runs,
        "calls": calls,
        "with_chain_p50_us": round(statistics.median(with_chain for with_chain, _ in pairs), 1),
        "without_p50_us": round(statistics.median(alone for _, alone in pairs), 1),
        "share": round(statistics.median(shares), 3),
        "shares": [round(share, 3) for share in shares],
        "aim": AIM,
    }


async def bench(runs: int, calls: int) -> dict[str, Any]:
    """Start the server process, measure, and end it."""
    with tempfile.TemporaryDirectory() as text:
        command = [sys.executable, "-m", "tests.bench.chain", "--serve", text]
        server = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            async with asyncio.timeout(30):
                addresses = json.loads(await server.stdout.readline())
            return await compare(addresses, runs, calls)
        finally:
            server.stdin.close()
            async with asyncio.timeout(30):
                await server.wait()


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.chain", description="the interceptor chain's share of a unary call")
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
