"""A service of the tests' own behind the real anatomy: the methods of DiscoveryService with behaviour that each test chooses."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from picontroller.core.clock import SystemClock
from picontroller.core.rpc.forwarding import ForwardedProofs
from picontroller.core.rpc.hosting import Manners, Running, serving
from picontroller.core.rpc.limits import DEFAULT_LIMITS, LimitSettings
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.rpc.validation import default_validator
from picontroller.core.rpc.wiring import Service, never
from picontroller.v1 import discovery_pb2, discovery_pb2_grpc
from tests.fakes.authority import FakeAuthority

Get = Callable[[discovery_pb2.GetNodeRequest, Any], Awaitable[discovery_pb2.Node]]


async def echo(request: discovery_pb2.GetNodeRequest, context: Any) -> discovery_pb2.Node:
    return discovery_pb2.Node(id=request.id)


class EchoServicer(discovery_pb2_grpc.DiscoveryServiceServicer):
    """GetNode does what the test says; WatchNodes repeats itself every 10 ms until it is ended."""

    def __init__(self, get: Get) -> None:
        self._get = get

    async def GetNode(self, request: discovery_pb2.GetNodeRequest, context: Any) -> discovery_pb2.Node:
        return await self._get(request, context)

    async def ReportHealth(self, request: Any, context: Any) -> discovery_pb2.ReportHealthResponse:
        return discovery_pb2.ReportHealthResponse()

    async def WatchNodes(self, request: Any, context: Any) -> AsyncIterator[discovery_pb2.WatchNodesResponse]:
        clock = SystemClock()
        while True:
            yield discovery_pb2.WatchNodesResponse(change=discovery_pb2.WatchNodesResponse.Change.SYNCED)
            await clock.sleep(0.01)


@dataclass(frozen=True)
class Echo:
    """A running echo service, and identities that may call it."""

    running: Running
    authority: FakeAuthority
    address: str
    folder: Path

    def mesh(self, path: str, *, roles: Sequence[str] = ()) -> Mesh:
        """Return a mesh with an identity such as ``user/anna``."""
        identity = self.authority.identity(self.folder / path, path, roles=tuple(roles))
        return Mesh(identity, {"discovery": self.address})


@asynccontextmanager
async def echo_service(
    folder: Path,
    get: Get = echo,
    *,
    listen: str = "",
    grace_seconds: float = 1,
    broken: Callable[[], bool] = never,
    limits: LimitSettings = DEFAULT_LIMITS,
) -> AsyncIterator[Echo]:
    """Serve an echo service on a Unix socket in ``folder``, or on ``listen``."""
    authority = FakeAuthority()
    identity = authority.identity(folder / "server", "svc/discovery")
    servicer = EchoServicer(get)
    service = Service(
        "discovery", (lambda server: discovery_pb2_grpc.add_DiscoveryServiceServicer_to_server(servicer, server),), broken=broken
    )
    manners = Manners(default_validator(), SystemClock(), ForwardedProofs(lambda: identity.trust), grace_seconds, limits)
    async with serving(service, identity, [listen or f"unix:{folder}/echo.sock"], manners) as running:
        yield Echo(running, authority, running.addresses[0], folder)
