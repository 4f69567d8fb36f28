"""The journal on disk: one SQLite file.

``sources`` knows how far each source has been heard, in the same transaction as its events: that is what makes a repetition harmless. The
journal's epoch and key are made with the file; restoring an older file must give it new ones, or cursors point at other events.
"""

import functools
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Self

import apsw

from picontroller.core import ids
from picontroller.core.errors import FailedPrecondition
from picontroller.core.store import audit, pages
from picontroller.core.store.sqlite import Database
from picontroller.events.entries import OLDEST, Appended, Bounds, Entry, Loss, Record, Slice, Submission
from picontroller.events.filters import Filter

log = logging.getLogger(__name__)

SCHEMA = (
    """
    CREATE TABLE events (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        type TEXT NOT NULL, resource TEXT NOT NULL, node_id TEXT NOT NULL, namespace TEXT NOT NULL, cluster_id TEXT NOT NULL,
        time INTEGER NOT NULL,  -- of arrival, Unix milliseconds by this machine's clock: a source's own may stand at 1970
        event BLOB NOT NULL     -- picontroller.v1.Event without its cursor
    );
    CREATE TABLE sources (
        source TEXT NOT NULL, epoch TEXT NOT NULL,
        last_sequence INTEGER NOT NULL,  -- of the source's outbox
        position INTEGER NOT NULL,       -- of that event in this journal
        PRIMARY KEY (source, epoch)
    ) WITHOUT ROWID;
    CREATE TABLE journal (epoch TEXT NOT NULL, key BLOB NOT NULL);
    """
    + pages.SCHEMA,
    audit.SCHEMA,
)
# How many of a source's epochs are remembered; each restart of a process that publishes without an outbox adds one.
EPOCHS = 64
# How many rows one read looks at, so that a filter that chooses little does not keep a reader's thread for long.
WINDOW = 5000


class SqliteStore:
    """Implements ``Store``, ``PageTokens`` and ``Compactable``."""

    def __init__(self, database: Database, epoch: str, key: bytes) -> None:
        self.epoch = epoch
        self.key = key
        self._database = database

    @classmethod
    async def load(cls, database: Database) -> Self:
        """Return the store in a database with ``SCHEMA``; a new journal gets its epoch and key."""
        epoch, key = await database.write(_identity)
        return cls(database, epoch, key)

    async def append(self, submission: Submission, *, time: int, gapless: bool, describe_loss: Callable[[Loss], Record]) -> Appended:
        """See ``Store``."""
        return await self._database.write(lambda connection: _append(connection, submission, time, gapless, describe_loss))

    async def after(self, position: int, chosen: Filter, limit: int, largest_bytes: int) -> Slice:
        """See ``Store``."""
        return await self._database.read(lambda connection: _after(connection, position, chosen, limit, largest_bytes))

    async def bounds(self) -> Bounds:
        """See ``Store``."""
        return await self._database.read(_bounds)

    async def compact(self, *, older_than: int, rows: int, megabytes: int, limit: int) -> int:
        """See ``Compactable``."""
        return await self._database.write(lambda connection: _compact(connection, older_than, rows, megabytes, limit))

    async def seal_page(self, listing: list[object], key: str) -> str:
        """See ``PageTokens``."""
        return await self._database.read(lambda connection: pages.seal(connection, listing, [key]))

    async def open_page(self, listing: list[object], token: str) -> str:
        """See ``PageTokens``."""
        key = await self._database.read(lambda connection: pages.unseal(connection, listing, token))
        return str(key[0]) if key else ""


def _identity(connection: apsw.Connection) -> tuple[str, bytes]:
    found = connection.execute("SELECT epoch, key FROM journal").fetchone()
    if found is not None:
        return str(found[0]), bytes(found[1])
    epoch, key = ids.new_uuid(), secrets.token_bytes(16)
    connection.execute("INSERT INTO journal VALUES (?, ?)", (epoch, key))
    return epoch, key


def _bounds(connection: apsw.Connection) -> Bounds:
    last = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").get or 0
    oldest = connection.execute("SELECT min(sequence) FROM events").get
    return Bounds(int(last) if oldest is None else int(oldest) - 1, int(last))


def _append(
    connection: apsw.Connection, submission: Submission, time: int, gapless: bool, describe_loss: Callable[[Loss], Record]
) -> Appended:
    source, epoch, first = submission.source, submission.source_epoch, submission.first_sequence
    known = connection.execute("SELECT last_sequence, position FROM sources WHERE source = ? AND epoch = ?", (source, epoch)).fetchone()
    # Of an epoch that is new here, nobody can say what came before: its outbox forgot what an earlier journal had.
    last, position = known or (first - 1, 0)
    if gapless and (known is None or first > last + 1):
        raise FailedPrecondition(
            f"sequence {last + 1} of the source comes before {first}; publish it again from there",
            reason="SEQUENCE_GAP",
            metadata={"last_sequence": str(last if known else 0)},
        )
    records: list[Record] = list(submission.records[last + 1 - first :] if first <= last else submission.records)
    if not records:
        return Appended(last, position, ())
    if first > last + 1:
        # The source has forgotten what it was told is safe, so refusing would stop it for ever and bring nothing back. Readers are told.
        log.error("events of a source are missing", extra={"source": source, "epoch": epoch, "first": last + 1, "last": first - 1})
        records.insert(0, describe_loss(Loss(source, epoch, last + 1, first - 1)))
    connection.executemany(
        "INSERT INTO events (type, resource, node_id, namespace, cluster_id, time, event) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(r.type, r.resource, r.node_id, r.namespace, r.cluster_id, time, r.body) for r in records],
    )
    position = connection.last_insert_rowid()
    last = first + len(submission.records) - 1
    connection.execute("INSERT OR REPLACE INTO sources VALUES (?, ?, ?, ?)", (source, epoch, last, position))
    if known is None:
        connection.execute(
            "DELETE FROM sources WHERE source = ?1 AND epoch NOT IN"
            " (SELECT epoch FROM sources WHERE source = ?1 ORDER BY position DESC LIMIT ?2)",
            (source, EPOCHS),
        )
    begin = position - len(records) + 1
    return Appended(last, position, tuple(Entry(begin + index, record) for index, record in enumerate(records)))


def _after(connection: apsw.Connection, position: int, chosen: Filter, limit: int, largest_bytes: int) -> Slice:
    bounds = _bounds(connection)
    if position == OLDEST:
        position = bounds.compacted
    end = min(bounds.last, position + WINDOW)
    if position < bounds.compacted or position >= end:
        return Slice((), position, bounds)
    condition, values = _condition(chosen)
    rows = connection.execute(
        "SELECT sequence, type, resource, node_id, namespace, cluster_id, event FROM events"  # noqa: S608 - our own words, values bound
        f" WHERE sequence > ? AND sequence <= ?{condition} ORDER BY sequence LIMIT ?",
        (position, end, *values, limit),
    )
    entries: list[Entry] = []
    total = 0
    for sequence, *fields in rows:
        entry = Entry(sequence, Record(*fields))
        total += entry.size
        if entries and total > largest_bytes:
            return Slice(entries, entries[-1].sequence, bounds)
        entries.append(entry)
    return Slice(entries, entries[-1].sequence if len(entries) == limit else end, bounds)


@functools.lru_cache(256)
def _condition(chosen: Filter) -> tuple[str, tuple[str | int, ...]]:
    """Return a filter as SQL to be appended to a condition, with its values. Type globs have no special character but ``*``."""
    text = ""
    values: list[str | int] = []
    if chosen.types:
        text += " AND (" + " OR ".join("type GLOB ?" for _ in chosen.types) + ")"
        values.extend(chosen.types)
    columns: Sequence[tuple[str, frozenset[str]]] = (
        ("resource", chosen.resources),
        ("node_id", chosen.node_ids),
        ("namespace", chosen.namespaces),
    )
    for column, wanted in columns:
        if wanted:
            text += f" AND {column} IN ({', '.join('?' for _ in wanted)})"
            values.extend(wanted)
    for prefix in chosen.hidden:
        text += " AND substr(type, 1, ?) <> ?"
        values += [len(prefix), prefix]
    return text, tuple(values)


def _compact(connection: apsw.Connection, older_than: int, rows: int, megabytes: int, limit: int) -> int:
    bounds = _bounds(connection)
    pages_used = connection.pragma("page_count") - connection.pragma("freelist_count")
    too_large = pages_used * connection.pragma("page_size") > megabytes * 1024 * 1024
    end = bounds.compacted
    for sequence, time in connection.execute("SELECT sequence, time FROM events ORDER BY sequence LIMIT ?", (limit,)):
        if not (too_large or time < older_than or bounds.last - sequence >= rows):
            break
        end = sequence
    connection.execute("DELETE FROM events WHERE sequence <= ?", (end,))
    return int(end - bounds.compacted)
