"""Abuse of gRPC's own machinery: too many streams, bombs, doubtful certificates, old TLS, pings. Others are served meanwhile."""

import asyncio
import contextlib
import ssl
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import h2.events
import h2.exceptions
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.authentication import Authenticator
from picontroller.core.rpc.limits import LimitSettings
from picontroller.core.tls.identity import key_to_pem
from picontroller.v1 import discovery_pb2, discovery_pb2_grpc
from tests.fakes.authority import FakeAuthority
from tests.fakes.echo import Echo, echo_service
from tests.fakes.http2 import RawConnection

SERVER = "discovery.pi-controller.local"
GET = "/picontroller.v1.DiscoveryService/GetNode"
ASK = discovery_pb2.GetNodeRequest(id="n1")
STREAMS = 1000


@pytest.fixture
async def echo(tmp_path: Path) -> AsyncIterator[Echo]:
    async with echo_service(tmp_path, listen="127.0.0.1:0", limits=LimitSettings(reads_burst=5000)) as running:
        yield running


async def served(echo: Echo, name: str = "other") -> None:
    """Assert that somebody else is served."""
    mesh = echo.mesh(f"user/{name}", roles=("monitor",))
    assert (await rpc.unary(discovery_pb2_grpc.DiscoveryServiceStub(mesh.service("discovery")).GetNode, ASK)).id == "n1"
    await mesh.close()


def raw(echo: Echo, path: str = "user/raw", **options: Any) -> RawConnection:
    """Return a connection whose owner does as he likes."""
    echo.authority.identity(echo.folder / path, path, roles=("monitor",))
    return RawConnection(echo.address, SERVER, echo.authority.roots_pem, echo.folder / path / "identity.pem", **options)


async def test_abuse_29_thousand_streams_on_one_connection_are_capped(echo: Echo) -> None:
    mesh = echo.mesh("user/greedy", roles=("monitor",))
    stub = discovery_pb2_grpc.DiscoveryServiceStub(mesh.service("discovery"))
    calls = [stub.WatchNodes(discovery_pb2.WatchNodesRequest(), timeout=30) for _ in range(STREAMS)]

    async def begun(call: Any) -> str:
        try:
            await call.read()
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name} {'streams open already' in (error.details() or '')}"
        return "open"

    found = Counter(await asyncio.gather(*map(begun, calls)))
    assert found == {"open": 100, "RESOURCE_EXHAUSTED True": STREAMS - 100}
    await served(echo)
    assert (await rpc.unary(stub.GetNode, ASK)).id == "n1"
    for call in calls:
        call.cancel()
    async with asyncio.timeout(5):  # what was closed counts no longer
        while await begun(again := stub.WatchNodes(discovery_pb2.WatchNodesRequest(), timeout=30)) != "open":
            await asyncio.sleep(0.05)
    again.cancel()
    await mesh.close()


def bomb(mebibytes: int) -> bytes:
    """Return zeros, compressed by gzip to a thousandth, in a moment: one piece of them after which nothing is remembered, again and again.

    The checksum at the end is wrong, which nobody notices who does not inflate it all.
    """
    made = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = made.compress(bytes(1024 * 1024)) + made.flush(zlib.Z_FULL_FLUSH)
    return bytes.fromhex("1f8b08000000000002ff") + piece * mebibytes + b"\3\0" + bytes(8)


def test_bomb_when_inflated_is_as_large_as_it_claims() -> None:
    inflated = zlib.decompressobj(-15).decompress(bomb(3)[10:-8])
    assert inflated == bytes(3 * 1024 * 1024)


def peak_mebibytes() -> int:
    return int(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")).split()[1]) // 1024


async def test_abuse_30_bomb_is_refused_before_it_is_inflated(echo: Echo) -> None:
    payload = bomb(1024)
    assert len(payload) < 2 * 1024 * 1024
    connection = await asyncio.to_thread(raw, echo)
    before = peak_mebibytes()
    for _ in range(3):
        answer = await asyncio.to_thread(connection.grpc, GET, [payload], encoding="gzip")
        assert answer["grpc-status"] == str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
    assert peak_mebibytes() - before < 64
    connection.close()
    await served(echo)


@pytest.mark.parametrize("uris", [(), ("spiffe://pi-controller.local/svc/gpio", "spiffe://pi-controller.local/user/admin")])
async def test_abuse_33_certificate_with_no_identity_or_with_two_is_unauthenticated(echo: Echo, uris: tuple[str, ...]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    chain = echo.authority.certificate(key.public_key(), *uris, organisations=("cluster-admin",))
    credentials = grpc.ssl_channel_credentials(echo.authority.roots_pem, key_to_pem(key), chain)
    async with grpc.aio.secure_channel(echo.address, credentials, options=[("grpc.ssl_target_name_override", SERVER)]) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await discovery_pb2_grpc.DiscoveryServiceStub(channel).GetNode(ASK, timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert f"{len(uris)} identities instead of one" in (caught.value.details() or "")
    await served(echo)


async def test_abuse_34_tls_1_2_is_unauthenticated(echo: Echo) -> None:
    def call(newest: ssl.TLSVersion) -> tuple[str | None, dict[str, str]]:
        connection = raw(echo, newest=newest)
        try:
            return connection.socket.version(), connection.grpc(GET, [ASK.SerializeToString()])
        finally:
            connection.close()

    version, answer = await asyncio.to_thread(call, ssl.TLSVersion.TLSv1_2)
    assert (version, answer["grpc-status"], answer["grpc-message"]) == ("TLSv1.2", "16", "TLS 1.3 is needed")
    version, answer = await asyncio.to_thread(call, ssl.TLSVersion.TLSv1_3)
    assert (version, answer["grpc-status"]) == ("TLSv1.3", "0")


def flood(connection: RawConnection, pings: int) -> list[h2.events.Event]:
    """Ping every millisecond and return what came until the other side had enough."""
    came: list[h2.events.Event] = []
    connection.socket.settimeout(0.001)
    with contextlib.suppress(ConnectionError, ssl.SSLEOFError, h2.exceptions.ProtocolError):  # closed, or told to go away while sending
        for _ in range(pings):
            connection.http2.ping(b"abusabus")
            connection.flush()
            with contextlib.suppress(TimeoutError):
                came += connection.receive()
    return came


async def test_abuse_41_ping_flood_ends_the_connection_and_others_are_served(echo: Echo) -> None:
    connection = await asyncio.to_thread(raw, echo)
    mesh = echo.mesh("user/calm", roles=("monitor",))
    stub = discovery_pb2_grpc.DiscoveryServiceStub(mesh.service("discovery"))
    flooding = asyncio.create_task(asyncio.to_thread(flood, connection, 2000))
    answers = 0
    while not flooding.done():
        assert (await rpc.unary(stub.GetNode, ASK)).id == "n1"
        answers += 1
    came = flooding.result()
    assert answers
    farewells = [event for event in came if isinstance(event, h2.events.ConnectionTerminated)]
    assert [(event.error_code, event.additional_data) for event in farewells] == [(11, b"too_many_pings")]  # ENHANCE_YOUR_CALM
    with pytest.raises((OSError, h2.exceptions.ProtocolError)):
        await asyncio.to_thread(connection.grpc, GET, [ASK.SerializeToString()])
    connection.close()
    await mesh.close()


def signed_with_sha1() -> bytes:
    """Return a certificate of ours in all but its signature, which is RSA with SHA-1: no library makes one any more."""
    key = rsa.generate_private_key(65537, 2048)
    name, now = x509.Name([]), datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://pi-controller.local/svc/gpio")])
    good = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=True)
        .sign(key, hashes.SHA256())
    )
    with_sha256, with_sha1 = bytes.fromhex("06092a864886f70d01010b"), bytes.fromhex("06092a864886f70d010105")
    body = good.tbs_certificate_bytes.replace(with_sha256, with_sha1)
    signature = key.sign(body, padding.PKCS1v15(), hashes.SHA1())
    encoded = good.public_bytes(serialization.Encoding.DER)
    encoded = encoded.replace(good.tbs_certificate_bytes, body).replace(with_sha256, with_sha1).replace(good.signature, signature)
    forged = x509.load_der_x509_certificate(encoded)
    key.public_key().verify(forged.signature, forged.tbs_certificate_bytes, padding.PKCS1v15(), hashes.SHA1())
    return forged.public_bytes(serialization.Encoding.PEM)


class PeerContext:
    """What is asked of a call's context to know its peer."""

    def __init__(self, pem: bytes) -> None:
        self._pem = pem

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"ssl_tls_version": [b"TLSv1.3"], "x509_pem_cert": [self._pem]}


def test_abuse_32_certificate_signed_with_sha_1_is_unauthenticated() -> None:
    authenticator = Authenticator(lambda: FakeAuthority().trust)
    with pytest.raises(errors.Unauthenticated, match="its signature is too weak"):
        authenticator.peer(PeerContext(signed_with_sha1()))  # type: ignore[arg-type]  # the part of a context that is used
