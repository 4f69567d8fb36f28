"""Watchers that write down all they are told, and come back where they were when the connection breaks."""

import asyncio
from collections.abc import Callable, Sequence

from picontroller.core.errors import Unavailable
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.mesh import Mesh
from picontroller.v1 import events_pb2, events_pb2_grpc
from tests.chaos.guarantees import Connection, Observed, Watch


def observed(event: events_pb2.Event) -> Observed:
    return Observed(event.cursor, event.resource, event.type)


class Watcher:
    """Follows the bus from the start until it is cancelled. ``position`` is the last cursor it was told."""

    def __init__(self, name: str, mesh: Mesh, types: Sequence[str], chooses: Callable[[Observed], bool]) -> None:
        self.watch = Watch(name, chooses)
        self.position = "start"
        self.advanced = asyncio.Event()
        self._mesh = mesh
        self._types = types

    async def run(self) -> None:
        while True:
            try:
                await self.connect()
            except Unavailable:
                await asyncio.sleep(0.02)

    async def connect(self) -> None:
        """Follow over one connection until it breaks. Raises what it broke with."""
        connection = Connection(self.position)
        self.watch.connections.append(connection)
        asked = events_pb2.SubscribeRequest(after=self.position, filter=events_pb2.EventFilter(type=self._types))
        stub = events_pb2_grpc.EventServiceStub(self._mesh.service("events"))
        async for response in rpc.stream(stub.Subscribe, asked):
            connection.responses.append(([observed(event) for event in response.events], response.cursor))
            self.position = response.cursor
            self.advanced.set()

    async def reached(self, cursor: str, seconds: float) -> None:
        """Wait until the watcher has been told ``cursor``."""
        async with asyncio.timeout(seconds):
            while self.position != cursor:
                self.advanced.clear()
                await self.advanced.wait()


async def whole_journal(mesh: Mesh) -> list[Observed]:
    """Return everything that the bus has."""
    stub, found, token = events_pb2_grpc.EventServiceStub(mesh.service("events")), [], ""
    for _ in range(10_000):
        asked = events_pb2.ListEventsRequest(page_size=1000, page_token=token)
        page = await rpc.unary(stub.ListEvents, asked, seconds=10)
        found += [observed(event) for event in page.events]
        token = page.next_page_token
        if not token:
            return found
    raise AssertionError("the journal has no end")
