"""A control plane as an agent sees it: the root file, join tokens, and the calls of a joined node, all at one address as with the real one.

It speaks real TLS and gRPC under a throw-away authority. Knobs say how it answers; lists say what it was asked.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import empty_pb2

from picontroller.core import callers, errors
from picontroller.core.callers import SpiffeId
from picontroller.core.clock import SystemClock
from picontroller.core.rpc import errors as rpc_errors
from picontroller.core.rpc.hosting import Manners, serving
from picontroller.core.rpc.validation import default_validator
from picontroller.core.rpc.wiring import Service
from picontroller.core.tls.identity import server_name
from picontroller.core.tls.joining import JoinTokenParts, new_secret, root_hash
from picontroller.v1 import discovery_pb2, discovery_pb2_grpc, identity_pb2, identity_pb2_grpc, trust_pb2
from tests.fakes.authority import FakeAuthority

NODE_ID = "6f1d2c3b-0a4e-4f6d-9a51-2b7c8d9e0f11"


class FakeControlPlane(identity_pb2_grpc.IdentityServiceServicer, discovery_pb2_grpc.DiscoveryServiceServicer):
    """``address`` is the gateway's. ``life`` is that of the certificates it issues."""

    def __init__(self, authority: FakeAuthority) -> None:
        self.authority = authority
        self.address = ""
        self.root_pem = authority.roots_pem
        self.life = timedelta(days=30)
        self.identity_issued = f"node/{NODE_ID}"
        self.refusal: errors.Error | None = None
        self.lost_answers = 0
        self.granted = False
        self.hold: asyncio.Event | None = None
        self.waiting = 0
        self.wants_registration = False
        self.issued: list[bytes] = []
        self.renewed: list[str] = []
        self.registrations: list[discovery_pb2.RegisterNodeRequest] = []
        self.reports: list[list[str]] = []
        self.unregistered: list[str] = []
        self.received = bytearray()
        self.changed = asyncio.Condition()
        self.secret = new_secret()

    @property
    def token(self) -> str:
        """The one join token that is accepted."""
        return JoinTokenParts(root_hash(self.authority.root), "token1", self.secret).text()

    async def until(self, holds: Any, seconds: float = 10.0) -> None:
        """Wait until ``holds()``, asked after each call. Raises TimeoutError."""
        async with asyncio.timeout(seconds), self.changed:
            await self.changed.wait_for(holds)

    async def _told(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def IssueCertificate(self, request: identity_pb2.IssueCertificateRequest, context: Any) -> identity_pb2.IssuedCertificate:
        if self.refusal is not None:
            await context.abort_with_status(rpc_errors.to_grpc(self.refusal))
        if request.token != self.token:
            await context.abort_with_status(rpc_errors.to_grpc(errors.Unauthenticated("the token is not known", reason="TOKEN_INVALID")))
        self.waiting += 1
        await self._told()
        if self.hold is not None:
            await self.hold.wait()
        csr = x509.load_pem_x509_csr(request.csr_pem.encode())
        self.issued.append(csr.public_key().public_numbers().x.to_bytes(32, "big"))  # type: ignore[union-attr]  # our agents' keys are P-256
        if self.lost_answers:
            self.lost_answers -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the answer was lost")
        self.granted = True
        return self._issue(csr)

    async def RenewCertificate(self, request: identity_pb2.RenewCertificateRequest, context: Any) -> identity_pb2.IssuedCertificate:
        self.renewed.append(callers.current().node_id)
        answer = self._issue(x509.load_pem_x509_csr(request.csr_pem.encode()))
        await self._told()
        return answer

    async def GetTrustBundle(self, request: trust_pb2.GetTrustBundleRequest, context: Any) -> trust_pb2.TrustBundle:
        return self._bundle()

    async def RegisterNode(self, request: discovery_pb2.RegisterNodeRequest, context: Any) -> discovery_pb2.Node:
        if self.refusal is not None:
            raise self.refusal
        self.registrations.append(request)
        self.wants_registration = False
        await self._told()
        return discovery_pb2.Node(id=request.id)

    async def ReportHealth(self, request: discovery_pb2.ReportHealthRequest, context: Any) -> discovery_pb2.ReportHealthResponse:
        self.reports.append(list(request.problems))
        await self._told()
        return discovery_pb2.ReportHealthResponse(register=self.wants_registration)

    async def UnregisterNode(self, request: discovery_pb2.UnregisterNodeRequest, context: Any) -> empty_pb2.Empty:
        if self.refusal is not None:
            raise self.refusal
        self.unregistered.append(request.id)
        return empty_pb2.Empty()

    def _issue(self, csr: x509.CertificateSigningRequest) -> identity_pb2.IssuedCertificate:
        kind, _, name = self.identity_issued.partition("/")
        identity = SpiffeId(self.authority.trust_domain, kind, name)
        key = csr.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        now = datetime.now(UTC)
        names = (server_name(identity), "localhost")
        chain = self.authority.certificate(key, str(identity), dns=names, not_before=now - self.life / 10, not_after=now + self.life)
        return identity_pb2.IssuedCertificate(
            certificate_chain_pem=chain.decode(), trust_bundle=self._bundle(), spiffe_id=str(identity), node_id=name
        )

    def _bundle(self) -> trust_pb2.TrustBundle:
        trust = self.authority.trust
        return trust_pb2.TrustBundle(
            version=trust.version, trust_domain=trust.trust_domain, roots_pem=trust.roots_pem.decode(), jwks_json=trust.jwks_json
        )


@asynccontextmanager
async def running_control_plane(folder: Path, authority: FakeAuthority | None = None) -> AsyncIterator[FakeControlPlane]:
    """Run one until the block is left."""
    fake = FakeControlPlane(authority or FakeAuthority())
    gateway = fake.authority.identity(folder / "gateway", "gateway")
    credentials = gateway.credentials
    async with AsyncExitStack() as stack:
        anonymous = grpc.aio.server()
        identity_pb2_grpc.add_IdentityServiceServicer_to_server(fake, anonymous)
        secrets = grpc.ssl_server_credentials([(credentials.key_pem, credentials.chain_pem)])
        anonymous_port = anonymous.add_secure_port("127.0.0.1:0", secrets)
        await anonymous.start()
        stack.push_async_callback(anonymous.stop, 0)
        service = Service(
            "gateway",
            (
                lambda server: identity_pb2_grpc.add_IdentityServiceServicer_to_server(fake, server),
                lambda server: discovery_pb2_grpc.add_DiscoveryServiceServicer_to_server(fake, server),
            ),
        )
        manners = Manners(default_validator(), SystemClock(), grace_seconds=0.1)
        joined = await stack.enter_async_context(serving(service, gateway, ["127.0.0.1:0"], manners))
        joined_port = int(joined.addresses[0].rpartition(":")[2])
        files_port = await _serve_root(stack, fake, gateway.path / "identity.pem")
        tasks: set[asyncio.Task[None]] = set()

        async def front(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            """Pass a connection on by its first bytes: gRPC asks for HTTP/2, and has a certificate once it was issued one."""
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            inner_writer = None
            try:
                hello = await reader.read(4096)
                fake.received += hello
                port = files_port if b"\x02h2" not in hello else joined_port if fake.granted else anonymous_port
                inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
                inner_writer.write(hello)
                with contextlib.suppress(OSError):
                    await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
            except asyncio.CancelledError:
                pass  # asyncio logs it as an error where nobody awaits the task
            finally:
                writer.close()
                if inner_writer is not None:
                    inner_writer.close()
                tasks.discard(task)

        server = await asyncio.start_server(front, "127.0.0.1", 0)
        fake.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield fake
        finally:
            server.close()
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def _serve_root(stack: AsyncExitStack, fake: FakeControlPlane, pem: Path) -> int:
    """Serve ``/ca.pem`` over HTTPS and return the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        fake.received += request
        status = "200 OK" if request.startswith(b"GET /ca.pem HTTP/1.1\r\n") else "404 Not Found"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(fake.root_pem)}\r\nConnection: close\r\n\r\n".encode() + fake.root_pem)
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    stack.callback(server.close)
    port: int = server.sockets[0].getsockname()[1]
    return port
