"""Resources on disk, the epochs that fence their lines, and how far each agent's events have been taken.

Every change stands in one transaction with its event and with the answer that a repeated request gets. A line has one row at most in all
stages: the unique index on (node, line) is what decides between two who want it at the same moment.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import apsw

from picontroller.core.errors import AlreadyExists
from picontroller.core.events import Event
from picontroller.core.store import audit, outbox, pages, requests
from picontroller.core.store.requests import RequestKey
from picontroller.core.store.sqlite import Database
from picontroller.gpio import rows
from picontroller.gpio.boards import Position
from picontroller.gpio.controlling import Pending
from picontroller.gpio.following import Sighting
from picontroller.gpio.resources import Epoch, Observation, Resource, Stage

SCHEMA = (
    outbox.SCHEMA
    + pages.SCHEMA
    + requests.SCHEMA
    + """
CREATE TABLE gpio_resources (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, namespace TEXT NOT NULL, node_id TEXT NOT NULL, line INTEGER NOT NULL, stage TEXT NOT NULL,
    pin_kind TEXT NOT NULL, pin_text TEXT NOT NULL, header INTEGER NOT NULL, chip TEXT NOT NULL, chip_line INTEGER NOT NULL,
    kernel_name TEXT NOT NULL, mode INTEGER NOT NULL, value INTEGER, safe INTEGER, restore INTEGER NOT NULL, bias INTEGER, drive INTEGER,
    active_low INTEGER NOT NULL, edge INTEGER, debounce INTEGER NOT NULL, epoch_term INTEGER NOT NULL, epoch_counter INTEGER NOT NULL,
    etag TEXT NOT NULL, create_time INTEGER NOT NULL, observed_level INTEGER, observed_time INTEGER, run_id TEXT NOT NULL,
    applied INTEGER NOT NULL, UNIQUE (namespace, name), UNIQUE (node_id, line)
) STRICT, WITHOUT ROWID;
CREATE TABLE epoch (term INTEGER NOT NULL, counter INTEGER NOT NULL) STRICT;
INSERT INTO epoch VALUES (0, 0);
CREATE TABLE positions (node_id TEXT PRIMARY KEY, run_id TEXT NOT NULL, sequence INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE releases (
    node_id TEXT NOT NULL, line INTEGER NOT NULL, epoch_term INTEGER NOT NULL, epoch_counter INTEGER NOT NULL, PRIMARY KEY (node_id, line)
) STRICT, WITHOUT ROWID;
"""
)
# An observation that is older than the one we have comes late and is passed over, unless the node's clock was set back by more than this.
CLOCK_SET_BACK_MICROSECONDS = 10_000_000


class ResourceStore:
    """All that the GPIO manager keeps. Call ``begin`` before anything else."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    async def open(cls, folder: Path) -> "ResourceStore":
        """Open the manager's file in ``folder``; see ``Database.open`` for the errors."""
        return cls(await Database.open(folder / "gpio.db", [SCHEMA, audit.SCHEMA]))

    @property
    def database(self) -> Database:
        """The file, for the outbox that stands in it."""
        return self._database

    async def begin(self) -> None:
        """Begin a new term. What was being created when the manager ended was promised to nobody: it is taken back."""

        def work(connection: apsw.Connection) -> None:
            connection.execute("UPDATE epoch SET term = term + 1")
            for resource in _select(connection, "WHERE stage = ?", (Stage.CREATING.value,)):
                _release_later(connection, resource)
                connection.execute("DELETE FROM gpio_resources WHERE id = ?", (resource.id,))

        await self._database.write(work)

    async def some(self, ids: Iterable[str]) -> dict[str, Resource]:
        """Return those of ``ids`` that are READY, by id."""
        wanted = list(ids)
        marks = ", ".join("?" * len(wanted))
        found = await self._database.read(lambda c: _select(c, f"WHERE id IN ({marks}) AND stage = 'ready'", wanted))
        return {resource.id: resource for resource in found}

    async def on_node(self, node_id: str) -> list[Resource]:
        """Return a node's resources in all stages, by line."""
        return await self._database.read(lambda c: _select(c, "WHERE node_id = ? ORDER BY line", (node_id,)))

    async def page(self, size: int, token: str, node_id: str, namespace: str) -> tuple[list[Resource], str]:
        """Return a page of READY resources by id with the token of the next. Empty filters let everything through."""
        listing = ("gpio_resources", node_id, namespace)
        count = pages.page_size(size)

        def work(connection: apsw.Connection) -> tuple[list[Resource], str]:
            after = pages.unseal(connection, listing, token)
            where = "WHERE stage = 'ready' AND id > ? AND ? IN ('', node_id) AND ? IN ('', namespace) ORDER BY id LIMIT ?"
            found = _select(connection, where, (str(after[0]) if after else "", node_id, namespace, count + 1))
            if len(found) <= count:
                return found, ""
            return found[:count], pages.seal(connection, listing, [found[count - 1].id])

        return await self._database.read(work)

    async def nodes_in_use(self) -> set[str]:
        """Return the nodes that have resources, or lines that are still to be released."""
        statement = "SELECT node_id FROM gpio_resources UNION SELECT node_id FROM releases"
        return await self._database.read(lambda c: {str(node_id) for (node_id,) in c.execute(statement)})

    async def recalled(self, key: RequestKey) -> str | None:
        """Return the answer to an earlier request with this key. Raises Conflict when its id was used for another one."""
        if not key.request_id:  # there is nothing to look for, and asking a reader's thread costs as much as a read
            return None
        return await self._database.read(lambda c: requests.recall(c, key))

    async def reserve(self, resource: Resource) -> Resource:
        """Reserve name and line for ``resource`` and return it with its epoch. Raises AlreadyExists (NAME_TAKEN, PIN_TAKEN)."""

        def work(connection: apsw.Connection) -> Resource:
            for owner in _select(connection, "WHERE namespace = ? AND name = ?", (resource.namespace, resource.name)):
                raise AlreadyExists(f"there is a resource {owner.full_name} already", reason="NAME_TAKEN", metadata={"id": owner.id})
            for owner in _select(connection, "WHERE node_id = ? AND line = ?", (resource.node_id, resource.resolved.bcm)):
                raise AlreadyExists(
                    f"line GPIO{owner.resolved.bcm} of node {owner.node_id} belongs to {owner.full_name}",
                    reason="PIN_TAKEN",
                    metadata={"id": owner.id, "name": owner.name, "namespace": owner.namespace},
                )
            connection.execute("DELETE FROM releases WHERE node_id = ? AND line = ?", (resource.node_id, resource.resolved.bcm))
            fenced = dataclasses.replace(resource, epoch=_next_epoch(connection))
            row = rows.row_of(fenced)
            connection.execute(f"INSERT INTO gpio_resources ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))  # noqa: S608 - names from code
            return fenced

        return await self._database.write(work, prepares=True)

    async def abandon(self, resource: Resource, *, release: bool) -> None:
        """Take a reservation back; with ``release`` the line is released when its node can be reached."""

        def work(connection: apsw.Connection) -> None:
            connection.execute("DELETE FROM gpio_resources WHERE id = ?", (resource.id,))
            if release:
                _release_later(connection, resource)

        await self._database.write(work, prepares=True)

    async def keep(
        self, resource: Resource, event: Event | None, key: RequestKey, *, moved: bool, position: Position | None = None
    ) -> None:
        """Write a resource as it is, with its event and its answer.

        ``moved`` says that its line was configured or written, so that ``run_id`` and ``applied`` count too. ``position`` begins its node's
        stream anew.
        """
        kept_aside = ("observed_level", "observed_time") if moved else ("observed_level", "observed_time", "run_id", "applied")

        def work(connection: apsw.Connection) -> None:
            row = rows.row_of(resource)
            columns = [name for name in row if name not in kept_aside]
            connection.execute(
                f"UPDATE gpio_resources SET {', '.join(f'{name} = ?' for name in columns)} WHERE id = ?",  # noqa: S608 - names from code
                (*(row[name] for name in columns), resource.id),
            )
            _observe(connection, resource.id, resource.observed)
            if position is not None:
                values = (resource.node_id, position.run_id, position.sequence)
                connection.execute("INSERT OR REPLACE INTO positions VALUES (?, ?, ?)", values)
            if event is not None:
                outbox.emit(connection, event)
            requests.remember(connection, key, rows.resource_to_json(resource))

        await self._database.write(work)

    async def delete(self, resource: Resource, event: Event, *, release: bool) -> None:
        """Forget a resource; with ``release`` its line is released when its node can be reached."""

        def work(connection: apsw.Connection) -> None:
            connection.execute("DELETE FROM gpio_resources WHERE id = ?", (resource.id,))
            if release:
                _release_later(connection, resource)
            outbox.emit(connection, event)

        await self._database.write(work)

    async def wrote(self, written: Sequence[Resource], key: RequestKey, reply: str) -> None:
        """Note wanted and seen levels after writes, with the answer to the request."""

        def work(connection: apsw.Connection) -> None:
            for resource in written:
                value = resource.value.value if resource.value else None
                statement = "UPDATE gpio_resources SET value = ?, etag = ?, applied = 1 WHERE id = ?"
                connection.execute(statement, (value, resource.etag, resource.id))
                _observe(connection, resource.id, resource.observed)
            requests.remember(connection, key, reply)

        await self._database.write(work)

    async def next_epoch(self) -> Epoch:
        """Return an epoch that is higher than all before."""
        return await self._database.write(_next_epoch, prepares=True)

    async def position(self, node_id: str) -> Position | None:
        """Return how far a node's events have been taken, None when none ever were."""

        def work(connection: apsw.Connection) -> Position | None:
            row = connection.execute("SELECT run_id, sequence FROM positions WHERE node_id = ?", (node_id,)).fetchone()
            return Position(str(row[0]), int(row[1])) if row else None

        return await self._database.read(work)

    async def take(self, node_id: str, position: Position, sightings: Sequence[Sighting], events: Sequence[Event]) -> None:
        """Note what was seen up to ``position``, with its events, once."""

        def work(connection: apsw.Connection) -> None:
            for seen in sightings:
                _observe(connection, seen.id, seen.observed)
                if seen.applied is not None:
                    connection.execute("UPDATE gpio_resources SET applied = ? WHERE id = ?", (int(seen.applied), seen.id))
            for event in events:
                outbox.emit(connection, event)
            connection.execute("INSERT OR REPLACE INTO positions VALUES (?, ?, ?)", (node_id, position.run_id, position.sequence))

        await self._database.write(work)

    async def pending(self, node_id: str) -> list[Pending]:
        """Return the lines of a node that are still to be released."""
        statement = "SELECT line, epoch_term, epoch_counter FROM releases WHERE node_id = ? ORDER BY line"

        def work(connection: apsw.Connection) -> list[Pending]:
            return [Pending(int(r[0]), Epoch(int(r[1]), int(r[2]))) for r in connection.execute(statement, (node_id,))]

        return await self._database.read(work)

    async def released(self, node_id: str, done: Pending) -> None:
        """Forget that a line was still to be released under that epoch."""
        statement = "DELETE FROM releases WHERE node_id = ? AND line = ? AND epoch_term = ? AND epoch_counter = ?"
        values = (node_id, done.bcm, done.epoch.term, done.epoch.counter)
        await self._database.write(lambda c: c.execute(statement, values) and None)


def _select(connection: apsw.Connection, where: str, values: Sequence[str | int]) -> list[Resource]:
    cursor = connection.execute(f"SELECT * FROM gpio_resources {where}", tuple(values))  # noqa: S608 - clauses from code
    found: list[Resource] = []
    names: list[str] = []
    for row in cursor:
        names = names or [column[0] for column in cursor.description]
        cells: Mapping[str, rows.Value] = dict(zip(names, row, strict=True))
        found.append(rows.resource_of(cells))
    return found


def _next_epoch(connection: apsw.Connection) -> Epoch:
    term, counter = connection.execute("UPDATE epoch SET counter = counter + 1 RETURNING term, counter").get
    return Epoch(int(term), int(counter))


def _release_later(connection: apsw.Connection, resource: Resource) -> None:
    values = (resource.node_id, resource.resolved.bcm, resource.epoch.term, resource.epoch.counter)
    connection.execute("INSERT OR REPLACE INTO releases VALUES (?, ?, ?, ?)", values)


def _observe(connection: apsw.Connection, resource_id: str, seen: Observation | None) -> None:
    if seen is None or seen.stale:
        return
    time = rows.micros(seen.time)
    connection.execute(
        "UPDATE gpio_resources SET observed_level = ?, observed_time = ?"
        " WHERE id = ? AND (observed_time IS NULL OR observed_time <= ? OR observed_time > ?)",
        (seen.level.value if seen.level else None, time, resource_id, time, time + CLOCK_SET_BACK_MICROSECONDS),
    )
