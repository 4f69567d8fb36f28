"""A whole small world: an authority of its own in a data folder, its members provisioned, its service running over a Unix socket."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import grpc.aio

from picontroller.core.callers import SpiffeId
from picontroller.core.clock import Clock, SystemClock
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.forwarding import ForwardedProofs
from picontroller.core.rpc.hosting import Manners, serving
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.rpc.validation import default_validator
from picontroller.core.rpc.wiring import Surroundings
from picontroller.core.tls.channels import channel
from picontroller.core.tls.identity import IdentityFolder, credentials_from, key_to_pem, new_key, server_name, signing_request
from picontroller.identity import local, wiring
from picontroller.identity.settings import Settings
from picontroller.v1 import identity_pb2 as pb
from picontroller.v1 import identity_pb2_grpc

MEMBERS = ("identity", "gpio", "gateway")


class ShiftedClock(SystemClock):
    """The machine's clock, moved by ``shift``: TLS goes by the real one, so that tests of certificates can't leave it altogether."""

    def __init__(self) -> None:
        self.shift = timedelta(0)

    def now(self) -> datetime:
        """Return the moved wall time."""
        return datetime.now(UTC) + self.shift


class World:
    """Handles into a running world. Channels are closed with it."""

    def __init__(self, root: Path, clock: ShiftedClock, settings: Settings) -> None:
        self.root = root
        self.clock = clock
        self.settings = settings
        self.address = f"unix:{root}/i.sock"
        self.channels: list[grpc.aio.Channel] = []
        self.served: IdentityFolder

    def folder(self, name: str) -> IdentityFolder:
        """Return a loaded identity: ``gpio``, or ``gateway/edge``."""
        folder = IdentityFolder(self.root / name if "/" in name else self.root / name / "tls")
        folder.load()
        return folder

    def admin(self) -> IdentityFolder:
        """Return the admin's credential as an identity folder."""
        folder = IdentityFolder(self.root / "admin-identity")
        path = self.root / "admin"
        credentials = credentials_from((path / "client.key").read_bytes(), (path / "client.pem").read_bytes())
        folder.store(credentials, self.folder("identity").trust)
        return folder

    def stub(self, identity: IdentityFolder) -> identity_pb2_grpc.IdentityServiceStub:
        """Return a stub that calls under ``identity``."""
        made = channel(identity, self.address, server_name(SpiffeId("", "svc", "identity")))
        self.channels.append(made)
        return identity_pb2_grpc.IdentityServiceStub(made)

    def events(self) -> list[dict[str, object]]:
        """Return the events in the outbox, oldest first: nobody carries them away here."""
        connection = apsw.Connection(str(self.root / "identity" / "identity.db"), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return [json.loads(str(text)) for (text,) in connection.execute("SELECT event FROM outbox ORDER BY sequence").fetchall()]
        finally:
            connection.close()

    async def join_token(self, **fields: object) -> str:
        """Return a new join token made by the admin."""
        stub = self.stub(self.admin())
        made: pb.JoinToken = await rpc.unary(stub.CreateJoinToken, pb.CreateJoinTokenRequest(**fields))  # type: ignore[arg-type]  # fields of the request
        return made.token


def request_for_new_key() -> tuple[bytes, str]:
    """Return a fresh key in PEM and a signing request for it."""
    key = new_key()
    return key_to_pem(key), signing_request(key).decode()


@asynccontextmanager
async def running(root: Path, settings: Settings, gateway_names: tuple[str, ...] = ()) -> AsyncIterator[World]:
    """Yield a world that runs."""
    world = World(root, ShiftedClock(), settings)
    async with wiring.opened(root / "identity", settings, world.clock) as registry:
        await local.provision(registry, root, MEMBERS, world.clock, gateway_names=gateway_names)
    async with serving_again(world):
        yield world


@asynccontextmanager
async def serving_again(world: World) -> AsyncIterator[None]:
    """Serve a world that was provisioned before."""
    identity = world.served = world.folder("identity")
    mesh = Mesh(identity, {"identity": world.address})
    clock: Clock = world.clock
    surroundings = Surroundings("identity", world.root / "identity", world.settings, identity, mesh, clock)
    manners = Manners(default_validator(), clock, ForwardedProofs(lambda: identity.trust, lambda: clock.now().timestamp()), 0.5)
    async with wiring.build(surroundings) as service, serving(service, identity, [world.address], manners):
        try:
            yield
        finally:
            for made in world.channels:
                await made.close()
            world.channels.clear()
            await mesh.close()
