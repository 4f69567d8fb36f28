# ruff: noqa: N802 - methods are named as in the proto
"""The AuditService that every service with a database serves, and the audit log's upkeep.

``audited`` is all that a service's wiring needs. Leave it before the database closes and after the server has stopped: what waits in memory
is written on the way out.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from google.protobuf import timestamp_pb2

from picontroller.core.audit.chain import Mark, Record, Verification
from picontroller.core.audit.trail import Trail
from picontroller.core.callers import SpiffeId
from picontroller.core.clock import Clock
from picontroller.core.errors import Error, InvalidArgument, Violation
from picontroller.core.events import Event
from picontroller.core.rpc.server import Register
from picontroller.core.rpc.wiring import Surroundings
from picontroller.core.store import outbox
from picontroller.core.store.audit import PRUNED_AT_ONCE, AuditLog, Search
from picontroller.core.store.sqlite import Database
from picontroller.v1 import audit_pb2, audit_pb2_grpc

log = logging.getLogger(__name__)

CHECKPOINT_RECORDS = 1000
CHECKPOINT_SECONDS = 300.0
LOOK_SECONDS = 10.0
WATCHED_AT_ONCE = 500
WATCH_SECONDS = 1.0


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """Serves one service's log. A request for another service's gets nothing, as a search does that finds nothing."""

    def __init__(self, audit_log: AuditLog, service: str, changed: "News") -> None:
        self._log = audit_log
        self._service = service
        self._changed = changed

    async def ListAuditRecords(self, request: audit_pb2.ListAuditRecordsRequest, context: Any) -> audit_pb2.ListAuditRecordsResponse:
        """Answer a page of records."""
        if request.service not in ("", self._service):
            return audit_pb2.ListAuditRecordsResponse()
        records, more = await self._log.page(search_from(request), request.page_size, request.page_token)
        return audit_pb2.ListAuditRecordsResponse(records=map(record_to, records), next_page_token=more)

    async def WatchAuditRecords(self, request: audit_pb2.WatchAuditRecordsRequest, context: Any) -> AsyncIterator[audit_pb2.AuditRecord]:
        """Answer records as they are written."""
        number = request.after_number or (await self._log.head()).number
        await context.send_initial_metadata(())  # from here on nothing is missed, and the caller may know
        while request.service in ("", self._service):
            seen = self._changed.count
            for record in await self._log.after(number, WATCHED_AT_ONCE):
                number = record.number
                yield record_to(record)
            await self._changed.beyond(seen, WATCH_SECONDS)

    async def VerifyAuditLog(self, request: audit_pb2.VerifyAuditLogRequest, context: Any) -> audit_pb2.VerifyAuditLogResponse:
        """Answer whether the chain holds."""
        if request.service not in ("", self._service):
            return audit_pb2.VerifyAuditLogResponse()
        found = await self._log.verify((Mark(request.noted_number, request.noted_hash),))
        return audit_pb2.VerifyAuditLogResponse(chains=[chain_to(found)])


class News:
    """Tells watchers that a database has changed: each waits beyond the count it saw."""

    def __init__(self) -> None:
        self.count = 0
        self._stirred = asyncio.Event()

    def stir(self) -> None:
        """Count a change and wake all who wait."""
        self.count += 1
        stirred, self._stirred = self._stirred, asyncio.Event()
        stirred.set()

    async def beyond(self, count: int, seconds: float) -> None:
        """Return once there were more changes than ``count``, or after ``seconds``: a look now and then forgives a missed notice."""
        if self.count == count:
            try:
                async with asyncio.timeout(seconds):
                    await self._stirred.wait()
            except TimeoutError:
                pass


class Upkeep:
    """Prunes the log, and tells the event bus now and then how far it is: there a cut end shows."""

    def __init__(self, audit_log: AuditLog, service: str, clock: Clock, news: News, publish: Callable[[Event], Awaitable[None]]) -> None:
        self._log = audit_log
        self._service = service
        self._clock = clock
        self._news = news
        self._publish = publish

    async def run(self) -> None:
        """Look after the log, for ever: after a thousand records, or five minutes after the last time."""
        while True:
            appended, began = self._log.appended, self._clock.monotonic()
            while self._log.appended - appended < CHECKPOINT_RECORDS and self._clock.monotonic() - began < CHECKPOINT_SECONDS:
                await self._news.beyond(self._news.count, LOOK_SECONDS)
            await self.checkpoint()
            while await self._log.prune() >= PRUNED_AT_ONCE:
                pass

    async def checkpoint(self) -> None:
        """Tell how far the log is, unless that was told."""
        head = await self._log.head()
        if head.number > await self._log.checkpoint():
            data = {"service": self._service, "number": str(head.number), "hash": head.hash}
            await self._publish(Event("audit.checkpoint", self._clock.now(), resource=self._service, data=data))
            await self._log.note_checkpoint(head.number)


@dataclass(frozen=True)
class Audited:
    """What a service adds to itself: a servicer, background work, and the trail for its server."""

    register: Register
    background: Mapping[str, Callable[[], Awaitable[None]]]
    trail: Trail
    upkeep: Upkeep


@asynccontextmanager
async def audited(
    database: Database, surroundings: Surroundings, publish: Callable[[Event], Awaitable[None]] | None = None
) -> AsyncIterator[Audited]:
    """Have ``database`` keep the audit log of its service; its schema holds ``store.audit.SCHEMA``.

    ``publish`` takes checkpoints to the event bus; without it they go through the database's outbox.
    """
    principal = str(SpiffeId(surroundings.identity.trust.trust_domain, "svc", surroundings.name))
    audit_log = AuditLog(database, surroundings.name, surroundings.clock, principal)
    trail, news = Trail(audit_log, surroundings.clock, principal), News()
    database.on_commit(news.stir)

    async def emit(event: Event) -> None:
        await database.write(lambda connection: outbox.emit(connection, event))

    upkeep = Upkeep(audit_log, surroundings.name, surroundings.clock, news, publish or emit)
    servicer = AuditServicer(audit_log, surroundings.name, news)
    try:
        yield Audited(
            lambda server: audit_pb2_grpc.add_AuditServiceServicer_to_server(servicer, server),
            {"audit": trail.run, "audit upkeep": upkeep.run},
            trail,
            upkeep,
        )
    finally:
        try:
            await trail.flush(last=True)
        except Error as error:
            log.error("audit records were lost at the end", extra={"reason": error.reason, "error": error.message})


def search_from(request: audit_pb2.ListAuditRecordsRequest) -> Search:
    """Return what a request looks for. Raises InvalidArgument for a time that is none."""
    return Search(
        request.principal,
        request.method,
        request.resource,
        request.code,
        _micros("start_time", request.start_time),
        _micros("end_time", request.end_time),
        request.oldest_first,
        request.beyond_number,
    )


def _micros(field: str, time: timestamp_pb2.Timestamp) -> int:
    try:
        return time.ToMicroseconds()
    except ValueError:
        fault = Violation(field, "must lie in the years 1 to 9999")
        raise InvalidArgument(f"{field} is no time", violations=[fault]) from None


def record_to(record: Record) -> audit_pb2.AuditRecord:
    """Return a record as a message."""
    entry, time = record.entry, timestamp_pb2.Timestamp()
    time.FromMicroseconds(entry.time)
    return audit_pb2.AuditRecord(
        service=record.service,
        number=record.number,
        time=time,
        principal=entry.principal,
        proof=entry.proof,
        address=entry.address,
        method=entry.method,
        resource=entry.resource,
        code=entry.code,
        reason=entry.reason,
        request_id=entry.request_id,
        request_digest=entry.request_digest,
        previous_hash=record.previous_hash,
        hash=record.hash,
    )


def chain_to(found: Verification) -> audit_pb2.AuditChain:
    """Return what a verification found as a message."""
    return audit_pb2.AuditChain(
        service=found.service,
        records=found.records,
        head_number=found.head.number,
        head_hash=found.head.hash,
        broken_number=found.broken,
        problem=found.problem,
        first_number=found.first,
    )
