"""When something behind the gateway, or Envoy itself, is away."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import grpc
import httpx
import pytest

from picontroller.core.errors import FailedPrecondition, Unavailable
from picontroller.gateway.envoy import process
from picontroller.gateway.settings import Settings
from picontroller.v1 import discovery_pb2, discovery_pb2_grpc
from tests.fakes.edge import EdgeWorld, edge_world
from tests.fakes.issuing import FakeIssuingAuthority


async def until_up(world: EdgeWorld, seconds: float = 20) -> httpx.Response:
    async with asyncio.timeout(seconds):
        while True:
            try:
                async with world.http() as client:
                    return await client.get("/healthz")
            except httpx.TransportError:
                await asyncio.sleep(0.05)


async def test_service_when_away_is_unavailable_and_the_gateway_is_not_ready(tmp_path: Path) -> None:
    async with edge_world(tmp_path, without=frozenset({"discovery"})) as world:
        async with world.http() as client:
            answer = await client.get("/api/v1/nodes", headers=world.bearer())
            ready = await client.get("/readyz")
            other = await client.get("/api/v1/whoami", headers=world.bearer())
        async with world.channel(world.person("monitor")) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await discovery_pb2_grpc.DiscoveryServiceStub(channel).ListNodes(discovery_pb2.ListNodesRequest(), timeout=5)
    assert (answer.status_code, answer.json()["code"]) == (503, 14)
    assert "{" not in answer.json()["message"]
    assert (ready.status_code, ready.json()["ready"], ready.json()["services"]["discovery"]) == (503, False, "NOT_SERVING")
    assert ready.json()["services"]["events"] == "SERVING"
    assert other.status_code == 200
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_envoy_when_killed_is_started_again_on_the_same_port(tmp_path: Path) -> None:
    async with edge_world(tmp_path) as world:
        before = world.gateway.envoy.pid
        os.kill(before, signal.SIGKILL)
        async with asyncio.timeout(10):
            while world.gateway.envoy.pid in (0, before):
                await asyncio.sleep(0.02)
        assert (await until_up(world)).status_code == 200
        assert world.gateway.envoy.restarts == 1
        async with world.http() as client:
            assert (await client.get("/api/v1/whoami", headers=world.bearer())).status_code == 200
        last = world.gateway.envoy.pid
    with pytest.raises(ProcessLookupError):
        os.kill(last, 0)


async def test_envoy_when_its_parent_is_killed_ends_with_it(tmp_path: Path) -> None:
    child = (
        "import os, subprocess, sys, time;"
        "started = subprocess.Popen([sys.executable, '-I', '-S', sys.argv[1], str(os.getpid()), '/bin/sleep', '60']);"
        "print(started.pid, flush=True); time.sleep(60)"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", child, str(process.LAUNCHER), stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    orphan = int(await parent.stdout.readline())
    async with asyncio.timeout(10):
        while b"sleep" not in Path(f"/proc/{orphan}/cmdline").read_bytes().split(b"\0")[0]:
            await asyncio.sleep(0.02)
        parent.kill()
        await parent.wait()
        while Path(f"/proc/{orphan}").exists() and "Z" not in Path(f"/proc/{orphan}/stat").read_text().split(")")[1][:3]:
            await asyncio.sleep(0.02)


async def test_port_when_taken_is_one_error_and_nothing_is_started(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"127.0.0.1:{port} can't be bound: Address already in use; choose another address with --listen"):
            process.bindable("127.0.0.1", port)
    assert process.bindable("localhost", port) == ("127.0.0.1", port)


async def test_envoy_when_missing_says_how_to_get_it() -> None:
    with pytest.raises(FailedPrecondition, match="correct envoy_file"):
        process.find(Path("/nowhere/envoy"))


async def test_envoy_when_it_cannot_start_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "envoy"
    broken.write_text('#!/bin/sh\nwhile [ "$1" != --log-path ]; do shift; done\necho "[critical] MmapAligned() failed" > "$2"\nexit 1\n')
    broken.chmod(0o755)
    with pytest.raises(Unavailable, match=r"envoy ended at its start: .*MmapAligned\(\) failed"):
        async with edge_world(tmp_path, Settings(envoy_file=broken)):
            raise AssertionError("started")


async def test_call_in_flight_when_the_gateway_stops_is_finished(tmp_path: Path) -> None:
    async with edge_world(tmp_path) as world:
        client = world.http()
        await client.get("/healthz")
        call = asyncio.create_task(client.get("/api/v1/nodes/slow", headers=world.bearer("MONITOR")))
        while "slow" not in str(world.services.seen.asked):
            await asyncio.sleep(0.005)
    assert (await call).json()["id"] == "slow"
    with pytest.raises(httpx.TransportError):
        await client.get("/healthz")
    await client.aclose()


@pytest.mark.parametrize("tcp", [True, False])
async def test_chain_when_there_is_an_issuing_authority_is_followed_on_every_hop(tmp_path: Path, tcp: bool) -> None:
    async with edge_world(tmp_path, kind=FakeIssuingAuthority, tcp=tcp) as world:
        async with world.http(identity=world.person("monitor")) as client:
            answer = await client.get("/api/v1/whoami")
            ready = await client.get("/readyz")
        assert (answer.json()["spiffe_id"], ready.status_code) == ("spiffe://pi-controller.local/user/anna", 200)
        assert len(world.services.seen.metadata["x-forwarded-client-cert"]) < 4096


async def test_gateway_when_no_key_can_sign_tokens_yet_serves_certificates(tmp_path: Path) -> None:
    async with edge_world(tmp_path, keys=False) as world:
        async with world.http(identity=world.person("monitor")) as client:
            assert (await client.get("/api/v1/whoami")).status_code == 200
        async with world.http() as client:
            assert (await client.get("/api/v1/whoami", headers=world.bearer())).status_code == 401
