"""The authority's position, the roots it ever had, and its members: a part of the identity service's database.

The row of ``authority`` is what commits a step of a rotation: keys that it doesn't name do not count. ``heard_of`` is for transactions that
issue something to a member. What a member was issued last it need not have got: the certificate that it was seen to use counts.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import apsw

from picontroller.core.callers import SpiffeId, parse_spiffe_id
from picontroller.core.events import Event
from picontroller.core.store import outbox
from picontroller.core.store.sqlite import Database
from picontroller.identity.keyring import Position, State
from picontroller.identity.rotation.rotating import Member

SCRIPT = """
ALTER TABLE certificates ADD COLUMN root TEXT NOT NULL DEFAULT '';
CREATE INDEX certificates_by_end ON certificates (expire_time);
CREATE TABLE authority (state TEXT NOT NULL, active TEXT NOT NULL, other TEXT NOT NULL, cross_pem BLOB NOT NULL, last_step TEXT NOT NULL);
CREATE TABLE roots (number INTEGER PRIMARY KEY AUTOINCREMENT, fingerprint TEXT NOT NULL UNIQUE);
CREATE TABLE members (identity TEXT PRIMARY KEY, version INTEGER NOT NULL, seen_time INTEGER NOT NULL) WITHOUT ROWID;
"""
IN_USE_SCRIPT = "ALTER TABLE members ADD COLUMN serial TEXT NOT NULL DEFAULT '';"
FORGOTTEN_AFTER = timedelta(days=150)  # longer than any certificate lives
_MEMBERS = """
SELECT c.identity, coalesce(m.version, 0), coalesce(used.root, c.root), m.seen_time, max(c.number)
FROM certificates AS c LEFT JOIN members AS m ON m.identity = c.identity
LEFT JOIN certificates AS used ON used.serial = m.serial AND used.identity = m.identity
    AND used.expire_time > :now AND used.revoke_time IS NULL
WHERE c.expire_time > :now AND c.revoke_time IS NULL GROUP BY c.identity ORDER BY c.identity
"""


class RotationStore:
    """Implements ``rotating.Store``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def position(self) -> Position | None:
        """Return the authority's position, None before there is one."""

        def work(c: apsw.Connection) -> Position | None:
            row = c.execute("SELECT state, active, other, cross_pem, last_step FROM authority").fetchone()
            return Position(State[row[0]], str(row[1]), str(row[2]), bytes(row[3]), str(row[4])) if row else None

        return await self._database.read(work)

    async def begin(self, position: Position) -> None:
        """Keep the first position, to which all certificates that were issued so far belong; change nothing when there is one."""

        def work(c: apsw.Connection) -> None:
            if not c.execute("SELECT count(*) FROM authority").get:
                _put(c, position, [position.active])
                c.execute("UPDATE certificates SET root = ? WHERE root = ''", (position.active,))

        await self._database.write(work)

    async def roots(self) -> frozenset[str]:
        """Return the fingerprints of all roots that this authority ever had."""
        return await self._database.read(lambda c: frozenset(str(row[0]) for row in c.execute("SELECT fingerprint FROM roots")))

    async def move(self, position: Position, roots: Iterable[str], digest: bytes, event: Event) -> int:
        """Put the authority into ``position``; see ``rotating.Store``."""

        def work(c: apsw.Connection) -> int:
            _put(c, position, roots)
            c.execute("DELETE FROM members WHERE seen_time < ?", (_micros(event.time - FORGOTTEN_AFTER),))
            outbox.emit(c, event)
            [(version,)] = c.execute("UPDATE trust SET version = version + 1, digest = ? RETURNING version", (digest,)).fetchall()
            return int(str(version))

        return await self._database.write(work)

    async def acknowledge(self, identity: SpiffeId, version: int, proof: str, now: datetime) -> None:
        """Remember what a member believes and uses, and that it is alive."""
        await self._database.write(lambda c: _seen(c, identity, version, proof, now))

    async def members(self, now: datetime) -> list[Member]:
        """Return everybody who has a certificate that is neither outdated nor revoked, by identity."""

        def work(c: apsw.Connection) -> list[Member]:
            return [
                Member(parse_spiffe_id(str(identity)), int(version), str(root), None if seen is None else _time(seen))
                for identity, version, root, seen, _ in c.execute(_MEMBERS, {"now": _micros(now)})  # of each group the row with the maximum
            ]

        return await self._database.read(work)


def heard_of(c: apsw.Connection, identity: SpiffeId, proof: str, now: datetime) -> None:
    """Remember that a member is alive and what it proved itself with, empty for nothing; what it acknowledged stays as it is."""
    _seen(c, identity, None, proof, now)


def _seen(c: apsw.Connection, identity: SpiffeId, version: int | None, proof: str, now: datetime) -> None:
    c.execute(
        "INSERT INTO members (identity, version, seen_time, serial) VALUES (:identity, coalesce(:version, 0), :now, :serial)"
        " ON CONFLICT (identity) DO UPDATE SET version = coalesce(:version, version), seen_time = :now,"
        " serial = coalesce(nullif(:serial, ''), serial)",
        {"identity": str(identity), "version": version, "now": _micros(now), "serial": _serial_in(proof)},
    )


def _serial_in(proof: str) -> str:
    kind, _, serial = proof.partition(":")
    return serial if kind == "certificate" else ""


def _put(c: apsw.Connection, position: Position, roots: Iterable[str]) -> None:
    c.execute("DELETE FROM authority")
    row = (position.state.name, position.active, position.other, position.cross_pem, position.last_step)
    c.execute("INSERT INTO authority VALUES (?, ?, ?, ?, ?)", row)
    c.executemany("INSERT OR IGNORE INTO roots (fingerprint) VALUES (?)", [(root,) for root in roots])


def _micros(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _time(micros: object) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(str(micros)))
