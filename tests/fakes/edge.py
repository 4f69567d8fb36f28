"""A real gateway, Envoy and all, in front of fake services, with clients of every kind."""

import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx

from picontroller.core.clock import SystemClock
from picontroller.core.rpc.forwarding import ForwardedProofs
from picontroller.core.rpc.hosting import Manners, serving
from picontroller.core.rpc.limits import DEFAULT_LIMITS, LimitSettings
from picontroller.core.rpc.validation import default_validator
from picontroller.core.tls.identity import IdentityFolder
from picontroller.gateway.settings import Settings
from picontroller.gateway.wiring import Gateway, gateway
from tests.fakes.authority import FakeAuthority
from tests.fakes.services import FakeServices
from tests.fakes.tokens import FakeTokens


@dataclass
class EdgeWorld:
    """The gateway and what is around it."""

    folder: Path
    authority: FakeAuthority
    tokens: FakeTokens
    services: FakeServices
    edge: IdentityFolder
    gateway: Gateway
    addresses: dict[str, str]

    def bearer(self, *roles: str, subject: str = "anna", **changed: Any) -> dict[str, str]:
        return {"authorization": f"Bearer {self.tokens.token(subject, *roles, **changed)}"}

    def tls(self, identity: IdentityFolder | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.authority.roots_pem.decode())
        if identity is not None:
            pem = identity.path / "identity.pem"
            context.load_cert_chain(pem)
        return context

    def person(self, *roles: str, name: str = "anna") -> IdentityFolder:
        return self.authority.identity(Path(tempfile.mkdtemp(dir=self.folder)), f"user/{name}", roles=roles)

    def http(self, *, identity: IdentityFolder | None = None, http2: bool = True, **more: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.gateway.url, verify=self.tls(identity), http2=http2, timeout=20, trust_env=False, **more)

    def channel(self, identity: IdentityFolder | None = None) -> grpc.aio.Channel:
        own = identity.credentials if identity else None
        pair = (own.key_pem, own.chain_pem) if own else (None, None)
        credentials = grpc.ssl_channel_credentials(self.authority.roots_pem, *pair)
        options = (("grpc.ssl_target_name_override", "gateway.pi-controller.local"), ("grpc.use_local_subchannel_pool", 1))
        return grpc.aio.secure_channel(f"127.0.0.1:{self.gateway.port}", credentials, options=options)


@asynccontextmanager
async def edge_world(
    folder: Path,
    settings: Settings | None = None,
    *,
    without: frozenset[str] = frozenset(),
    kind: type[FakeAuthority] = FakeAuthority,
    tcp: bool = False,
    keys: bool = True,
    limits: LimitSettings = DEFAULT_LIMITS,
) -> AsyncIterator[EdgeWorld]:
    """Yield a gateway on a free port, its services on Unix sockets or on TCP.

    Services named in ``without`` are configured and do not run. Without ``keys`` nothing is known that could sign a token.
    """
    tokens = FakeTokens()
    authority = kind(jwks=tokens.jwks() if keys else '{"keys":[]}')
    services = FakeServices()
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pi-edge-")))
        addresses: dict[str, str] = {}
        for service in services.services():
            addresses[service.name] = "127.0.0.1:0" if tcp else f"unix:{sockets / service.name}.sock"
            identity = authority.identity(folder / service.name, f"svc/{service.name}")
            proofs = ForwardedProofs(lambda identity=identity: identity.trust)  # type: ignore[misc]  # bound now, not at the call
            if service.name not in without:
                manners = Manners(default_validator(), clock, proofs, grace_seconds=0.2, limits=limits)
                up = await stack.enter_async_context(serving(service, identity, [addresses[service.name]], manners))
                addresses[service.name] = up.addresses[0]
        edge = authority.identity(folder / "gateway" / "edge", "gateway")
        running = await stack.enter_async_context(
            gateway(
                data_dir=folder / "gateway",
                sockets=sockets,
                listen="127.0.0.1:0",
                addresses=addresses,
                identity=authority.identity(folder / "gateway" / "tls", "svc/gateway"),
                edge=edge,
                settings=settings or Settings(),
                clock=clock,
                grace_seconds=0.5,
                limits=limits,
            )
        )
        yield EdgeWorld(folder, authority, tokens, services, edge, running, addresses)
