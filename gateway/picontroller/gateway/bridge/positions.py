"""Page tokens of a listing that is merged from several services: how far each has been read.

They are sealed with a key of this process: whoever goes on after the gateway was restarted begins anew.
"""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence

from picontroller.core.errors import InvalidArgument, Violation
from picontroller.v1 import audit_pb2

_MAC_BYTES = 16


class Positions:
    """Seals and opens such tokens; each belongs to one listing, by what it asks for."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def sealed(self, request: audit_pb2.ListAuditRecordsRequest, reached: Mapping[str, int]) -> str:
        """Return the token of the page after the records with these numbers."""
        body = json.dumps(dict(reached)).encode()
        return base64.urlsafe_b64encode(self._mac(request, body) + body).decode()

    def opened(self, request: audit_pb2.ListAuditRecordsRequest, services: Sequence[str]) -> dict[str, int]:
        """Return the number of the last record that was read of each service. Raises InvalidArgument for a token that is none of ours."""
        if not request.page_token:
            return dict.fromkeys(services, request.beyond_number)
        try:
            raw = base64.urlsafe_b64decode(request.page_token.encode())
        except (binascii.Error, ValueError):
            raw = b""
        mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(request, body)):
            fault = Violation("page_token", "is not a token of this listing, or the gateway was restarted; begin again without one")
            raise InvalidArgument("page_token is not valid for this listing", reason="PAGE_TOKEN_INVALID", violations=[fault])
        found: dict[str, int] = json.loads(body)
        return found

    def _mac(self, request: audit_pb2.ListAuditRecordsRequest, body: bytes) -> bytes:
        listing = audit_pb2.ListAuditRecordsRequest()
        listing.CopyFrom(request)
        listing.ClearField("page_token")
        listing.ClearField("page_size")
        return hmac.digest(self._key, listing.SerializeToString(deterministic=True) + b"\0" + body, hashlib.sha256)[:_MAC_BYTES]
