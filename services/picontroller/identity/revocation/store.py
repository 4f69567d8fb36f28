"""Denials, who is barred, and the marks on what was revoked: a part of the identity service's database.

``RevocationStore`` changes them; the functions that take a connection are for transactions that issue something, which must not go ahead
for somebody who was revoked in the meantime.
"""

from datetime import UTC, datetime, timedelta

import apsw

from picontroller.core.callers import SpiffeId, parse_spiffe_id
from picontroller.core.errors import Error, FailedPrecondition, NotFound
from picontroller.core.events import Event
from picontroller.core.store import outbox
from picontroller.core.store.sqlite import Database
from picontroller.core.tls.denials import KEPT_AFTER_END_SECONDS, Denial
from picontroller.identity.revocation.revoking import KEPT_AFTER_END, Revoked

SCRIPT = """
ALTER TABLE certificates ADD COLUMN revoke_time INTEGER;
ALTER TABLE certificates ADD COLUMN revoke_reason TEXT NOT NULL DEFAULT '';
ALTER TABLE api_tokens ADD COLUMN revoke_time INTEGER;
CREATE INDEX certificates_by_identity ON certificates (identity);
CREATE INDEX api_tokens_by_subject ON api_tokens (subject);
CREATE TABLE denials (version INTEGER PRIMARY KEY AUTOINCREMENT, proof TEXT NOT NULL UNIQUE, expire_time INTEGER NOT NULL);
CREATE INDEX denials_by_end ON denials (expire_time);
CREATE TABLE barred (path TEXT PRIMARY KEY, bar_time INTEGER NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID;
"""
LAST = datetime.max.replace(tzinfo=UTC)  # later than anything was issued


class RevocationStore:
    """Implements ``revoking.Store`` and ``news.DenialStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def revoke_certificate(self, serial: str, reason: str, now: datetime) -> Revoked:
        """Revoke one certificate; see ``revoking.Store``."""

        def work(c: apsw.Connection) -> Revoked:
            if not c.execute("SELECT count(*) FROM certificates WHERE serial = ?", (serial,)).get:
                raise NotFound(f"there is no certificate {serial}", reason="CERTIFICATE_UNKNOWN")
            return Revoked(_revoke_certificates(c, "serial = ?", serial, reason, now))

        return await self._database.write(work, urgent=True)

    async def revoke_identity(
        self, identity: SpiffeId, reason: str, *, may_return: bool, now: datetime, issued_before: datetime | None = None
    ) -> Revoked:
        """Revoke all that an identity has; see ``revoking.Store``."""

        def work(c: apsw.Connection) -> Revoked:
            if not _is_known(c, identity):
                raise NotFound(f"{path_of(identity)} never had anything that could be revoked", reason="IDENTITY_UNKNOWN")
            end = _latest_end(c, identity)
            upto = issued_before or LAST
            serials = _revoke_certificates(c, "identity = ?", str(identity), reason, now, upto)
            tokens = _revoke_api_tokens(c, "subject = ?", identity.name, now, upto) if identity.kind == "user" else ()
            _revoke_join_tokens(c, path_of(identity), now, upto)
            if not may_return and not _is_barred(c, path_of(identity)):
                c.execute("INSERT INTO barred VALUES (?, ?, ?)", (path_of(identity), _micros(now), reason))
                _deny(c, str(identity), end, now)
                outbox.emit(c, _event("identity.barred", str(identity), identity, reason, now))
            return Revoked(serials, tokens)

        return await self._database.write(work, urgent=True)

    async def revoke_api_token(self, token_id: str, now: datetime) -> None:
        """Revoke one API token; see ``revoking.Store``."""

        def work(c: apsw.Connection) -> None:
            if not c.execute("SELECT count(*) FROM api_tokens WHERE id = ?", (token_id,)).get:
                raise NotFound(f"there is no API token {token_id}", reason="TOKEN_UNKNOWN")
            _revoke_api_tokens(c, "id = ?", token_id, now)

        await self._database.write(work, urgent=True)

    async def denials_after(self, version: int) -> list[tuple[int, Denial]]:
        """Return denials above ``version`` with their versions, in their order."""
        sql = "SELECT version, proof, expire_time FROM denials WHERE version > ? ORDER BY version"

        def work(c: apsw.Connection) -> list[tuple[int, Denial]]:
            return [(int(number), Denial(str(proof), int(end) / 1e6)) for number, proof, end in c.execute(sql, (version,))]

        return await self._database.read(work)


def refuse_barred(c: apsw.Connection, path: str, error: type[Error] = FailedPrecondition) -> None:
    """Raise ``error`` (IDENTITY_REVOKED) for an identity (``/node/<id>``) that stays out for good."""
    if _is_barred(c, path):
        raise error(f"{path} was revoked for good and gets nothing any more; it needs a new name", reason="IDENTITY_REVOKED")


def is_denied(c: apsw.Connection, proof: str) -> bool:
    """Return whether ``certificate:<serial>`` or ``token:<id>`` was revoked, however short ago: members may not know it yet."""
    return bool(c.execute("SELECT count(*) FROM denials WHERE proof = ?", (proof,)).get)


def _is_barred(c: apsw.Connection, path: str) -> bool:
    return bool(c.execute("SELECT count(*) FROM barred WHERE path = ?", (path,)).get)


def _is_known(c: apsw.Connection, identity: SpiffeId) -> bool:
    subject = identity.name if identity.kind == "user" else None
    return bool(
        c.execute(
            "SELECT EXISTS (SELECT 1 FROM certificates WHERE identity = :id) OR EXISTS (SELECT 1 FROM join_tokens WHERE identity = :path)"
            " OR EXISTS (SELECT 1 FROM api_tokens WHERE subject = :subject) OR EXISTS (SELECT 1 FROM barred WHERE path = :path)",
            {"id": str(identity), "path": path_of(identity), "subject": subject},
        ).get
    )


def _latest_end(c: apsw.Connection, identity: SpiffeId) -> int:
    """Return when the last of what an identity has ends, what was revoked before included; 0 when it has nothing."""
    subject = identity.name if identity.kind == "user" else None
    found = c.execute(
        "SELECT coalesce(max(expire_time), 0) FROM (SELECT expire_time FROM certificates WHERE identity = ?"
        " UNION ALL SELECT expire_time FROM api_tokens WHERE subject = ?)",
        (str(identity), subject),
    ).get
    return int(str(found))


def _revoke_certificates(c: apsw.Connection, which: str, value: str, reason: str, now: datetime, upto: datetime = LAST) -> tuple[str, ...]:
    """Revoke the certificates ``which`` (a constant condition of this module) that were not revoked before and have not ended.

    Those issued after ``upto`` are left alone, as are tokens in the functions below.
    """
    rows = c.execute(
        f"UPDATE certificates SET revoke_time = ?, revoke_reason = ? WHERE {which} AND revoke_time IS NULL AND expire_time > ?"  # noqa: S608
        " AND issue_time <= ? RETURNING serial, identity, expire_time",
        (_micros(now), reason, value, _micros(now - KEPT_AFTER_END), _micros(upto)),
    ).fetchall()
    for serial, identity, end in rows:
        _deny(c, f"certificate:{serial}", int(str(end)), now)
        outbox.emit(c, _event("certificate.revoked", str(identity), parse_spiffe_id(str(identity)), reason, now, serial=str(serial)))
    return tuple(str(row[0]) for row in rows)


def _revoke_api_tokens(c: apsw.Connection, which: str, value: str, now: datetime, upto: datetime = LAST) -> tuple[str, ...]:
    rows = c.execute(
        f"UPDATE api_tokens SET revoke_time = ? WHERE {which} AND revoke_time IS NULL AND expire_time > ?"  # noqa: S608 - constants
        " AND create_time <= ? RETURNING id, subject, expire_time",
        (_micros(now), value, _micros(now - KEPT_AFTER_END), _micros(upto)),
    ).fetchall()
    for token_id, subject, end in rows:
        _deny(c, f"token:{token_id}", int(str(end)), now)
        outbox.emit(c, Event("api_token.revoked", now, resource=str(token_id), data={"subject": str(subject)}))
    return tuple(str(row[0]) for row in rows)


def _revoke_join_tokens(c: apsw.Connection, path: str, now: datetime, upto: datetime) -> None:
    """Make join tokens for ``path`` worthless that were made before: only a fresh one brings it back."""
    rows = c.execute(
        "UPDATE join_tokens SET revoke_time = ? WHERE identity = ? AND use_time IS NULL AND revoke_time IS NULL AND expire_time > ?"
        " AND create_time <= ? RETURNING id",
        (_micros(now), path, _micros(now), _micros(upto)),
    ).fetchall()
    for (token_id,) in rows:
        outbox.emit(c, Event("token.revoked", now, resource=str(token_id)))


def _deny(c: apsw.Connection, proof: str, end: int, now: datetime) -> None:
    """Add a denial unless what it denies ended long ago; ``end`` in microseconds. Denials that did are forgotten.

    Long ago as for members: a clock that was ahead, and is set right again, makes good what seemed to have ended.
    """
    kept = end + KEPT_AFTER_END // timedelta(microseconds=1)
    long_ago = _micros(now - timedelta(seconds=KEPT_AFTER_END_SECONDS))
    c.execute("DELETE FROM denials WHERE expire_time <= ?", (long_ago,))
    if kept > long_ago:
        c.execute("INSERT OR REPLACE INTO denials (proof, expire_time) VALUES (?, ?)", (proof, kept))


def _event(kind: str, resource: str, identity: SpiffeId, reason: str, now: datetime, **more: object) -> Event:
    node_id = identity.name if identity.kind == "node" else ""
    return Event(kind, now, resource=resource, node_id=node_id, data={"reason": reason, **more})


def path_of(identity: SpiffeId) -> str:
    """Return an identity without its trust domain: ``/svc/gpio``."""
    return str(identity).removeprefix(f"spiffe://{identity.trust_domain}")


def _micros(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
