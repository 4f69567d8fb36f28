"""``pictl audit``: tail, search, verify, export."""

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from picontroller.core.errors import InvalidArgument, Unavailable
from picontroller.core.tasks import next_pause
from picontroller.gateway.cli import output, times
from picontroller.gateway.cli.audit import exports
from picontroller.gateway.cli.output import Column, Format, View
from picontroller.gateway.cli.session import Session
from picontroller.v1 import audit_pb2, audit_pb2_grpc

PAGE = 1000
# Seen again after the connection broke: how far back a record may have come to be written.
OVERLAP_SECONDS = 60

app = typer.Typer(no_args_is_help=True, help="The audit log: who did what, and who was refused.")

Service = Annotated[str, typer.Option(help="only this service's records: identity, events, discovery, gpio")]
Since = Annotated[str, typer.Option(help="only records from then on: 2h, 1d, or 2026-05-04T12:00:00Z")]
Until = Annotated[str, typer.Option(help="only records before then")]

VIEW = View(
    "audit_records",
    (
        Column("TIME", lambda record: times.clock_time(record.time)),
        Column("PRINCIPAL", lambda record: short(record.principal), only=Format.TABLE),
        Column("PRINCIPAL", lambda record: record.principal, only=Format.WIDE),
        Column("METHOD", lambda record: record.method.rpartition("/")[2], only=Format.TABLE),
        Column("METHOD", lambda record: record.method, only=Format.WIDE),
        Column("RESOURCE", lambda record: record.resource),
        Column("CODE", lambda record: record.code),
        Column("REASON", lambda record: record.reason),
        Column("ADDRESS", lambda record: record.address),
        Column("NUMBER", lambda record: f"{record.service}/{record.number}"),
        Column("PROOF", lambda record: record.proof, only=Format.WIDE),
        Column("REQUEST", lambda record: record.request_id, only=Format.WIDE),
        Column("DIGEST", lambda record: record.request_digest, only=Format.WIDE),
    ),
    lambda record: f"{record.service}/{record.number}",
)
CHAINS = View(
    "chains",
    (
        Column("SERVICE", lambda chain: chain.service),
        Column("RECORDS", lambda chain: str(chain.records)),
        Column("FIRST", lambda chain: str(chain.first_number)),
        Column("HEAD", lambda chain: str(chain.head_number)),
        Column("CHECKPOINT", lambda chain: str(chain.checkpoint_number or "-")),
        Column("STATE", lambda chain: f"broken at {chain.broken_number}: {chain.problem}" if chain.broken_number else "holds"),
        Column("HEAD HASH", lambda chain: chain.head_hash, only=Format.WIDE),
    ),
    lambda chain: chain.service,
)


def short(principal: str) -> str:
    """Return a principal without its trust domain: ``user/anna``."""
    return principal.partition("://")[2].partition("/")[2] or principal


@app.command()
def tail(context: typer.Context, service: Service = "") -> None:
    """Print records as they come, until Ctrl-C. Goes on by itself when the connection breaks."""
    session: Session = context.obj
    stub = audit_pb2_grpc.AuditServiceStub(session.channel)
    newest = session.call(stub.ListAuditRecords, audit_pb2.ListAuditRecordsRequest(service=service, page_size=1)).records
    begin = last = newest[0].time.seconds if newest else 0
    seen: dict[str, int] = {}
    failures = 0
    while True:
        try:
            for record in _since(session, service, max(begin, last - OVERLAP_SECONDS)) if failures else ():
                _show_new(session, record, seen)
            for record in session.stream(stub.WatchAuditRecords, audit_pb2.WatchAuditRecordsRequest(service=service)):
                failures, last = 0, record.time.seconds
                _show_new(session, record, seen)
        except Unavailable as error:
            if failures == 1:
                output.note(f"the connection broke ({error.message}); going on")
        failures += 1
        time.sleep(next_pause(failures))


def _since(session: Session, service: str, seconds: int) -> Iterator[audit_pb2.AuditRecord]:
    start = Timestamp(seconds=seconds + 1)  # the second of the newest record at the beginning is not part of what is new
    return _all(session, audit_pb2.ListAuditRecordsRequest(service=service, start_time=start, oldest_first=True))


def _show_new(session: Session, record: audit_pb2.AuditRecord, seen: dict[str, int]) -> None:
    if record.number > seen.get(record.service, 0):
        seen[record.service] = record.number
        output.show_line(record, line(record), session.output)


def line(record: audit_pb2.AuditRecord) -> str:
    """Return a record as one line for people."""
    outcome = f"{record.code} {record.reason}".rstrip()
    where = f" from {record.address}" if record.address else ""
    method = record.method.rpartition(".")[2]
    text = f"{times.clock_time(record.time)}  {outcome}  {short(record.principal)}{where}  {method}  {record.resource}"
    return output.plain(text).rstrip()


@app.command()
def search(
    context: typer.Context,
    principal: Annotated[str, typer.Option(help="only this principal's: a SPIFFE id, or anonymous")] = "",
    method: Annotated[str, typer.Option(help="only this method, for example WritePins")] = "",
    resource: Annotated[str, typer.Option(help="only on this id")] = "",
    code: Annotated[str, typer.Option(help="only with this outcome, for example PERMISSION_DENIED")] = "",
    service: Service = "",
    since: Since = "",
    until: Until = "",
    limit: Annotated[int, typer.Option(min=1, help="at most so many, the newest")] = 200,
) -> None:
    """List records, newest first."""
    session: Session = context.obj
    session.refuse_watch("pictl audit tail")
    request = audit_pb2.ListAuditRecordsRequest(
        principal=principal, method=method, resource=resource, code=code.upper(), service=service, page_size=min(limit, PAGE)
    )
    _bound(request, since, until)
    found: list[audit_pb2.AuditRecord] = []
    for record in _all(session, request):
        found.append(record)
        if len(found) == limit:
            output.note(f"only the newest {limit} are shown; more with --limit")
            break
    output.show_list(VIEW, found, session.output)


@app.command()
def export(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="where to; standard output without it")] = None,
    service: Service = "",
    since: Since = "",
    until: Until = "",
) -> None:
    """Write records with all their fields as JSON Lines, oldest first. `pictl audit verify FILE` verifies what was written."""
    session: Session = context.obj
    request = audit_pb2.ListAuditRecordsRequest(service=service, oldest_first=True, page_size=PAGE)
    _bound(request, since, until)
    if file is None:
        exports.write(sys.stdout, _all(session, request))
        return
    with file.open("w") as target:
        count = exports.write(target, _all(session, request))
    output.note(f"{count} records are in {file}")


@app.command()
def verify(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="an export to verify offline, instead of the control plane's logs")] = None,
    service: Service = "",
    head: Annotated[str, typer.Option(help="NUMBER:HASH of a record, noted before, that the service's chain must have")] = "",
) -> None:
    """Verify the chains; exits with 1 and names the first record that does not fit, if any."""
    session: Session = context.obj
    chains = exports.verified(file) if file else _verified_by_server(session, service, head)
    output.show_list(CHAINS, chains, session.output)
    broken = [chain for chain in chains if chain.broken_number]
    for chain in broken:
        output.note(output.plain(f"error: {chain.service}, record {chain.broken_number}: {chain.problem}"))
    if broken:
        raise typer.Exit(1)


def _verified_by_server(session: Session, service: str, head: str) -> list[audit_pb2.AuditChain]:
    number, _, its_hash = head.partition(":")
    if head and not (number.isdigit() and its_hash):
        raise InvalidArgument(f"a head is NUMBER:HASH, not {head!r}", reason="HEAD_INVALID")
    request = audit_pb2.VerifyAuditLogRequest(service=service, noted_number=int(number or 0), noted_hash=its_hash)
    stub = audit_pb2_grpc.AuditServiceStub(session.channel)
    session.timeout = max(session.timeout, 60.0)  # every record is read
    return list(session.call(stub.VerifyAuditLog, request).chains)


def _all(session: Session, request: audit_pb2.ListAuditRecordsRequest) -> Iterator[audit_pb2.AuditRecord]:
    stub = audit_pb2_grpc.AuditServiceStub(session.channel)
    while True:
        response = session.call(stub.ListAuditRecords, request)
        yield from response.records
        if not response.next_page_token:
            return
        request.page_token = response.next_page_token


def _bound(request: audit_pb2.ListAuditRecordsRequest, since: str, until: str) -> None:
    if since:
        request.start_time.CopyFrom(moment(since))
    if until:
        request.end_time.CopyFrom(moment(until))


def moment(text: str) -> Timestamp:
    """Return ``2h`` (ago) or a time in ISO 8601, in UTC unless it says otherwise, as a moment. Raises InvalidArgument."""
    found = Timestamp()
    try:
        parsed = datetime.now(UTC) - times.duration(text) if text[-1:] in tuple("smhd") else datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise InvalidArgument(f"a moment is like 2h or 2026-05-04T12:00:00Z, not {text!r}", reason="TIME_INVALID") from None
    found.FromDatetime(parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC))
    return found
