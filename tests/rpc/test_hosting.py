"""Hosting: draining, permissions, limits, health, reflection and channelz."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.hosting import healthy
from picontroller.core.rpc.limits import LimitSettings
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.rpc.server import Server, permission_of
from picontroller.core.tls.identity import IdentityFolder, credentials_from, key_to_pem
from picontroller.v1 import discovery_pb2, discovery_pb2_grpc
from tests.fakes.echo import echo_service

ASK = discovery_pb2.GetNodeRequest(id="n1")


async def test_drain_when_a_call_is_in_flight_lets_it_finish_and_refuses_new_ones(tmp_path: Path) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: discovery_pb2.GetNodeRequest, context: Any) -> discovery_pb2.Node:
        started.set()
        await go_on.wait()
        return discovery_pb2.Node(id=request.id)

    async with echo_service(tmp_path, slow, grace_seconds=10) as echo:
        mesh = echo.mesh("svc/gpio")
        stub = discovery_pb2_grpc.DiscoveryServiceStub(mesh.service("discovery"))
        in_flight = asyncio.create_task(rpc.unary(stub.GetNode, ASK))
        await started.wait()
        draining = asyncio.create_task(echo.running.server.drain(10))
        await asyncio.sleep(0.05)
        fresh = echo.mesh("svc/clusters")
        with pytest.raises(errors.Unavailable):
            await rpc.unary(discovery_pb2_grpc.DiscoveryServiceStub(fresh.service("discovery")).GetNode, ASK, seconds=2)
        assert not draining.done()
        go_on.set()
        assert (await in_flight).id == "n1"
        await asyncio.wait_for(draining, 5)
        await mesh.close()
        await fresh.close()


async def exhausted(responses: AsyncIterator[Any]) -> None:
    async for _ in responses:
        pass


async def test_drain_when_a_stream_is_open_ends_it_at_once_with_unavailable(tmp_path: Path) -> None:
    async with echo_service(tmp_path) as echo:
        mesh = echo.mesh("svc/gpio")
        stub = discovery_pb2_grpc.DiscoveryServiceStub(mesh.service("discovery"))
        responses = rpc.stream(stub.WatchNodes, discovery_pb2.WatchNodesRequest())
        await anext(responses)
        draining = asyncio.create_task(echo.running.server.drain(30))
        with pytest.raises(errors.Unavailable) as caught:
            await asyncio.wait_for(exhausted(responses), 5)
        assert caught.value.reason == "DRAINING"
        await asyncio.wait_for(draining, 5)
        await mesh.close()


async def test_streams_when_too_many_are_refused_and_make_room_when_closed(tmp_path: Path) -> None:
    async with echo_service(tmp_path) as echo:
        mesh = echo.mesh("svc/gpio")
        stub = discovery_pb2_grpc.DiscoveryServiceStub(mesh.service("discovery"))
        held = [rpc.stream(stub.WatchNodes, discovery_pb2.WatchNodesRequest()) for _ in range(LimitSettings().streams)]
        await asyncio.gather(*(anext(stream) for stream in held))
        with pytest.raises(errors.QuotaExceeded):
            await anext(rpc.stream(stub.WatchNodes, discovery_pb2.WatchNodesRequest()))
        assert (await rpc.unary(stub.GetNode, ASK)).id == "n1"
        for stream in held:
            await stream.aclose()
        async with asyncio.timeout(5):
            while True:
                again = rpc.stream(stub.WatchNodes, discovery_pb2.WatchNodesRequest())
                try:
                    await anext(again)
                    break
                except errors.QuotaExceeded:
                    await asyncio.sleep(0.01)
        await again.aclose()
        await mesh.close()


@pytest.mark.parametrize(
    ("path", "roles", "allowed"),
    [
        ("svc/gpio", (), True),
        ("user/anna", ("monitor",), True),
        ("user/anna", ("cluster-admin",), True),
        ("user/anna", (), False),
        ("user/anna", ("root",), False),
        ("node/n1", (), True),
        ("node/n2", (), False),
        ("gateway", (), False),
    ],
)
async def test_permission_when_declared_decides(tmp_path: Path, path: str, roles: tuple[str, ...], allowed: bool) -> None:
    async with echo_service(tmp_path) as echo:
        mesh = echo.mesh(path, roles=roles)
        stub = discovery_pb2_grpc.DiscoveryServiceStub(mesh.service("discovery"))
        if allowed:
            assert (await rpc.unary(stub.GetNode, ASK)).id == "n1"
        else:
            wanted = errors.Unauthenticated if path == "gateway" else errors.PermissionDenied
            with pytest.raises(wanted):
                await rpc.unary(stub.GetNode, ASK)
        await mesh.close()


def test_method_when_it_declares_no_permission_keeps_its_server_from_starting() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="tests/undeclared.proto", package="tests.undeclared", syntax="proto3")
    file.dependency.append("google/protobuf/empty.proto")
    service = file.service.add(name="Careless")
    service.method.add(name="Do", input_type=".google.protobuf.Empty", output_type=".google.protobuf.Empty")
    descriptor_pool.Default().Add(file)  # type: ignore[attr-defined]  # not in the stubs

    def register(server: Any) -> None:
        handler = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
        server.add_registered_method_handlers("tests.undeclared.Careless", {"Do": handler})

    with pytest.raises(LookupError, match=r"tests\.undeclared\.Careless/Do declares no permission"):
        Server([register], [])
    with pytest.raises(LookupError):
        permission_of("tests.undeclared.Careless", "Do")


async def test_health_reflection_and_channelz_when_asked_by_a_member_answer(tmp_path: Path) -> None:
    async with echo_service(tmp_path) as echo:
        mesh = echo.mesh("svc/gpio")
        channel = mesh.service("discovery")
        health = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(service="picontroller.v1.DiscoveryService"), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        admin = echo.mesh("user/anna", roles=("cluster-admin",))
        channelz = channelz_pb2_grpc.ChannelzStub(admin.service("discovery"))
        assert (await channelz.GetServers(channelz_pb2.GetServersRequest(), timeout=5)).server
        await admin.close()
        for version in ("v1", "v1alpha"):
            call = channel.stream_stream(
                f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
            )
            stream = call(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=5)
            names = {service.name for response in [await stream.read()] for service in response.list_services_response.service}
            assert "picontroller.v1.DiscoveryService" in names
        await mesh.close()


async def test_stream_when_its_callers_proof_expires_ends(tmp_path: Path) -> None:
    async with echo_service(tmp_path) as echo:
        key = ec.generate_private_key(ec.SECP256R1())
        uri = "spiffe://pi-controller.local/svc/gpio"
        chain = echo.authority.certificate(key.public_key(), uri, not_after=datetime.now(UTC) + timedelta(seconds=3))
        folder = IdentityFolder(tmp_path / "short")
        folder.store(credentials_from(key_to_pem(key), chain), echo.authority.trust)
        mesh = Mesh(folder, {"discovery": echo.address})
        stub = discovery_pb2_grpc.DiscoveryServiceStub(mesh.service("discovery"))
        responses = rpc.stream(stub.WatchNodes, discovery_pb2.WatchNodesRequest())
        await anext(responses)
        with pytest.raises(errors.Unauthenticated) as caught:
            await asyncio.wait_for(exhausted(responses), 10)
        assert caught.value.reason == "PROOF_EXPIRED"
        await mesh.close()


async def test_service_when_broken_says_not_serving_and_still_answers(tmp_path: Path) -> None:
    broken = False
    async with echo_service(tmp_path, broken=lambda: broken) as echo:
        mesh = echo.mesh("svc/gpio")
        channel = mesh.service("discovery")
        assert await healthy(channel, 5)
        broken = True
        async with asyncio.timeout(10):
            while await healthy(channel, 5):
                await asyncio.sleep(0.05)
        assert (await rpc.unary(discovery_pb2_grpc.DiscoveryServiceStub(channel).GetNode, ASK)).id == "n1"
        await mesh.close()
