"""Exports of the audit log: JSON Lines with all fields of each record, which can be verified without a control plane."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from picontroller.core.audit.chain import Entry, Record, Verification
from picontroller.core.errors import InvalidArgument
from picontroller.gateway.cli import output
from picontroller.v1 import audit_pb2


def line_of(record: audit_pb2.AuditRecord) -> str:
    """Return a record as a line of an export, without its end."""
    return json.dumps(output.as_data(record), separators=(",", ":"))


def write(target: TextIO, records: Iterable[audit_pb2.AuditRecord]) -> int:
    """Write an export and return how many records it has."""
    count = 0
    for count, record in enumerate(records, start=1):  # noqa: B007 - used after the loop
        target.write(line_of(record) + "\n")
    return count


def verified(file: Path) -> list[audit_pb2.AuditChain]:
    """Return what an export holds of each service's chain, which may begin anywhere."""
    found: dict[str, Verification] = {}
    try:
        with file.open() as lines:
            for number, text in enumerate(lines, start=1):
                record = record_from(text, f"{file}, line {number}")
                found.setdefault(record.service, Verification(record.service, whole=False)).read(record)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{file} can't be read: {error}", reason="EXPORT_UNREADABLE") from error
    for verification in found.values():
        verification.finish()
    return [
        audit_pb2.AuditChain(
            service=chain.service,
            records=chain.records,
            head_number=chain.head.number,
            head_hash=chain.head.hash,
            broken_number=chain.broken,
            problem=chain.problem,
            first_number=chain.first,
        )
        for chain in found.values()
    ]


def record_from(text: str, place: str) -> Record:
    """Return an exported line as a record. Raises InvalidArgument naming ``place`` for anything else."""
    from google.protobuf import json_format

    try:
        message = json_format.Parse(text, audit_pb2.AuditRecord())
    except json_format.ParseError as error:
        raise InvalidArgument(f"{place} is no audit record", reason="EXPORT_DAMAGED") from error
    if not message.number:
        raise InvalidArgument(f"{place} is no audit record", reason="EXPORT_DAMAGED")
    entry = Entry(
        message.time.ToMicroseconds(),
        message.principal,
        message.proof,
        message.address,
        message.method,
        message.resource,
        message.code,
        message.reason,
        message.request_id,
        message.request_digest,
    )
    return Record(message.service, message.number, entry, message.previous_hash, message.hash)
