"""A member of the mesh that calls all the time, over all ways there are, and writes down every call that failed.

It is ``/svc/provisioner``: a real member with a certificate that renews itself and trust that follows, so that it does what ours do. It
calls services directly and through the gateway, by REST with connections of its own, and keeps two streams open, which resume.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
from cryptography import x509

from picontroller.agent.admission.enrolment import GATEWAY, issue
from picontroller.agent.admission.roots import fetch_root
from picontroller.core.callers import SpiffeId
from picontroller.core.clock import SystemClock
from picontroller.core.errors import Error
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc import renewal, trust
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.tls.identity import IdentityFolder, key_to_pem, new_key, server_name, signing_request
from picontroller.core.tls.joining import parse_token, pinned
from picontroller.v1 import discovery_pb2, discovery_pb2_grpc, events_pb2, events_pb2_grpc, identity_pb2, identity_pb2_grpc
from tests.integration.plane import Plane

SERVICES = ("identity", "events", "discovery", "gpio")
WAYS = 4
CALL_SECONDS = 5.0


class Load:
    """Calls ``per_second`` times over the ways together while ``run`` runs. ``failures`` has what went wrong, with its second."""

    def __init__(self, plane: Plane, folder: Path, per_second: float) -> None:
        self.plane = plane
        self.identity = IdentityFolder(folder / "tls")
        self.calls = 0
        self.failures: list[str] = []
        self.seen: dict[str, set[str]] = {}
        self.streamed = 0
        self.resumed = 0
        self._gateway = plane.url.removeprefix("https://")
        self._pause = WAYS / per_second
        addresses = {name: f"unix:{plane.data_dir / 'run' / name}.sock" for name in SERVICES}
        self.mesh = Mesh(self.identity, addresses)
        self._clients: list[httpx.AsyncClient] = []
        self._started = time.monotonic()

    async def join(self) -> None:
        """Become a member, as any service elsewhere would."""
        with self.plane.client() as client:
            answer = client.post("/api/v1/tokens", json={"service": "provisioner"})
            answer.raise_for_status()
        token, key = answer.json()["token"], new_key()
        root = pinned(await asyncio.to_thread(fetch_root, self._gateway), parse_token(token).root_hash)
        assert root is not None
        issued = await issue(root, self._gateway, token, signing_request(key))
        credentials = renewal.accepted(key_to_pem(key), issued, SpiffeId(issued.trust.trust_domain, "svc", "provisioner"))
        self.identity.store(credentials, issued.trust)

    async def run(self) -> None:
        """Call until cancelled."""
        clock = SystemClock()
        renewing = renewal.for_service(self.mesh, clock)
        async with asyncio.TaskGroup() as group:
            for work in (renewing.run, trust.for_service(self.mesh, renewing, clock).run, self._look):
                group.create_task(work())
            group.create_task(self._repeat("direct", self._direct))
            group.create_task(self._repeat("direct, nodes", self._nodes))
            group.create_task(self._repeat("gateway", self._through_gateway))
            group.create_task(self._repeat("rest", self._rest()))
            for way in ("direct", "gateway"):
                group.create_task(self._stream(way))

    async def close(self) -> None:
        """Close what is open."""
        for client in self._clients:
            await client.aclose()
        await self.mesh.close()

    async def _repeat(self, way: str, call: Callable[[], Awaitable[None]]) -> None:
        due = time.monotonic()
        while True:
            try:
                await call()
            except (Error, httpx.HTTPError, OSError) as error:
                self._failed(way, error)
            self.calls += 1
            due += self._pause
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _failed(self, way: str, error: Exception) -> None:
        reason = f" {error.reason}" if isinstance(error, Error) else ""
        self.failures.append(f"{time.monotonic() - self._started:.2f} s {way}: {type(error).__name__}{reason}: {error}")

    def _channel(self, way: str, service: str) -> object:
        return self.mesh.service(service) if way == "direct" else self.mesh.channel(self._gateway, GATEWAY)

    async def _who(self, way: str) -> None:
        stub = identity_pb2_grpc.IdentityServiceStub(self._channel(way, "identity"))  # type: ignore[arg-type]  # a channel of either kind
        answer = await rpc.unary(stub.WhoAmI, identity_pb2.WhoAmIRequest(), seconds=CALL_SECONDS)
        # Of each certificate of ours the end is another: that is what the service saw in the handshake or was forwarded.
        self._see(f"our certificate, {way}", answer.expire_time.ToJsonString())

    async def _direct(self) -> None:
        await self._who("direct")

    async def _through_gateway(self) -> None:
        await self._who("gateway")

    async def _nodes(self) -> None:
        stub = discovery_pb2_grpc.DiscoveryServiceStub(self.mesh.service("discovery"))
        await rpc.unary(stub.ListNodes, discovery_pb2.ListNodesRequest(), seconds=CALL_SECONDS)

    def _rest(self) -> Callable[[], Awaitable[None]]:
        token = (self.plane.admin / "token").read_text().strip()
        version, client = -1, httpx.AsyncClient()

        async def call() -> None:
            nonlocal version, client
            if version != self.identity.trust.version:  # a program that reads ca.pem again when it changes
                version = self.identity.trust.version
                context = ssl.create_default_context(cadata=self.identity.trust.roots_pem.decode())
                client = httpx.AsyncClient(base_url=self.plane.url, verify=context, timeout=CALL_SECONDS)
                self._clients.append(client)
            answer = await client.get("/api/v1/gpio", headers={"authorization": f"Bearer {token}"})
            if answer.status_code != httpx.codes.OK:
                raise httpx.HTTPError(f"{answer.status_code} {answer.text[:300]}")

        return call

    async def _stream(self, way: str) -> None:
        """Follow the events by cursor. Ends of streams are no failures; what does not come back within two seconds is."""
        position: str | None = None
        broken_since: float | None = None
        while True:
            stub = events_pb2_grpc.EventServiceStub(self._channel(way, "events"))  # type: ignore[arg-type]  # as above
            try:
                async for response in rpc.stream(stub.Subscribe, events_pb2.SubscribeRequest(after=position)):
                    broken_since = None
                    position = response.cursor or position
                    self.streamed += len(response.events)
            except Error as error:
                self.resumed += 1
                broken_since = broken_since or time.monotonic()
                if time.monotonic() - broken_since > 2:
                    self._failed(f"stream, {way}", error)
            await asyncio.sleep(0.02)

    async def _look(self) -> None:
        """Look at the certificates that servers show."""
        while True:
            host, _, port = self._gateway.rpartition(":")
            self._see("the gateway's certificate", await asyncio.to_thread(self._serial, (host, int(port)), GATEWAY))
            path = str(self.plane.data_dir / "run" / "gpio.sock")
            name = server_name(SpiffeId("", "svc", "gpio"))
            self._see("the gpio service's certificate", await asyncio.to_thread(self._serial, path, name))
            await asyncio.sleep(0.5)

    def _serial(self, address: tuple[str, int] | str, name: str) -> str:
        """Return the serial number of the certificate that a server shows, which has to lead to a root that we believe."""
        context = ssl.create_default_context(cadata=self.identity.trust.roots_pem.decode())
        credentials, own = self.identity.credentials, self.identity.path / "looking.pem"
        own.write_bytes(credentials.key_pem + credentials.chain_pem)  # OpenSSL reads the file twice, and ours may be replaced in between
        context.load_cert_chain(own)
        context.set_alpn_protocols(["h2"])
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        try:
            with socket.socket(family) as plain:
                plain.settimeout(CALL_SECONDS)
                plain.connect(address)
                with context.wrap_socket(plain, server_hostname=name) as secured:
                    shown = secured.getpeercert(binary_form=True)
        except OSError as error:
            self._failed(f"handshake with {name}", error)
            return ""
        return f"{x509.load_der_x509_certificate(shown or b'').serial_number:x}"

    def _see(self, what: str, value: str) -> None:
        if value:
            self.seen.setdefault(what, set()).add(value)
