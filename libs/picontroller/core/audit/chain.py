"""The chain of audit records: each carries the hash of the one before, so that a change, a gap or a swap shows.

What is hashed must never change its form, or every log that exists stops to verify: the name of the form stands first in it, and each field
is preceded by its length, so that no two records have the same form.
"""

import hashlib
from dataclasses import dataclass

FORM = "picontroller audit record 1"
GENESIS = "0" * 64
# A record of this method says that those up to its `resource` were removed for their age or number; its digest is the hash of the last.
PRUNED = "audit.pruned"
# A record of this method says how many entries (its `resource`) were not written since the last of its kind: those that are like one which
# stands for them, those of strangers beyond their share, and those that came faster than they could be written.
DROPPED = "audit.dropped"


@dataclass(frozen=True, slots=True)
class Entry:
    """What happened, before it has a place in a chain. ``time`` is in microseconds since 1970; see ``audit.proto`` for the others."""

    time: int
    principal: str
    proof: str
    address: str
    method: str
    resource: str
    code: str
    reason: str
    request_id: str
    request_digest: str


@dataclass(frozen=True, slots=True)
class Record:
    """An entry at its place. Numbers begin with 1 and rise by one; hashes are SHA-256 in hexadecimal."""

    service: str
    number: int
    entry: Entry
    previous_hash: str
    hash: str


def hash_of(service: str, number: int, entry: Entry, previous_hash: str) -> str:
    """Return the hash that a record with these contents must carry."""
    raws = [
        text.encode("utf-8", "surrogatepass")
        for text in (
            FORM,
            service,
            str(number),
            str(entry.time),
            entry.principal,
            entry.proof,
            entry.address,
            entry.method,
            entry.resource,
            entry.code,
            entry.reason,
            entry.request_id,
            entry.request_digest,
            previous_hash,
        )
    ]
    return hashlib.sha256(b"".join([len(raw).to_bytes(8, "big") + raw for raw in raws])).hexdigest()


def sealed(service: str, number: int, entry: Entry, previous_hash: str) -> Record:
    """Return ``entry`` as the record that follows the one with ``previous_hash``."""
    return Record(service, number, entry, previous_hash, hash_of(service, number, entry, previous_hash))


@dataclass(frozen=True, slots=True)
class Mark:
    """A number with its hash: a head, or a checkpoint that was noted elsewhere. Number 0 means none."""

    number: int = 0
    hash: str = ""


class Verification:
    """Reads a chain from its oldest record to its newest and stops to believe at the first that does not fit.

    ``noted`` marks stand elsewhere: they show what the chain alone can't, that its end was cut off or that all of it was written anew.
    ``whole`` chains begin with record 1, or with the one after the last that a record of the chain says was pruned; a part of a chain, such
    as an export of the last two hours, may begin anywhere.
    """

    def __init__(self, service: str, noted: tuple[Mark, ...] = (), *, whole: bool = True) -> None:
        self.service = service
        self.records = 0
        self.first = 0
        self.head = Mark()
        self.broken = 0
        self.problem = ""
        self._noted = {mark.number: mark.hash for mark in noted if mark.number}
        self._whole = whole
        self._pruned = Mark(0, GENESIS)
        self._front = GENESIS

    def read(self, record: Record) -> None:
        """Take the next record. Nothing more is taken once one did not fit."""
        if self.broken:
            return
        expected = self.head.number + 1 if self.records else record.number
        problem = self._fault(record, expected)
        if problem:
            self._break(min(expected, record.number) if record.number else expected, problem)
            return
        if not self.records:
            self.first, self._front = record.number, record.previous_hash
        self.records += 1
        self.head = Mark(record.number, record.hash)
        if record.entry.method == PRUNED and record.entry.resource.isdigit():
            self._pruned = Mark(int(record.entry.resource), record.entry.request_digest)

    def finish(self) -> None:
        """Say what only the whole shows: a missing beginning or end. To be called once, after the last record."""
        if self.broken:
            return
        missing = max(self._noted, default=0)
        if missing > self.head.number:
            text = f"record {missing} was noted elsewhere, and the log ends with {self.head.number}: its end was cut off"
            self._break(self.head.number + 1, text)
        elif self._whole and self.records and self._pruned != Mark(self.first - 1, self._front):
            self._break(self.first, f"the log begins with record {self.first}, and nothing says that those before it were pruned")

    def _fault(self, record: Record, expected: int) -> str:
        if record.service != self.service:
            return f"record {record.number} belongs to {record.service!r}"
        if record.number != expected or record.number < 1:
            return f"record {record.number} stands where {expected} belongs"
        if record.hash != hash_of(record.service, record.number, record.entry, record.previous_hash):
            return f"record {record.number} was changed: its hash is not that of its contents"
        if self.records and record.previous_hash != self.head.hash:
            return f"record {record.number} does not follow the record before it: one of them was replaced"
        if self._noted.get(record.number, record.hash) != record.hash:
            return f"record {record.number} is not the one that was noted elsewhere: the log was written anew"
        return ""

    def _break(self, number: int, problem: str) -> None:
        self.broken, self.problem = number, problem
