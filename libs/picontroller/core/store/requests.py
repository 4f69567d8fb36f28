"""Idempotency: a mutation that carries a request id has one effect and one answer, however often it is sent."""

import hashlib
from dataclasses import dataclass

import apsw

from picontroller.core.errors import Conflict

SCHEMA = """
CREATE TABLE requests (
    principal TEXT NOT NULL, request_id TEXT NOT NULL, digest BLOB NOT NULL, reply TEXT NOT NULL,
    time INTEGER NOT NULL DEFAULT (unixepoch()), PRIMARY KEY (principal, request_id)
) WITHOUT ROWID;
CREATE INDEX requests_by_time ON requests (time);
"""
KEPT_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Who asked under which id for what. An empty ``request_id`` means that the caller did not ask for idempotency."""

    principal: str
    request_id: str
    digest: bytes


def request_key(principal: str, request_id: str, method: str, body: bytes) -> RequestKey:
    """Return the key of a request; ``body`` is its deterministic serialisation."""
    return RequestKey(principal, request_id, hashlib.sha256(method.encode() + b"\0" + body).digest())


def recall(connection: apsw.Connection, key: RequestKey) -> str | None:
    """Return the reply that was remembered for the same request, None when there is none.

    Raises Conflict when the id was used for another request.
    """
    if not key.request_id:
        return None
    row = connection.execute(
        "SELECT digest, reply FROM requests WHERE principal = ? AND request_id = ? AND time > unixepoch() - ?",
        (key.principal, key.request_id, KEPT_SECONDS),
    ).fetchone()
    if row is None:
        return None
    if row[0] != key.digest:
        raise Conflict(f"request_id {key.request_id} was used for another request", reason="REQUEST_ID_REUSED")
    return str(row[1])


def remember(connection: apsw.Connection, key: RequestKey, reply: str) -> None:
    """Keep ``reply`` for repetitions of the request, in the transaction of its effect, and forget what is older than a day."""
    if key.request_id:
        connection.execute("DELETE FROM requests WHERE time <= unixepoch() - ?", (KEPT_SECONDS,))
        connection.execute(
            "INSERT OR REPLACE INTO requests (principal, request_id, digest, reply) VALUES (?, ?, ?, ?)",
            (key.principal, key.request_id, key.digest, reply),
        )
