"""All services and an agent with their real servers in this process, the gateway with its Envoy, and callers of every kind.

The clock of the servers is half a day ahead of the machine's, so that a certificate of an hour passes the handshake and is found expired
by whom it is shown to, as on a connection that outlives it.
"""

import tempfile
import urllib.parse
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from cryptography.hazmat.primitives.asymmetric import ec

from picontroller.agent.gpio import panel
from picontroller.agent.gpio.drivers.sim import SimDriver
from picontroller.agent.gpio.drivers.simulation import Simulation
from picontroller.agent.service import NodeAgentServicer
from picontroller.agent.validation.validator import AgentValidator
from picontroller.core.clock import SystemClock
from picontroller.core.rpc.forwarding import ForwardedProofs
from picontroller.core.rpc.hosting import Manners, serving
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.rpc.validation import default_validator
from picontroller.core.rpc.wiring import Service, Surroundings
from picontroller.core.tls.channels import anonymous_channel, channel
from picontroller.core.tls.denials import Denial
from picontroller.core.tls.identity import IdentityFolder, credentials_from, key_to_pem, server_name
from picontroller.gateway.settings import Settings
from picontroller.gateway.wiring import Gateway, gateway
from picontroller.host.services import SERVICES
from picontroller.v1 import agent_pb2_grpc
from tests.fakes.authority import FakeAuthority
from tests.fakes.tokens import FakeTokens
from tests.permissions.requests import NODE, OTHER
from tests.rpc.agent.world import StubHardware, StubHealth, StubMetrics

DAY = 86_400
AHEAD = timedelta(hours=12)
SPOKEN_FOR = "gateway"
Metadata = tuple[tuple[str, str], ...]


class AheadClock(SystemClock):
    """The machine's clock, half a day ahead."""

    def now(self) -> datetime:
        """Return the wall time of half a day from now."""
        return datetime.now(UTC) + AHEAD


@dataclass(frozen=True)
class Caller:
    """Whose connection it is (None: nobody's) and what it carries."""

    identity: IdentityFolder | None
    metadata: Metadata = ()


@dataclass
class World:
    """Servers by name, callers by the names in the matrix, and the channels between them."""

    folder: Path
    authority: FakeAuthority
    tokens: FakeTokens
    clock: AheadClock = field(default_factory=AheadClock)
    addresses: dict[str, str] = field(default_factory=dict)
    folders: dict[str, IdentityFolder] = field(default_factory=dict)
    callers: dict[str, Caller] = field(default_factory=dict)
    gateway: Gateway | None = None
    _channels: dict[tuple[int, str], grpc.aio.Channel] = field(default_factory=dict)

    def identity(self, path: str, *roles: str, life: timedelta = timedelta(days=30)) -> IdentityFolder:
        """Return a new identity under the authority that all believe."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        made = self.authority.identity(folder, path, roles=roles)
        if life == timedelta(days=30):
            return made
        key = ec.generate_private_key(ec.SECP256R1())
        end = datetime.now(UTC) + life
        chain = self.authority.certificate(key.public_key(), str(made.credentials.spiffe_id), organisations=roles, not_after=end)
        made.store(credentials_from(key_to_pem(key), chain), self.authority.trust)
        return made

    def bearer(self, *roles: str, subject: str = "anna", seconds: float = 2 * DAY, **claims: Any) -> Metadata:
        """Return the metadata of a call that the gateway carries for the bearer of a token."""
        return (("authorization", f"Bearer {self.tokens.token(subject, *roles, seconds=seconds, **claims)}"),)

    def carried(self, identity: IdentityFolder) -> Metadata:
        """Return the metadata of a call that the gateway carries for a client certificate."""
        pem = urllib.parse.quote(identity.credentials.chain_pem.decode(), safe="")
        return (("x-forwarded-client-cert", f'Hash=00;Cert="{pem}";Chain="{pem}"'),)

    def channel(self, caller: Caller, server: str) -> grpc.aio.Channel:
        """Return the channel of a caller to a server, shared by all who have the same identity."""
        key = (id(caller.identity), server)
        if key not in self._channels:
            name = server_name(self.folders[server].credentials.spiffe_id)
            address = self.addresses[server]
            if caller.identity is None:
                self._channels[key] = anonymous_channel(self.authority.roots_pem, address, name)
            else:
                self._channels[key] = channel(caller.identity, address, name)
        return self._channels[key]

    def deny(self, *proofs: str) -> None:
        """Have every server refuse these proofs."""
        expires = (datetime.now(UTC) + timedelta(days=60)).timestamp()
        for folder in self.folders.values():
            folder.denials.add([Denial(proof, expires) for proof in proofs], folder.denials.version + 1)

    async def close(self) -> None:
        """Close all channels."""
        for made in self._channels.values():
            await made.close()


def _callers(world: World) -> dict[str, Caller]:
    admin, own, other = world.identity("user/anna", "cluster-admin"), world.identity(f"node/{NODE}"), world.identity(f"node/{OTHER}")
    edge, revoked = world.identity("gateway"), world.identity("user/rita", "cluster-admin")
    token_id = "6f1c2d3e-0000-4000-8000-0000000000aa"
    world.deny(f"certificate:{revoked.credentials.serial}", f"token:{token_id}")
    return {
        "admin": Caller(admin),
        "operator": Caller(world.identity("user/otto", "gpio-operator")),
        "monitor": Caller(world.identity("user/mona", "monitor")),
        "nobody's role": Caller(world.identity("user/nick", "no-role-of-ours")),
        "own agent": Caller(own),
        "other agent": Caller(other),
        **{f"svc/{name}": Caller(world.identity(f"svc/{name}")) for name in ("identity", "events", "discovery", "gpio", "gateway")},
        "gateway alone": Caller(edge),
        "no certificate": Caller(None),
        "expired": Caller(world.identity("user/anna", "cluster-admin", life=timedelta(hours=1))),
        "revoked": Caller(revoked),
        "token admin": Caller(edge, world.bearer("CLUSTER_ADMIN")),
        "token operator": Caller(edge, world.bearer("GPIO_OPERATOR", subject="otto")),
        "token monitor": Caller(edge, world.bearer("MONITOR", subject="mona")),
        "token expired": Caller(edge, world.bearer("CLUSTER_ADMIN", seconds=3600)),
        "token revoked": Caller(edge, world.bearer("CLUSTER_ADMIN", jti=token_id)),
        "carried admin": Caller(edge, world.carried(admin)),
        "carried own agent": Caller(edge, world.carried(own)),
        "carried other agent": Caller(edge, world.carried(other)),
    }


@asynccontextmanager
async def _agent(world: World, address: str) -> AsyncIterator[None]:
    driver = SimDriver(Simulation(), world.clock)
    async with panel.opened(driver, world.folder, world.clock, dict) as lines:
        servicer = NodeAgentServicer(lines, StubMetrics(world.clock), StubHardware(driver, lines), StubHealth(), world.clock)
        service = Service("agent", (lambda server: agent_pb2_grpc.add_NodeAgentServiceServicer_to_server(servicer, server),))
        manners = Manners(AgentValidator(), world.clock, grace_seconds=0.2)
        async with serving(service, world.folders["agent"], [address], manners):
            yield


@asynccontextmanager
async def running(folder: Path, services: Iterable[str] = ("identity", "events", "discovery", "gpio")) -> AsyncIterator[World]:
    """Run everything until the block is left."""
    tokens = FakeTokens()
    world = World(folder, FakeAuthority(jwks=tokens.jwks()), tokens)
    async with AsyncExitStack() as stack:
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pi-matrix-")))
        world.addresses = {name: f"unix:{sockets / name}.sock" for name in (*services, "gateway", "agent")}
        world.folders = {name: world.identity(f"node/{NODE}" if name == "agent" else f"svc/{name}") for name in world.addresses}
        peers = {name: world.addresses[name] for name in services}
        for name in services:
            identity = world.folders[name]
            mesh = Mesh(identity, peers)
            stack.push_async_callback(mesh.close)
            settings = import_module(f"picontroller.{name}.settings").Settings()
            surroundings = Surroundings(name, folder / name, settings, identity, mesh, world.clock)
            service = await stack.enter_async_context(SERVICES[name].build()(surroundings))
            proofs = ForwardedProofs(lambda identity=identity: identity.trust, lambda: world.clock.now().timestamp())  # type: ignore[misc]  # bound now
            manners = Manners(default_validator(), world.clock, proofs, grace_seconds=0.2)
            await stack.enter_async_context(serving(service, identity, [world.addresses[name]], manners))
        await stack.enter_async_context(_agent(world, world.addresses["agent"]))
        world.gateway = await stack.enter_async_context(
            gateway(
                data_dir=folder / "gateway",
                sockets=sockets,
                listen="127.0.0.1:0",
                addresses=peers,
                identity=world.folders["gateway"],
                edge=world.identity("gateway"),
                settings=Settings(),
                clock=world.clock,
                grace_seconds=0.5,
            )
        )
        world.callers = _callers(world)
        stack.push_async_callback(world.close)
        yield world
