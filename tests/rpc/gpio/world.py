"""The GPIO manager behind a real server on a Unix socket, over boards in memory, with an event bus that only takes notes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
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
from picontroller.gpio import wiring
from picontroller.gpio.boards import Agents, Node
from picontroller.gpio.settings import Settings
from picontroller.v1 import events_pb2, events_pb2_grpc, gpio_pb2_grpc
from picontroller.v1 import gpio_pb2 as v1
from tests.fakes.agents import FakeAgents, FakeBoard
from tests.fakes.authority import FakeAuthority
from tests.fakes.clock import FakeClock
from tests.fakes.limits import PLENTY
from tests.fakes.nodes import FakeNodes

PATIENCE_SECONDS = 30.0
PI = "11111111-1111-4111-8111-111111111111"
OTHER_PI = "22222222-2222-4222-8222-222222222222"


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
    """A running GPIO manager, and the means to call it as anybody."""

    clock: FakeClock
    bus: NotedEvents
    folder: Path
    authority: FakeAuthority
    nodes: FakeNodes
    agents: FakeAgents
    socket: str
    bus_socket: str
    meshes: dict[str, Mesh] = field(default_factory=dict)

    def add_pi(self, node_id: str = PI, *, online: bool = True) -> FakeBoard:
        """Add a Pi that discovery knows."""
        self.nodes.put(Node(node_id, "192.0.2.7:7450", online, (("ID_SDA", 0), ("SPI_MOSI", 10))))
        return self.agents.add(node_id)

    def lose(self, node_id: str = PI) -> None:
        """Let a Pi be silent and discovery notice it."""
        self.agents.boards[node_id].reachable = False
        self.nodes.put(Node(node_id, "192.0.2.7:7450", online=False))

    def regain(self, node_id: str = PI) -> None:
        """Let a Pi be back."""
        self.agents.boards[node_id].reachable = True
        self.nodes.put(Node(node_id, "192.0.2.7:7450", online=True))

    def mesh(self, who: str = "user/anna", *roles: str) -> Mesh:
        """Return the mesh of ``who``; people are administrators unless roles are given."""
        granted = roles or (("cluster-admin",) if who.startswith("user/") else ())
        key = f"{who} {granted}"
        if key not in self.meshes:
            identity = self.authority.identity(self.folder / "callers" / str(len(self.meshes)), who, roles=granted)
            self.meshes[key] = Mesh(identity, {"gpio": self.socket})
        return self.meshes[key]

    def stub(self, who: str = "user/anna", *roles: str) -> gpio_pb2_grpc.GpioServiceStub:
        """Return a stub that calls as ``who``."""
        return gpio_pb2_grpc.GpioServiceStub(self.mesh(who, *roles).service("gpio"))

    async def create(self, name: str = "led", *, who: str = "user/anna", **fields: Any) -> v1.GpioResource:
        """Create an output on BCM 17 of the Pi, some fields replaced."""
        made: v1.GpioResource = await rpc.unary(self.stub(who).CreateGpioResource, creation(name, **fields))
        return made

    async def get(self, resource: v1.GpioResource) -> v1.GpioResource:
        """Return a resource as it is now."""
        found: v1.GpioResource = await rpc.unary(self.stub().GetGpioResource, v1.GetGpioResourceRequest(id=resource.id))
        return found

    async def update(self, resource: v1.GpioResource, metadata: dict[str, str] | None = None, **fields: Any) -> v1.GpioResource:
        """Update a resource."""
        request = json_format.ParseDict({"id": resource.id, **fields}, v1.UpdateGpioResourceRequest())
        answer: v1.GpioResource = await rpc.unary(self.stub().UpdateGpioResource, request, metadata=metadata)
        return answer

    async def delete(self, resource: v1.GpioResource, metadata: dict[str, str] | None = None, **fields: Any) -> None:
        """Delete a resource."""
        request = v1.DeleteGpioResourceRequest(id=resource.id, **fields)
        await rpc.unary(self.stub().DeleteGpioResource, request, metadata=metadata)

    async def read(self, *resources: v1.GpioResource) -> list[v1.PinOutcome]:
        """Read resources."""
        response = await rpc.unary(self.stub().ReadPins, v1.ReadPinsRequest(ids=[resource.id for resource in resources]))
        return list(response.results)

    async def write(self, *levels: tuple[v1.GpioResource, str], request_id: str = "") -> list[v1.PinOutcome]:
        """Write levels."""
        writes = [{"id": resource.id, "value": level} for resource, level in levels]
        request = json_format.ParseDict({"writes": writes, "request_id": request_id}, v1.WritePinsRequest())
        return list((await rpc.unary(self.stub().WritePins, request)).results)

    async def listed(self, **fields: Any) -> v1.ListGpioResourcesResponse:
        """List resources."""
        response: v1.ListGpioResourcesResponse = await rpc.unary(self.stub().ListGpioResources, v1.ListGpioResourcesRequest(**fields))
        return response

    def told(self, *types: str) -> list[events_pb2.Event]:
        """Return the events of these types so far, all when none is named."""
        return [event for event in self.bus.events if not types or event.type in types]

    async def until_told(self, kind: str, count: int = 1) -> list[events_pb2.Event]:
        """Wait until so many events of a type have arrived, and return them."""
        await until(lambda: len(self.told(kind)) >= count)
        return self.told(kind)

    async def until_told_in_time(self, kind: str, count: int = 1) -> list[events_pb2.Event]:
        """Wait as ``until_told`` does, while time passes for the manager, as it must for streams to be opened again."""
        await self.in_time(lambda: len(self.told(kind)) >= count)
        return self.told(kind)

    async def in_time(self, holds: Callable[[], bool]) -> None:
        """Let time pass until a condition holds, and not for ever."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds():
                await self.clock.advance(0.5)
                await asyncio.sleep(0.005)

    @asynccontextmanager
    async def running(self, settings: Settings | None = None, agents: Agents | None = None) -> AsyncIterator[Service]:
        """Serve the GPIO manager for as long as the context lasts, over boards in memory unless other agents are given."""
        identity = self.authority.identity(self.folder / "identity", "svc/gpio")
        mesh = Mesh(identity, {"events": self.bus_socket})
        surroundings = Surroundings("gpio", self.folder / "gpio", settings or Settings(), identity, mesh, self.clock)
        manners = Manners(default_validator(), SystemClock(), grace_seconds=1, limits=PLENTY)
        try:
            async with (
                wiring.build_upon(surroundings, self.nodes, agents or self.agents) as service,
                serving(service, identity, [self.socket], manners),
            ):
                yield service
                await self.close_meshes()
        finally:
            await self.close_meshes()
            await mesh.close()

    async def close_meshes(self) -> None:
        """Close every caller's channels."""
        for mesh in self.meshes.values():
            await mesh.close()
        self.meshes.clear()


def creation(name: str = "led", **fields: Any) -> v1.CreateGpioResourceRequest:
    """Return the request for an output on BCM 17 of the Pi, some fields replaced."""
    wish: dict[str, Any] = {"name": name, "node_id": PI, "pin": {"bcm": 17}, "mode": "OUTPUT"}
    return json_format.ParseDict(wish | fields, v1.CreateGpioResourceRequest())


async def until(holds: Callable[[], bool]) -> None:
    """Wait, in real time and not for ever, until a condition holds."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.005)


async def until_true(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait, in real time and not for ever, until an answer is yes."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await holds():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[World]:
    """Yield a world whose event bus runs and whose GPIO manager does not run yet."""
    authority, bus, clock = FakeAuthority(), NotedEvents(), FakeClock()
    bus_socket = f"unix:{folder}/events.sock"
    service = Service("events", (lambda server: events_pb2_grpc.add_EventServiceServicer_to_server(bus, server),))
    manners = Manners(default_validator(), SystemClock(), grace_seconds=1, limits=PLENTY)
    world = World(clock, bus, folder, authority, FakeNodes(), FakeAgents(clock), f"unix:{folder}/gpio.sock", bus_socket)
    async with serving(service, authority.identity(folder / "bus", "svc/events"), [bus_socket], manners):
        yield world
        await world.close_meshes()
