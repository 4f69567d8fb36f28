"""A real event bus behind mTLS on a Unix socket, and ways to speak to it as anybody."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from picontroller.core.clock import SystemClock
from picontroller.core.rpc.forwarding import ForwardedProofs
from picontroller.core.rpc.hosting import Manners, serving
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.rpc.validation import default_validator
from picontroller.core.rpc.wiring import Surroundings
from picontroller.events.settings import Settings
from picontroller.events.wiring import build
from picontroller.v1 import events_pb2_grpc
from tests.fakes.authority import FakeAuthority

DEFAULTS = Settings()
Stub = events_pb2_grpc.EventServiceStub


class Bus:
    """A bus that can be stopped and started again on the same file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = FakeAuthority()
        self.address = f"unix:{folder}/s"
        self.clock = SystemClock()
        self._meshes = AsyncExitStack()

    @asynccontextmanager
    async def running(self, settings: Settings = DEFAULTS, *, proofs: bool = False) -> AsyncIterator[None]:
        """Run the bus; with ``proofs`` it believes what the gateway carries."""
        identity = self.authority.identity(self.folder / "tls", "svc/events")
        surroundings = Surroundings("events", self.folder / "events", settings, identity, Mesh(identity, {}), self.clock)
        carried = ForwardedProofs(lambda: identity.trust) if proofs else None
        manners = Manners(default_validator(), self.clock, carried, grace_seconds=1)
        async with build(surroundings) as service, serving(service, identity, [self.address], manners):
            yield

    def mesh(self, path: str, *, roles: tuple[str, ...] = ()) -> Mesh:
        identity = self.authority.identity(self.folder / path.replace("/", "-"), path, roles=roles)
        mesh = Mesh(identity, {"events": self.address})
        self._meshes.push_async_callback(mesh.close)
        return mesh

    def stub(self, path: str = "svc/gpio", *, roles: tuple[str, ...] = ()) -> Stub:
        return Stub(self.mesh(path, roles=roles).service("events"))

    async def close(self) -> None:
        await self._meshes.aclose()
