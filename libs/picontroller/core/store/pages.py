"""Page tokens: where a listing goes on, sealed so that one that was forged, or that belongs to another listing, is recognised."""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence

import apsw

from picontroller.core.errors import InvalidArgument, Violation

SCHEMA = "CREATE TABLE page_key (key BLOB NOT NULL); INSERT INTO page_key VALUES (randomblob(32));"
DEFAULT_SIZE = 100
LARGEST_SIZE = 1000


def page_size(asked: int) -> int:
    """Return the size to use: 100 for 0, never more than 1000."""
    return min(asked or DEFAULT_SIZE, LARGEST_SIZE)


def seal(connection: apsw.Connection, listing: Sequence[object], last_key: Sequence[object]) -> str:
    """Return the token for the page after ``last_key`` in ``listing`` (its name and its filters)."""
    body = json.dumps(list(last_key)).encode()
    return base64.urlsafe_b64encode(_mac(connection, listing, body) + body).decode()


def unseal(connection: apsw.Connection, listing: Sequence[object], token: str) -> list[object] | None:
    """Return the key after which the page begins, None for an empty token. Raises InvalidArgument for one that ``seal`` did not make."""
    if not token:
        return None
    try:
        raw = base64.urlsafe_b64decode(token.encode())
    except (binascii.Error, ValueError):
        raw = b""
    mac, body = raw[:16], raw[16:]
    if not hmac.compare_digest(mac, _mac(connection, listing, body)):
        fault = Violation("page_token", "is not a token of this listing; begin again without one")
        raise InvalidArgument("page_token is not valid for this listing", reason="PAGE_TOKEN_INVALID", violations=[fault])
    key: list[object] = json.loads(body)
    return key


def _mac(connection: apsw.Connection, listing: Sequence[object], body: bytes) -> bytes:
    key = connection.execute("SELECT key FROM page_key").get
    return hmac.digest(key, json.dumps(list(listing)).encode() + b"\0" + body, hashlib.sha256)[:16]
