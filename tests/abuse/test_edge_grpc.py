"""Abuse of native gRPC at the edge: a real Envoy in front of services that count every effect."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from picontroller.v1 import discovery_pb2, identity_pb2, identity_pb2_grpc
from tests.fakes.authority import FakeAuthority
from tests.fakes.edge import EdgeWorld, edge_world
from tests.fakes.http2 import RawConnection

pytestmark = pytest.mark.asyncio(loop_scope="module")
PINGS = 20_000  # hundreds
WHO = "/picontroller.v1.IdentityService/WhoAmI"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EdgeWorld]:
    async with edge_world(tmp_path_factory.mktemp("edge")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def unchanged(world: EdgeWorld) -> AsyncIterator[None]:
    """The state that must be the same after the test as before, with a gateway that still serves."""
    before = world.services.seen.changes
    pid = world.gateway.envoy.pid
    yield
    assert world.services.seen.changes == before
    async with world.http() as client:
        assert (await client.get("/healthz")).status_code == 200
    assert (world.gateway.envoy.pid, world.gateway.envoy.restarts) == (pid, 0)


async def call(world: EdgeWorld, method: str, body: bytes, metadata: Any = None) -> grpc.aio.AioRpcError:
    async with world.channel(world.person("cluster-admin")) as channel:
        rpc = channel.unary_unary(method, request_serializer=lambda data: data, response_deserializer=lambda data: data)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rpc(body, timeout=20, metadata=metadata)
    return caught.value


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xfe"], ids=["noise", "truncated", "not-utf8"])
@pytest.mark.usefixtures("unchanged")
async def test_abuse_23_garbage_protobuf_through_the_edge_is_invalid_argument(world: EdgeWorld, body: bytes) -> None:
    error = await call(world, "/picontroller.v1.DiscoveryService/GetNode", body)
    assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "the request is not a message of this method")


@pytest.mark.usefixtures("unchanged")
async def test_abuse_24_message_above_the_limit_is_resource_exhausted(world: EdgeWorld) -> None:
    body = discovery_pb2.GetNodeRequest(id="a" * 5_000_000).SerializeToString()
    error = await call(world, "/picontroller.v1.DiscoveryService/GetNode", body)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.usefixtures("unchanged")
async def test_abuse_25_metadata_above_the_limit_is_resource_exhausted(world: EdgeWorld) -> None:
    error = await call(world, WHO, b"", (("x-big", "a" * 18_000),))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for http2, size, status in ((True, 18_000, 429), (False, 18_000, 429), (False, 60_000, 431)):
        async with world.http(http2=http2) as client:
            answer = await client.get("/api/v1/whoami", headers=world.bearer() | {"x-big": "a" * size})
        assert (answer.status_code, answer.json()["code"]) == (status, 8)


@pytest.mark.usefixtures("unchanged")
async def test_abuse_25_metadata_far_above_the_limit_ends_the_stream_only(world: EdgeWorld) -> None:
    async with world.channel(world.person("monitor")) as channel:
        stub = identity_pb2_grpc.IdentityServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.WhoAmI(identity_pb2.WhoAmIRequest(), timeout=5, metadata=(("x-big", "a" * 60_000),))
        assert caught.value.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert (await stub.WhoAmI(identity_pb2.WhoAmIRequest(), timeout=5)).method == "certificate"


async def test_abuse_25_metadata_below_the_limit_passes_together_with_a_certificate(world: EdgeWorld) -> None:
    metadata = (("x-big", "a" * 7_500),)
    async with world.channel(world.person("monitor")) as channel:
        answer = await identity_pb2_grpc.IdentityServiceStub(channel).WhoAmI(identity_pb2.WhoAmIRequest(), timeout=5, metadata=metadata)
    assert answer.method == "certificate"


@pytest.mark.parametrize(
    "method",
    [
        "/picontroller.v1.IdentityService/Nope",
        "/picontroller.v1.NopeService/Get",
        "/picontroller.v1.NodeAgentService/ControlGPIO",
        "/grpc.channelz.v1.Channelz/GetServers",
        "/x",
    ],
)
@pytest.mark.usefixtures("unchanged")
async def test_abuse_26_unknown_method_is_unimplemented(world: EdgeWorld, method: str) -> None:
    assert (await call(world, method, b"")).code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.usefixtures("unchanged")
async def test_abuse_31_call_without_any_proof_is_unauthenticated_and_a_strange_certificate_ends_the_handshake(world: EdgeWorld) -> None:
    async with world.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await identity_pb2_grpc.IdentityServiceStub(channel).WhoAmI(identity_pb2.WhoAmIRequest(), timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    stranger = FakeAuthority().identity(world.folder / "stranger", "user/anna", roles=("cluster-admin",))
    async with world.channel(stranger) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await identity_pb2_grpc.IdentityServiceStub(channel).WhoAmI(identity_pb2.WhoAmIRequest(), timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.usefixtures("unchanged")
async def test_abuse_34_tls_1_2_ends_in_the_handshake(world: EdgeWorld) -> None:
    context = world.tls()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        await asyncio.open_connection("127.0.0.1", world.gateway.port, ssl=context)


def flood(world: EdgeWorld) -> int:
    """Ping without ever reading an answer, and return how many pings went out before the gateway closed the connection."""
    pem = world.person("monitor").path / "identity.pem"
    connection = RawConnection(f"127.0.0.1:{world.gateway.port}", "gateway.pi-controller.local", world.authority.roots_pem, pem)
    connection.socket.settimeout(5)
    try:
        for number in range(PINGS):
            for _ in range(100):
                connection.http2.ping(b"abusabus")
            try:
                connection.flush()
            except OSError:
                return number * 100
        return PINGS * 100
    finally:
        connection.close()


@pytest.mark.usefixtures("unchanged")
async def test_abuse_41_ping_flood_ends_the_connection_and_others_are_served(world: EdgeWorld) -> None:
    flooding = asyncio.create_task(asyncio.to_thread(flood, world))
    async with world.channel(world.person("monitor")) as channel:
        stub = identity_pb2_grpc.IdentityServiceStub(channel)
        answers = 0
        while not flooding.done():
            assert (await stub.WhoAmI(identity_pb2.WhoAmIRequest(), timeout=5)).method == "certificate"
            answers += 1
            await asyncio.sleep(0.01)
    assert answers
    assert flooding.result() < PINGS * 100
