"""Errors that Envoy makes by itself, in the same form as those of the services: ``google.rpc.Status`` as JSON.

gRPC callers are left out: Envoy tells them in trailers, and a body would end up in ``grpc-message``. A transcoded request has gRPC's
content type from the transcoder on, and is known by the path it had.
"""

from collections.abc import Sequence

from picontroller.core.rpc.errors import DOMAIN
from picontroller.gateway.envoy.typed import Json

# HTTP status, google.rpc code, reason.
_KNOWN: tuple[tuple[int, int, str], ...] = (
    (400, 3, "INVALID_ARGUMENT"),
    (401, 16, "TOKEN_INVALID"),
    (404, 5, "PATH_UNKNOWN"),
    (405, 12, "METHOD_UNKNOWN"),
    (408, 4, "REQUEST_TOO_SLOW"),
    (413, 8, "BODY_TOO_LARGE"),
    (415, 3, "BODY_NOT_JSON"),
    (426, 9, "UPGRADE_REFUSED"),
    (429, 8, "TOO_MANY_REQUESTS"),
    (431, 8, "HEADERS_TOO_LARGE"),
    (502, 14, "UPSTREAM_BROKEN"),
    (503, 14, "UPSTREAM_UNAVAILABLE"),
    (504, 4, "UPSTREAM_TIMEOUT"),
)
_NO_GRPC_TYPE: Json = {
    "header_filter": {
        "header": {
            "name": "content-type",
            "string_match": {"prefix": "application/grpc"},
            "invert_match": True,
            "treat_missing_header_as_empty": True,
        }
    }
}
_TRANSCODED: Json = {"header_filter": {"header": {"name": "x-envoy-original-path", "present_match": True}}}
_NOT_GRPC: Json = {"or_filter": {"filters": [_NO_GRPC_TYPE, _TRANSCODED]}}


def config(foreign: Sequence[Json]) -> Json:
    """Return the connection manager's ``local_reply_config``. ``foreign`` matches the headers of what other sites' pages ask for."""
    known = [_mapper(_both(_NOT_GRPC, _status(status)), _body(code, reason)) for status, code, reason in _KNOWN]
    pages: Json = {"and_filter": {"filters": [_status(403), *({"header_filter": {"header": header}} for header in foreign)]}}
    refused = _mapper(_both(_NOT_GRPC, pages), _body(7, "ORIGIN_REFUSED"))
    # The only other 403 of Envoy's own is a token for another audience, which proves nobody: that is 401, for gRPC too.
    stranger = _mapper(_both(_NOT_GRPC, _status(403)), _body(16, "TOKEN_INVALID")) | {"status_code": 401}
    return {
        "mappers": [
            *known,
            refused,
            {"filter": pages},
            stranger,
            {"filter": _status(403), "status_code": 401},
            _mapper(_NOT_GRPC, _body(2, "UNKNOWN")),
        ]
    }


def _body(code: int, reason: str) -> Json:
    detail = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": DOMAIN}
    return {"code": code, "message": "%LOCAL_REPLY_BODY%", "details": [detail]}


def _status(status: int) -> Json:
    comparison = {"op": "EQ", "value": {"default_value": status, "runtime_key": f"reply_{status}"}}
    return {"status_code_filter": {"comparison": comparison}}


def _both(first: Json, second: Json) -> Json:
    return {"and_filter": {"filters": [first, second]}}


def _mapper(chosen: Json, body: Json) -> Json:
    return {"filter": chosen, "body_format_override": {"json_format": body, "content_type": "application/json"}}
