"""Discovery behind a real server on a Unix socket, with mutual TLS, a clock that tests move, and an event bus that only takes notes."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from picontroller.core.clock import SystemClock
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.hosting import Manners, serving
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.rpc.validation import default_validator
from picontroller.core.rpc.wiring import Service, Surroundings
from picontroller.core.store.sqlite import Database
from picontroller.core.tls.identity import IdentityFolder
from picontroller.core.version import version
from picontroller.discovery import messages, nodes, wiring
from picontroller.discovery.settings import Settings
from picontroller.discovery.store import SCHEMA, SqliteNodeStore
from picontroller.v1 import discovery_pb2 as v1
from picontroller.v1 import discovery_pb2_grpc, events_pb2, events_pb2_grpc
from tests.fakes.authority import FakeAuthority
from tests.fakes.clock import FakeClock
from tests.fakes.limits import PLENTY

PATIENCE_SECONDS = 10.0


class NotedEvents(events_pb2_grpc.EventServiceServicer):
    """An event bus that remembers what it was given, once each."""

    def __init__(self) -> None:
        self.events: list[events_pb2.Event] = []
        self._last = 0

    async def Publish(self, request: events_pb2.PublishRequest, context: Any) -> events_pb2.PublishResponse:
        for sequence, event in enumerate(request.events, start=request.first_sequence):
            if sequence > self._last:
                self.events.append(event)
                self._last = sequence
        return events_pb2.PublishResponse(last_sequence=self._last)


@dataclass
class World:
    """A running discovery, and the means to call it as anybody."""

    clock: FakeClock
    bus: NotedEvents
    folder: Path
    authority: FakeAuthority
    identity: IdentityFolder
    socket: str
    bus_socket: str
    meshes: dict[str, Mesh] = field(default_factory=dict)
    markers: set[str] = field(default_factory=set)
    peers: dict[str, str] = field(default_factory=dict)

    def stub(self, who: str = "user/anna", *roles: str) -> discovery_pb2_grpc.DiscoveryServiceStub:
        """Return a stub that calls as ``who``; people are administrators unless roles are given."""
        return discovery_pb2_grpc.DiscoveryServiceStub(self.mesh(who, *roles).service("discovery"))

    def mesh(self, who: str = "user/anna", *roles: str) -> Mesh:
        """Return the mesh of ``who``."""
        granted = roles or (("cluster-admin",) if who.startswith("user/") else ())
        key = f"{who} {granted}"
        if key not in self.meshes:
            identity = self.authority.identity(self.folder / "callers" / str(len(self.meshes)), who, roles=granted)
            self.meshes[key] = Mesh(identity, {"discovery": self.socket})
        return self.meshes[key]

    async def close_meshes(self) -> None:
        """Close every caller's channels."""
        for mesh in self.meshes.values():
            await mesh.close()
        self.meshes.clear()

    @asynccontextmanager
    async def built(self, settings: Settings | None = None) -> AsyncIterator[Service]:
        """Build discovery on this world's database."""
        mesh = Mesh(self.identity, {"events": self.bus_socket, **self.peers})
        data = self.folder / "discovery"
        surroundings = Surroundings("discovery", data, settings or Settings(), self.identity, mesh, self.clock)
        try:
            async with wiring.build(surroundings) as service:
                yield service
        finally:
            await mesh.close()

    @asynccontextmanager
    async def running(self, settings: Settings | None = None) -> AsyncIterator[None]:
        """Serve discovery for as long as the context lasts."""
        manners = Manners(default_validator(), SystemClock(), grace_seconds=1, limits=PLENTY)
        try:
            async with self.built(settings) as service, serving(service, self.identity, [self.socket], manners):
                yield
        finally:
            await self.close_meshes()

    async def seed(self, count: int) -> None:
        """Put nodes into the database of a discovery that does not run, where registering them one by one would take long."""
        async with await Database.open(self.folder / "discovery" / "discovery.db", SCHEMA) as database:
            store = SqliteNodeStore(database)
            said = [messages.registration_from(registration(new_node_id())) for _ in range(count)]
            await asyncio.gather(*(store.change(fresh.id, nodes.register(fresh, self.clock.now())) for fresh in said))

    async def register(self, node_id: str, **facts: Any) -> v1.Node:
        """Register a node as its own agent."""
        answer: v1.Node = await rpc.unary(self.stub(f"node/{node_id}").RegisterNode, registration(node_id, **facts))
        return answer

    async def report(self, node_id: str, *problems: str) -> bool:
        """Send a node's sign of life; return whether it was told to register."""
        request = v1.ReportHealthRequest(id=node_id, problems=problems)
        return bool((await rpc.unary(self.stub(f"node/{node_id}").ReportHealth, request)).register)

    async def get(self, node_id: str) -> v1.Node:
        """Return a node as an administrator sees it."""
        node: v1.Node = await rpc.unary(self.stub().GetNode, v1.GetNodeRequest(id=node_id))
        return node

    async def until_status(self, node_id: str, name: str) -> v1.Node:
        """Wait, in real time, until a node has the status."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (node := await self.get(node_id)).status != v1.NodeStatus.Value.Value(name):
                await asyncio.sleep(0.01)
        return node

    async def events(self) -> list[events_pb2.Event]:
        """Return all events of what has happened so far: those that arrive before that of a node that comes last and goes again."""
        marker = new_node_id()
        await self.register(marker)
        await until(lambda: any(event.node_id == marker for event in self.bus.events))
        await rpc.unary(self.stub(f"node/{marker}").UnregisterNode, v1.UnregisterNodeRequest(id=marker))
        self.markers.add(marker)
        return [event for event in self.bus.events if event.node_id not in self.markers]

    async def event_types(self) -> list[str]:
        """Return the types of all events so far."""
        return [event.type for event in await self.events()]


async def until(holds: Callable[[], bool]) -> None:
    """Wait, in real time and not for ever, until a condition holds."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.005)


def new_node_id() -> str:
    """Return an id as nodes have."""
    return str(uuid.uuid4())


def registration(node_id: str, **facts: Any) -> v1.RegisterNodeRequest:
    """Return what a Pi says of itself, some facts replaced."""
    said: dict[str, Any] = {
        "id": node_id,
        "hostname": f"pi-{node_id[:8]}",
        "ip_address": "192.0.2.7",
        "architecture": "aarch64",
        "agent_version": version(),
        "agent_address": "192.0.2.7:7450",
        "capabilities": {"model": "Raspberry Pi 3 Model B", "gpio_backend": "sim", "memory_bytes": "1073741824"},
    }
    return json_format.ParseDict(said | facts, v1.RegisterNodeRequest())


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[World]:
    """Yield a world whose event bus runs and whose discovery does not run yet."""
    authority = FakeAuthority()
    bus = NotedEvents()  # type: ignore[abstract]  # the methods it lacks answer UNIMPLEMENTED
    bus_socket = f"unix:{folder}/events.sock"
    service = Service("events", (lambda server: events_pb2_grpc.add_EventServiceServicer_to_server(bus, server),))
    manners = Manners(default_validator(), SystemClock(), grace_seconds=1, limits=PLENTY)
    identity = authority.identity(folder / "identity", "svc/discovery")
    world = World(FakeClock(), bus, folder, authority, identity, f"unix:{folder}/discovery.sock", bus_socket)
    async with serving(service, authority.identity(folder / "bus", "svc/events"), [bus_socket], manners):
        yield world
        await world.close_meshes()
