"""Identifiers. Ids are opaque to everyone but their maker; only equality may be relied on."""

import secrets
import uuid
from typing import NewType

NodeId = NewType("NodeId", str)


def new_uuid() -> str:
    """Return a random UUID in its usual text form."""
    return str(uuid.uuid4())


_READABLE = "abcdefghijkmnpqrstuvwxyz23456789"


def new_short_id() -> str:
    """Return 8 characters that people can read aloud: 40 random bits in base 32 without look-alikes.

    All bits at once: every call that brings no request id needs one, and eight draws of five bits cost ten times as much.
    """
    bits = secrets.randbits(40)
    return "".join([_READABLE[bits >> shift & 31] for shift in range(0, 40, 5)])


def new_etag() -> str:
    """Return a value that no earlier state of the same thing has had."""
    return secrets.token_hex(8)
