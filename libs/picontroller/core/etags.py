"""Etags: a change happens only if nobody else's came first.

An etag comes in the request's field or in the caller's ``If-Match``, which REST clients send and the gateway passes on as metadata.
"""

from collections.abc import Iterable

IF_MATCH = "if-match"


def expected(etag: str, metadata: Iterable[tuple[str, str | bytes]] | None) -> frozenset[str] | None:
    """Return the etags that a change may meet, by the request's field and the caller's ``If-Match``; None for any.

    ``If-Match`` may list several; ``*`` matches every state. When both are given, both must hold.
    """
    headers = [str(value) for key, value in metadata or () if key == IF_MATCH]
    listed = {part.strip().strip('"') for header in headers for part in header.split(",")} - {""}
    allowed = frozenset(listed) if listed and "*" not in listed else None
    if etag:
        allowed = frozenset({etag}) if allowed is None else allowed & {etag}
    return allowed
