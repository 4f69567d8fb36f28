"""A service's audit log: a table beside its data, so that a change and its record are one transaction.

Rows are only ever appended, and removed from the old end when they are very old or very many. That too leaves a record, or a beginning that
was cut off could not be told from one that was pruned.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import apsw

from picontroller.core.audit.chain import GENESIS, PRUNED, Entry, Mark, Record, Verification, sealed
from picontroller.core.clock import Clock
from picontroller.core.store import pages
from picontroller.core.store.sqlite import Database

SCHEMA = """
CREATE TABLE audit (
    number INTEGER PRIMARY KEY, time INTEGER NOT NULL, principal TEXT NOT NULL, proof TEXT NOT NULL, address TEXT NOT NULL,
    method TEXT NOT NULL, resource TEXT NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL, request_id TEXT NOT NULL,
    request_digest TEXT NOT NULL, previous_hash TEXT NOT NULL, hash TEXT NOT NULL
);
CREATE TABLE audit_checkpoint (number INTEGER NOT NULL);
INSERT INTO audit_checkpoint VALUES (0);
"""
# A busy home fleet writes some thousand records a day: more than a year of them, in about half a gigabyte.
KEPT_RECORDS = 1_000_000
KEPT_MICROSECONDS = 400 * 86400 * 1_000_000
PRUNED_AT_ONCE = 1000
PRUNED_AT_LEAST = 100  # or each record that is pruned would leave one that says so
VERIFIED_AT_ONCE = 2000
_COLUMNS = "number, time, principal, proof, address, method, resource, code, reason, request_id, request_digest, previous_hash, hash"
_INSERT = f"INSERT INTO audit ({_COLUMNS}) VALUES ({', '.join('?' * 13)})"  # noqa: S608 - constants
_SELECT = f"SELECT {_COLUMNS} FROM audit"  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class Search:
    """Which records are wanted, and in what order; what is empty or 0 lets everything through. Times are in microseconds.

    ``beyond`` is the number of the last record that its reader has.
    """

    principal: str = ""
    method: str = ""
    resource: str = ""
    code: str = ""
    start: int = 0
    end: int = 0
    oldest_first: bool = False
    beyond: int = 0

    def listing(self) -> list[object]:
        """Return what a page token of this search is bound to."""
        return ["audit", self.principal, self.method, self.resource, self.code, self.start, self.end, self.oldest_first, self.beyond]


class AuditLog:
    """Implements ``core.audit.trail.Log``. Making one has ``database`` write the record of each audited call with its change."""

    def __init__(self, database: Database, service: str, clock: Clock, principal: str) -> None:
        self._database = database
        self._service = service
        self._clock = clock
        self._principal = principal
        self.appended = 0
        database.record = self._append

    def _append(self, connection: apsw.Connection, entry: Entry) -> None:
        newest = connection.execute("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1").fetchone()
        number, previous = (int(newest[0]), str(newest[1])) if newest else (0, GENESIS)
        connection.execute(_INSERT, _row(sealed(self._service, number + 1, entry, previous)))
        self.appended += 1

    async def append(self, entries: Sequence[Entry]) -> None:
        """Chain ``entries`` in their order and return once they are on disk."""

        def work(connection: apsw.Connection) -> None:
            for entry in entries:
                self._append(connection, entry)

        await self._database.write(work)

    async def page(self, search: Search, size: int, token: str) -> tuple[list[Record], str]:
        """Return a page of records with the token of the next. Raises InvalidArgument for a token of another listing."""
        count = pages.page_size(size)

        def work(connection: apsw.Connection) -> tuple[list[Record], str]:
            last = pages.unseal(connection, search.listing(), token)
            found = self._find(connection, search, int(str(last[0])) if last else search.beyond, count + 1)
            if len(found) <= count:
                return found, ""
            return found[:count], pages.seal(connection, search.listing(), [found[count - 1].number])

        return await self._database.read(work)

    def _find(self, connection: apsw.Connection, search: Search, beyond: int, limit: int) -> list[Record]:
        order = "ASC" if search.oldest_first else "DESC"
        where, values = _condition(search, beyond)
        rows = connection.execute(f"{_SELECT} WHERE {where} ORDER BY number {order} LIMIT ?", (*values, limit))
        return [self._record(row) for row in rows]

    async def after(self, number: int, limit: int) -> list[Record]:
        """Return the records that follow ``number``, oldest first."""
        return await self._database.read(lambda connection: self._find(connection, Search(oldest_first=True), number, limit))

    async def head(self) -> Mark:
        """Return the newest record's number and hash."""
        return await self._database.read(_head)

    async def verify(self, noted: tuple[Mark, ...]) -> Verification:
        """Read the whole chain, piece by piece, and say whether it holds."""
        verification = Verification(self._service, noted)
        number = 0
        while records := await self.after(number, VERIFIED_AT_ONCE):
            for record in records:
                verification.read(record)
            number = records[-1].number
            if verification.broken:
                break
        verification.finish()
        return verification

    async def checkpoint(self) -> int:
        """Return the number of the last checkpoint."""
        return await self._database.read(lambda connection: int(connection.execute("SELECT number FROM audit_checkpoint").get))

    async def note_checkpoint(self, number: int) -> None:
        """Note that a checkpoint of ``number`` was made."""
        await self._database.write(lambda connection: connection.execute("UPDATE audit_checkpoint SET number = ?", (number,)) and None)

    async def prune(self, keep: int = KEPT_RECORDS) -> int:
        """Remove some of what is too old or too many and return how many records that was. The newest always stays."""
        oldest = int(self._clock.now().timestamp() * 1_000_000) - KEPT_MICROSECONDS

        def work(connection: apsw.Connection) -> int:
            first = connection.execute("SELECT min(number) FROM audit").get
            surplus = _head(connection).number - keep if first is not None else 0
            found = "SELECT number, hash, time FROM audit WHERE number < (SELECT max(number) FROM audit) ORDER BY number LIMIT ?"
            last, count = Mark(), 0
            for number, its_hash, time in connection.execute(found, (PRUNED_AT_ONCE,)):
                if not (number <= surplus or time < oldest):
                    break
                last, count = Mark(int(number), str(its_hash)), count + 1
            if count < PRUNED_AT_LEAST:
                return 0
            connection.execute("DELETE FROM audit WHERE number <= ?", (last.number,))
            now = int(self._clock.now().timestamp() * 1_000_000)
            self._append(connection, Entry(now, self._principal, "", "", PRUNED, str(last.number), "OK", "", "", last.hash))
            return count

        return await self._database.write(work)

    def _record(self, row: Sequence[object]) -> Record:
        number, time, *fields, previous, its_hash = map(str, row)
        return Record(self._service, int(number), Entry(int(time), *fields), previous, its_hash)


def _row(record: Record) -> tuple[int | str, ...]:
    entry = record.entry
    texts = (entry.principal, entry.proof, entry.address, entry.method, entry.resource, entry.code, entry.reason, entry.request_id)
    return (record.number, entry.time, *texts, entry.request_digest, record.previous_hash, record.hash)


def _head(connection: apsw.Connection) -> Mark:
    row = connection.execute("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1").fetchone()
    return Mark(int(row[0]), str(row[1])) if row else Mark()


def _condition(search: Search, beyond: int) -> tuple[str, tuple[int | str, ...]]:
    """Return a search as SQL with its values. A method may be named without its service."""
    text, values = "1", list[int | str]()
    if beyond:
        text, values = "number > ?" if search.oldest_first else "number < ?", [beyond]
    if search.method:
        text, values = (
            f"{text} AND (method = ? OR substr(method, ?) = ?)",
            [*values, search.method, -len(search.method) - 1, f"/{search.method}"],
        )
    for column in ("principal", "resource", "code"):
        if wanted := getattr(search, column):
            text, values = f"{text} AND {column} = ?", [*values, wanted]
    if search.start:
        text, values = f"{text} AND time >= ?", [*values, search.start]
    if search.end:
        text, values = f"{text} AND time < ?", [*values, search.end]
    return text, tuple(values)
