# ruff: noqa: N802 - methods are named as in the proto
"""One audit log of all services: theirs, asked under the caller's own proof and merged by time.

A log with a part missing must never look like a whole one: when a service does not answer, the answer is UNAVAILABLE and names it.
"""

import asyncio
import heapq
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any

from picontroller.core.clock import Clock
from picontroller.core.errors import Error, InvalidArgument, Unavailable, Violation
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.rpc.server import Register
from picontroller.core.tasks import cancel_and_wait, next_pause
from picontroller.gateway.bridge.positions import Positions
from picontroller.v1 import audit_pb2, audit_pb2_grpc, events_pb2, events_pb2_grpc

log = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0
VERIFY_SECONDS = 55.0  # a million records take some ten seconds to read; unary calls end after sixty
DEFAULT_SIZE = 100
LARGEST_SIZE = 1000
CHECKPOINT = "audit.checkpoint"
WAITING_RECORDS = 500
# What carries the caller's proof and address. Nothing else of a request goes further.
CARRIED = ("authorization", "x-forwarded-client-cert", "x-client-address")

Record = audit_pb2.AuditRecord


class MergingAuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """Serves the audit logs of ``services`` as one. ``mesh`` is that of ``/gateway``, which carries other people's calls."""

    def __init__(self, mesh: Mesh, services: Sequence[str], clock: Clock) -> None:
        self._mesh = mesh
        self._clock = clock
        self._services = tuple(sorted(services))
        self._positions = Positions()

    async def ListAuditRecords(self, request: audit_pb2.ListAuditRecordsRequest, context: Any) -> audit_pb2.ListAuditRecordsResponse:
        """Answer a page of all services' records."""
        chosen = self._chosen(request.service, "beyond_number", request.beyond_number)
        positions = self._positions.opened(request, chosen)
        return await self._merged(request, positions, carried(context))

    async def WatchAuditRecords(self, request: audit_pb2.WatchAuditRecordsRequest, context: Any) -> AsyncIterator[Record]:
        """Answer all services' records as they are written."""
        chosen, proof = self._chosen(request.service, "after_number", request.after_number), carried(context)
        async with aclosing(_together({name: self._watched(name, request.after_number, proof) for name in chosen})) as records:
            async for record in records:
                yield record

    async def VerifyAuditLog(self, request: audit_pb2.VerifyAuditLogRequest, context: Any) -> audit_pb2.VerifyAuditLogResponse:
        """Answer whether all services' chains hold, and whether they agree with the checkpoints on the event bus."""
        chosen = self._chosen(request.service, "noted_number", request.noted_number)
        proof = carried(context)
        known = await self._checkpoints(proof)
        chains = await _all({name: self._verified(name, request, known.get(name), proof) for name in chosen})
        return audit_pb2.VerifyAuditLogResponse(chains=[chain for name in chosen for chain in chains[name]])

    def _chosen(self, service: str, field: str = "", number: int = 0) -> tuple[str, ...]:
        if number and not service:
            fault = Violation(field, "belongs to one service's log; name that in `service`")
            raise InvalidArgument(f"{field} needs service", violations=[fault])
        if service and service not in self._services:
            fault = Violation("service", f"is one of {', '.join(self._services)}")
            raise InvalidArgument(f"there is no audit log of {service}", reason="SERVICE_UNKNOWN", violations=[fault])
        return (service,) if service else self._services

    def _stub(self, name: str) -> Any:
        return audit_pb2_grpc.AuditServiceStub(self._mesh.service(name))

    async def _merged(
        self, request: audit_pb2.ListAuditRecordsRequest, positions: Mapping[str, int], proof: Mapping[str, str]
    ) -> audit_pb2.ListAuditRecordsResponse:
        size = min(request.page_size or DEFAULT_SIZE, LARGEST_SIZE)
        answers = await _all({name: self._listed(name, request, size, number, proof) for name, number in positions.items()})
        pages = [[(_rank(record, oldest_first=request.oldest_first), record) for record in answers[name].records] for name in positions]
        merged = [record for _, record in heapq.merge(*pages, key=lambda pair: pair[0])]
        shown = merged[:size]
        response = audit_pb2.ListAuditRecordsResponse(records=shown)
        if len(merged) > size or any(answer.next_page_token for answer in answers.values()):
            reached = {**positions, **{record.service: record.number for record in shown}}
            response.next_page_token = self._positions.sealed(request, reached)
        return response

    async def _listed(
        self, name: str, request: audit_pb2.ListAuditRecordsRequest, size: int, beyond: int, proof: Mapping[str, str]
    ) -> audit_pb2.ListAuditRecordsResponse:
        asked = audit_pb2.ListAuditRecordsRequest()
        asked.CopyFrom(request)
        asked.page_size, asked.page_token, asked.service, asked.beyond_number = size, "", name, beyond
        stub = self._stub(name)
        answer: audit_pb2.ListAuditRecordsResponse = await rpc.unary(stub.ListAuditRecords, asked, seconds=ANSWER_SECONDS, metadata=proof)
        return answer

    async def _verified(
        self, name: str, request: audit_pb2.VerifyAuditLogRequest, known: tuple[int, str] | None, proof: Mapping[str, str]
    ) -> list[audit_pb2.AuditChain]:
        stub = self._stub(name)
        marks = [(request.noted_number, request.noted_hash)] if request.noted_number else []
        chains: list[audit_pb2.AuditChain] = []
        for number, its_hash in [known or (0, ""), *marks]:
            asked = audit_pb2.VerifyAuditLogRequest(service=name, noted_number=number, noted_hash=its_hash)
            answer = await rpc.unary(stub.VerifyAuditLog, asked, seconds=VERIFY_SECONDS, metadata=proof)
            chains = list(answer.chains)
            for chain in chains:
                chain.checkpoint_number = known[0] if known else 0
            if any(chain.broken_number for chain in chains):
                break
        return chains

    async def _checkpoints(self, proof: Mapping[str, str]) -> dict[str, tuple[int, str]]:
        """Return the newest checkpoint that the event bus has of each service: number and hash."""
        stub = events_pb2_grpc.EventServiceStub(self._mesh.service("events"))
        request = events_pb2.ListEventsRequest(filter=events_pb2.EventFilter(type=[CHECKPOINT]), page_size=LARGEST_SIZE)
        found: dict[str, tuple[int, str]] = {}
        while True:
            try:
                page = await rpc.unary(stub.ListEvents, request, seconds=ANSWER_SECONDS, metadata=proof)
            except Unavailable as error:
                raise _away("events", error) from None
            for event in page.events:
                if event.data["number"].isdigit():
                    found[event.data["service"]] = (int(event.data["number"]), event.data["hash"])
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def _watched(self, name: str, number: int, proof: Mapping[str, str]) -> AsyncGenerator[Record, None]:
        """Yield a service's records after ``number``, or from now on. Connections end now and then: it goes on while it is answered."""
        stub, newest = self._stub(name), audit_pb2.ListAuditRecordsRequest(page_size=1)
        while True:
            answer = await self._listed(name, newest, 1, 0, proof)  # raises Unavailable when the service is away
            number = number or max((record.number for record in answer.records), default=0)
            asked = audit_pb2.WatchAuditRecordsRequest(service=name, after_number=number)
            try:
                async with aclosing(rpc.stream(stub.WatchAuditRecords, asked, metadata=proof)) as records:
                    async for record in records:
                        number = record.number
                        yield record
            except Unavailable as error:
                log.info("a watch of the audit log broke off", extra={"service": name, "reason": error.reason})
            await self._clock.sleep(next_pause(1))


def register(mesh: Mesh, services: Sequence[str], clock: Clock) -> Register:
    """Return what adds the merged log of ``services`` to a server."""
    servicer = MergingAuditServicer(mesh, services, clock)
    return lambda server: audit_pb2_grpc.add_AuditServiceServicer_to_server(servicer, server)


def carried(context: Any) -> dict[str, str]:
    """Return the metadata by which a service knows on whose behalf it is asked."""
    return {key: value for key, value in context.invocation_metadata() or () if key in CARRIED and isinstance(value, str)}


def _rank(record: Record, *, oldest_first: bool) -> tuple[int, str, int]:
    time = record.time.ToMicroseconds()
    return (time, record.service, record.number) if oldest_first else (-time, record.service, -record.number)


def _away(name: str, error: Error) -> Unavailable:
    text = f"{name} does not answer, and without its records the audit log would not be whole: {error.message}"
    return Unavailable(text, reason="AUDIT_INCOMPLETE", metadata={"service": name})


async def _all(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return every service's answer, or raise the error of one; Unavailable names the service that is away."""
    outcomes = await asyncio.gather(*asked.values(), return_exceptions=True)
    answers = dict(zip(asked, outcomes, strict=True))
    for name, outcome in answers.items():
        if isinstance(outcome, Unavailable):
            raise _away(name, outcome)
        if isinstance(outcome, BaseException):
            raise outcome
    return answers


async def _together(streams: Mapping[str, AsyncGenerator[Record, None]]) -> AsyncGenerator[Record, None]:
    """Yield what comes from any of ``streams``; raises the error of the first that fails."""
    waiting: asyncio.Queue[Record | Error] = asyncio.Queue(WAITING_RECORDS)

    async def take(name: str, stream: AsyncGenerator[Record, None]) -> None:
        try:
            async with aclosing(stream):
                async for record in stream:
                    await waiting.put(record)
        except Unavailable as error:
            await waiting.put(_away(name, error))
        except Error as error:
            await waiting.put(error)

    async with AsyncExitStack() as stack:
        for name, stream in streams.items():
            task = asyncio.get_running_loop().create_task(take(name, stream), name=f"gateway: audit of {name}")
            stack.push_async_callback(cancel_and_wait, task)
        while True:
            found = await waiting.get()
            if isinstance(found, Error):
                raise found
            yield found
