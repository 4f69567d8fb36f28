"""Abuse of plain gRPC, shown on a service behind the anatomy that all share."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.interceptors.guarding import Deadlines
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.tls.identity import IdentityFolder, credentials_from
from picontroller.v1 import discovery_pb2, discovery_pb2_grpc
from tests.fakes.authority import FakeAuthority
from tests.fakes.echo import Echo, echo_service

GET = "/picontroller.v1.DiscoveryService/GetNode"
ASK = discovery_pb2.GetNodeRequest(id="n1")


async def refused(channel: grpc.aio.Channel, method: str, raw: bytes, metadata: Any = None) -> grpc.aio.AioRpcError:
    call = channel.unary_unary(method, request_serializer=lambda body: body, response_deserializer=discovery_pb2.Node.FromString)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(raw, timeout=10, metadata=metadata)
    return caught.value


@pytest.mark.parametrize(
    "raw",
    [b"\xff" * 40, b"\x0a\x05ab", b"\x0a\x02\xff\xfe", b"\x0a" + b"\xff" * 9 + b"\x01", b"\x0b" * 500],
    ids=["noise", "truncated", "not-utf8", "huge-length", "open-groups"],
)
async def test_abuse_23_rubbish_is_invalid_argument_with_a_fixed_text(tmp_path: Path, raw: bytes) -> None:
    async with echo_service(tmp_path) as echo:
        mesh = echo.mesh("svc/gpio")
        error = await refused(mesh.service("discovery"), GET, raw)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert error.details() == "the request is not a message of this method"
        assert (await rpc.unary(discovery_pb2_grpc.DiscoveryServiceStub(mesh.service("discovery")).GetNode, ASK)).id == "n1"
        await mesh.close()


async def test_abuse_24_message_above_the_limit_is_resource_exhausted(tmp_path: Path) -> None:
    async with echo_service(tmp_path) as echo:
        mesh = echo.mesh("svc/gpio")
        error = await refused(mesh.service("discovery"), GET, b"\x0a" + b"x" * (5 * 1024 * 1024))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await mesh.close()


async def test_abuse_25_metadata_above_the_limit_is_resource_exhausted(tmp_path: Path) -> None:
    async with echo_service(tmp_path) as echo:
        mesh = echo.mesh("svc/gpio")
        error = await refused(mesh.service("discovery"), GET, ASK.SerializeToString(), [("x-large", "y" * 20_000)])
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await mesh.close()


@pytest.mark.parametrize("method", ["/picontroller.v1.DiscoveryService/Nothing", "/nobody.v1.Nothing/GetNode"])
async def test_abuse_26_unknown_method_is_unimplemented(tmp_path: Path, method: str) -> None:
    async with echo_service(tmp_path) as echo:
        mesh = echo.mesh("svc/gpio")
        assert (await refused(mesh.service("discovery"), method, b"")).code() is grpc.StatusCode.UNIMPLEMENTED
        await mesh.close()


async def test_abuse_27_call_without_a_deadline_gets_the_servers_and_its_work_is_cancelled(tmp_path: Path) -> None:
    cancelled = asyncio.Event()

    async def endless(request: discovery_pb2.GetNodeRequest, context: Any) -> discovery_pb2.Node:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    capped = Deadlines(cap_seconds=0.2)
    method = type("Method", (), {"name": "GetNode", "request_streaming": False, "response_streaming": False})()

    async def proceed(call: Any, request: Any) -> Any:
        return await endless(request, call)

    call = type("Call", (), {"context": type("Context", (), {"time_remaining": staticmethod(lambda: None)})()})()
    with pytest.raises(errors.DeadlineExceeded):
        await capped.wrap(method, proceed)(call, ASK)
    assert cancelled.is_set()


@pytest.mark.parametrize("seconds", [0.0, -1.0, 0.2])
async def test_abuse_27_deadline_that_is_zero_negative_or_short_ends_the_work(tmp_path: Path, seconds: float) -> None:
    running = 0

    async def slow(request: discovery_pb2.GetNodeRequest, context: Any) -> discovery_pb2.Node:
        nonlocal running
        running += 1
        try:
            await asyncio.sleep(30)
        finally:
            running -= 1
        return discovery_pb2.Node()

    async with echo_service(tmp_path, slow) as echo:
        mesh = echo.mesh("svc/gpio")
        stub = discovery_pb2_grpc.DiscoveryServiceStub(mesh.service("discovery"))
        with pytest.raises(errors.DeadlineExceeded):
            await rpc.unary(stub.GetNode, ASK, seconds=seconds)
        deadline = time.monotonic() + 5
        while running and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        assert running == 0
        await mesh.close()


async def test_abuse_31_call_without_a_client_certificate_is_refused(tmp_path: Path) -> None:
    async with echo_service(tmp_path) as echo:
        credentials = grpc.ssl_channel_credentials(echo.authority.roots_pem)
        options = [("grpc.ssl_target_name_override", "discovery.pi-controller.local")]
        async with grpc.aio.secure_channel(echo.address, credentials, options=options) as channel:
            error = await refused(channel, GET, ASK.SerializeToString())
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        mesh = echo.mesh("svc/gpio")
        assert (await rpc.unary(discovery_pb2_grpc.DiscoveryServiceStub(mesh.service("discovery")).GetNode, ASK)).id == "n1"
        await mesh.close()


def stranger(echo: Echo, kind: str) -> IdentityFolder:
    """Return an identity that must not be believed."""
    now = datetime.now(UTC)
    authority = FakeAuthority() if kind == "other root" else echo.authority
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = ec.generate_private_key(ec.SECP256R1())
    start, end = now - timedelta(minutes=5), now + timedelta(days=1)
    usages = (ExtendedKeyUsageOID.CLIENT_AUTH,)
    if kind == "expired":
        start, end = now - timedelta(days=2), now - timedelta(seconds=1)
    elif kind == "not yet valid":
        start, end = now + timedelta(hours=1), now + timedelta(days=1)
    elif kind == "wrong usage":
        usages = (ExtendedKeyUsageOID.EMAIL_PROTECTION,)
    elif kind == "RSA-1024":
        key = rsa.generate_private_key(65537, 1024)
    uri = "spiffe://pi-controller.local/svc/gpio"
    chain = authority.certificate(key.public_key(), uri, not_before=start, not_after=end, usages=usages)
    folder = IdentityFolder(echo.folder / kind.replace(" ", "-"))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    folder.store(credentials_from(pem, chain), echo.authority.trust)
    return folder


@pytest.mark.parametrize("kind", ["other root", "expired", "not yet valid", "wrong usage", "RSA-1024"])
async def test_abuse_32_certificate_that_is_not_good_is_refused(tmp_path: Path, kind: str) -> None:
    async with echo_service(tmp_path) as echo:
        mesh = Mesh(stranger(echo, kind), {"discovery": echo.address})
        stub = discovery_pb2_grpc.DiscoveryServiceStub(mesh.service("discovery"))
        with pytest.raises((errors.Unavailable, errors.Unauthenticated)):
            await rpc.unary(stub.GetNode, ASK)
        await mesh.close()
