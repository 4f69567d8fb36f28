"""A REST read through Envoy against the same call made directly over mTLS: ``python -m tests.bench.gateway`` prints one JSON object.

Services and gateway are a process of their own, Envoy another; both kinds of call come from this one, in turns, each on one connection that
is kept. REST carries a token that Envoy and the service both check; the direct call carries a client certificate. ``ratio`` is the median
REST read with the standard library's HTTP client over the median direct call with grpc.aio; ``ratio_httpx`` shows what a comfortable client
adds. Times are milliseconds; ``envoy_rss_mib`` is read after the load.
"""

import asyncio
import http.client
import json
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from picontroller.core.tls.channels import channel
from picontroller.core.tls.identity import IdentityFolder
from picontroller.v1 import discovery_pb2, discovery_pb2_grpc
from tests.fakes.edge import edge_world
from tests.fakes.limits import PLENTY, PLENTY_AT_THE_EDGE

TARGET_RATIO = 2.0
WARM_UP, ROUNDS, CALLS = 300, 8, 250
PATH = "/api/v1/nodes/n1"


async def serve(folder: Path) -> None:
    """Serve until standard input ends, after saying where."""
    async with edge_world(folder, PLENTY_AT_THE_EDGE, limits=PLENTY) as world:
        person = world.person("monitor")
        told = {
            "url": world.gateway.url,
            "ca": world.authority.roots_pem.decode(),
            "token": world.tokens.token("anna", "MONITOR", seconds=3600),
            "identity": str(person.path),
            "discovery": world.addresses["discovery"],
            "envoy_pid": world.gateway.envoy.pid,
        }
        print(json.dumps(told), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def timed(call: Callable[[], Awaitable[Any]], number: int) -> list[float]:
    found = []
    for _ in range(number):
        began = time.perf_counter()
        await call()
        found.append(time.perf_counter() - began)
    return found


def rss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024, 1)


async def measure(told: dict[str, Any]) -> dict[str, Any]:
    import httpx

    identity = IdentityFolder(Path(told["identity"]))
    identity.load()
    context = ssl.create_default_context(cadata=told["ca"])
    headers = {"authorization": f"Bearer {told['token']}"}
    plain = http.client.HTTPSConnection(str(urlparse(told["url"]).netloc), context=context)
    idle = rss_mib(told["envoy_pid"])

    async def rest() -> None:
        plain.request("GET", PATH, headers=headers)
        answer = plain.getresponse()
        if answer.status != 200 or b"host-n1" not in answer.read():
            raise RuntimeError(f"REST answered {answer.status}")

    async with (
        channel(identity, told["discovery"], "discovery.pi-controller.local") as direct,
        httpx.AsyncClient(base_url=told["url"], verify=context, headers=headers, trust_env=False) as comfortable,
    ):
        stub = discovery_pb2_grpc.DiscoveryServiceStub(direct)
        request = discovery_pb2.GetNodeRequest(id="n1")
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "direct": lambda: stub.GetNode(request, timeout=5),
            "rest": rest,
            "rest_httpx": lambda: comfortable.get(PATH),
        }
        times: dict[str, list[float]] = {name: [] for name in calls}
        for call in calls.values():
            await timed(call, WARM_UP)
        for _ in range(ROUNDS):
            for name, call in calls.items():
                times[name] += await timed(call, CALLS)
    plain.close()
    p50 = {name: statistics.median(found) * 1000 for name, found in times.items()}
    return {
        **{f"{name}_p50_ms": round(value, 3) for name, value in p50.items()},
        "ratio": round(p50["rest"] / p50["direct"], 2),
        "ratio_httpx": round(p50["rest_httpx"] / p50["direct"], 2),
        "target_ratio": TARGET_RATIO,
        "envoy_idle_rss_mib": idle,
        "envoy_rss_mib": rss_mib(told["envoy_pid"]),
    }


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-gateway-") as folder:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.bench.gateway", folder, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            async with asyncio.timeout(30):
                told = json.loads(await child.stdout.readline())
            print(json.dumps(await measure(told)))
        finally:
            child.stdin.close()
            await child.wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])) if len(sys.argv) > 1 else main())
