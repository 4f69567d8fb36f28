"""Join tokens as they are kept: an id, the hash of a secret, and what became of it. The secret itself only its maker ever sees."""

import enum
import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from picontroller.core.audit.pending import NotTheChange

REPEAT_WINDOW = timedelta(seconds=60)  # how long a lost answer may be asked for again with the same token and key


@dataclass(frozen=True, slots=True)
class JoinToken:
    """What is kept of a join token. ``identity`` is a path (``/node/<id>``, ``/svc/<name>``), empty for a new node."""

    id: str
    description: str
    identity: str
    created: datetime
    expires: datetime
    used: datetime | None = None
    used_by: str = ""


class Refusal(NotTheChange, enum.Enum):
    """Why a token was not taken. That it was tried may be noted all the same."""

    INVALID = "unknown, wrong, expired or revoked: the holder is not told which"
    USED = "right, and used before"


@dataclass(frozen=True, slots=True)
class Redemption:
    """An attempt to use a token for a key. ``fresh_node_id`` is the id that a new node would get."""

    token_id: str
    secret_hash: bytes
    key_hash: bytes
    fresh_node_id: str
    now: datetime

    def path_for(self, token: JoinToken) -> str:
        """Return the path of the identity that ``token`` gives."""
        return token.identity or f"/node/{self.fresh_node_id}"


def hash_of(secret: str) -> bytes:
    """Return what is kept of a secret. It has 256 random bits, so that a plain SHA-256 can't be guessed back."""
    return hashlib.sha256(secret.encode()).digest()
