"""A small service that keeps an audit log: the methods of DiscoveryService over one table, with behaviour that each test chooses."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
from google.protobuf import empty_pb2

from picontroller.core.clock import SystemClock
from picontroller.core.events import Event
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc import metrics
from picontroller.core.rpc.auditing import Audited, audited
from picontroller.core.rpc.forwarding import ForwardedProofs
from picontroller.core.rpc.hosting import Manners, serving
from picontroller.core.rpc.limits import DEFAULT_LIMITS, LimitSettings
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.rpc.validation import default_validator
from picontroller.core.rpc.wiring import Service, Surroundings
from picontroller.core.store import audit, outbox, pages
from picontroller.core.store.sqlite import Database
from picontroller.core.tls.identity import IdentityFolder
from picontroller.v1 import audit_pb2, audit_pb2_grpc, discovery_pb2, discovery_pb2_grpc
from tests.fakes.authority import FakeAuthority
from tests.fakes.tokens import FakeTokens

SCHEMA = ("CREATE TABLE notes (text TEXT NOT NULL);" + outbox.SCHEMA + pages.SCHEMA, audit.SCHEMA)
Change = Callable[[Database, discovery_pb2.UpdateNodeRequest], Awaitable[None]]


def add(connection: apsw.Connection, text: str) -> None:
    """Write a note."""
    connection.execute("INSERT INTO notes VALUES (?)", (text,))


async def add_one(database: Database, request: discovery_pb2.UpdateNodeRequest) -> None:
    """Do what an ordinary change does."""
    await database.write(lambda connection: add(connection, request.id))


class LedgerServicer(discovery_pb2_grpc.DiscoveryServiceServicer):
    """UpdateNode does what the test says, GetNode reads."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.change: Change = add_one

    async def UpdateNode(self, request: discovery_pb2.UpdateNodeRequest, context: Any) -> discovery_pb2.Node:
        await self.change(self.database, request)
        return discovery_pb2.Node(id=request.id)

    async def GetNode(self, request: discovery_pb2.GetNodeRequest, context: Any) -> discovery_pb2.Node:
        return discovery_pb2.Node(id=request.id)

    async def UnregisterNode(self, request: Any, context: Any) -> empty_pb2.Empty:
        return empty_pb2.Empty()


def _open_calls() -> float:
    """Return how many calls of the ledger's methods are in the chain."""
    samples = (sample for metric in metrics.RPC_OPEN.collect() for sample in metric.samples)
    return sum(sample.value for sample in samples if sample.labels["method"] in ("UpdateNode", "GetNode", "UnregisterNode"))


@dataclass
class Ledger:
    """A running ledger and the means to call it as anybody."""

    servicer: LedgerServicer
    audited: Audited
    authority: FakeAuthority
    tokens: FakeTokens
    address: str
    folder: Path
    published: list[Event]
    server: IdentityFolder
    _meshes: dict[tuple[str, ...], Mesh] = field(default_factory=dict)

    @property
    def database(self) -> Database:
        """The file."""
        return self.servicer.database

    def mesh(self, path: str, *roles: str) -> Mesh:
        """Return the mesh of ``path``, with a certificate that has ``roles``."""
        key = (path, *roles)
        if key not in self._meshes:
            identity = self.authority.identity(self.folder / "callers" / str(len(self._meshes)), path, roles=roles)
            self._meshes[key] = Mesh(identity, {"discovery": self.address})
        return self._meshes[key]

    def stub(self, path: str = "user/anna", *roles: str) -> discovery_pb2_grpc.DiscoveryServiceStub:
        """Return a stub that calls as ``path``, an administrator unless roles are given."""
        return discovery_pb2_grpc.DiscoveryServiceStub(self.mesh(path, *(roles or ("cluster-admin",))).service("discovery"))

    def audit(self, path: str = "user/anna", *roles: str) -> audit_pb2_grpc.AuditServiceStub:
        """Return a stub for the audit log."""
        return audit_pb2_grpc.AuditServiceStub(self.mesh(path, *(roles or ("cluster-admin",))).service("discovery"))

    async def records(self, **search: Any) -> list[audit_pb2.AuditRecord]:
        """Return the records, oldest first, once everything that waits is written.

        A refused caller has its answer a moment before its call has left the chain.
        """
        async with asyncio.timeout(5):
            while _open_calls():
                await asyncio.sleep(0.002)
        await self.audited.trail.flush(last=True)
        stub = self.audit()
        request = audit_pb2.ListAuditRecordsRequest(oldest_first=True, page_size=1000, **search)
        return list((await rpc.unary(stub.ListAuditRecords, request)).records)

    async def verify(self, **noted: Any) -> audit_pb2.AuditChain:
        """Return what the servicer says of its chain."""
        stub = self.audit()
        answer: audit_pb2.VerifyAuditLogResponse = await rpc.unary(stub.VerifyAuditLog, audit_pb2.VerifyAuditLogRequest(**noted))
        return answer.chains[0]

    async def notes(self) -> list[str]:
        """Return what was written."""
        return await self.database.read(lambda connection: [str(text) for (text,) in connection.execute("SELECT text FROM notes")])

    async def close(self) -> None:
        """Close the callers' channels."""
        for mesh in self._meshes.values():
            await mesh.close()


@asynccontextmanager
async def ledger_service(
    folder: Path,
    limits: LimitSettings = DEFAULT_LIMITS,
    *,
    name: str = "discovery",
    tokens: FakeTokens | None = None,
    authority: FakeAuthority | None = None,
    listen: str = "",
) -> AsyncIterator[Ledger]:
    """Serve a ledger called ``name`` on a Unix socket in ``folder``, or on ``listen``; what it publishes is kept in a list."""
    tokens, time = tokens or FakeTokens(), SystemClock()
    authority = authority or FakeAuthority(jwks=tokens.jwks())
    identity = authority.identity(folder / "server", f"svc/{name}")
    published = list[Event]()

    async def publish(event: Event) -> None:
        published.append(event)

    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(await Database.open(folder / "data" / "ledger.db", SCHEMA))
        surroundings = Surroundings(name, folder, None, identity, Mesh(identity, {}), time)
        kept = await stack.enter_async_context(audited(database, surroundings, publish))
        servicer = LedgerServicer(database)
        service = Service(
            name,
            (lambda server: discovery_pb2_grpc.add_DiscoveryServiceServicer_to_server(servicer, server), kept.register),
            kept.background,
            trail=kept.trail,
        )
        manners = Manners(default_validator(), time, ForwardedProofs(lambda: identity.trust), 1, limits)
        running = await stack.enter_async_context(serving(service, identity, [listen or f"unix:{folder}/ledger.sock"], manners))
        ledger = Ledger(servicer, kept, authority, tokens, running.addresses[0], folder, published, identity)
        stack.push_async_callback(ledger.close)
        yield ledger
