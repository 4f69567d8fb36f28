"""Which path goes where. What is not named here does not exist: there is no default route.

REST paths have no routes of their own: the transcoder turns them into gRPC paths first. It answers 404 for every path that it doesn't
know, so routes to the bridge switch it off.
"""

import re
from collections.abc import Iterable

from picontroller.gateway.envoy import limits
from picontroller.gateway.envoy.descriptors import MERGED, PUBLIC
from picontroller.gateway.envoy.typed import Json, disabled, typed
from picontroller.gateway.settings import Settings

TRANSCODER = "envoy.filters.http.grpc_json_transcoder"
BUFFER = "envoy.filters.http.buffer"
LIMITER = "envoy.filters.http.local_ratelimit"
EVENTS = "/api/v1/events/ws"
DESCRIPTION = "/api/v1/openapi.json"
ISSUE = ("/api/v1/certificates:issue", "/picontroller.v1.IdentityService/IssueCertificate")
FOREIGN = "pages of other sites may not change anything here; name them in [gateway] allowed_origins"
OPEN_PATHS = ("/", "/ca.pem", "/healthz", "/readyz")
OPEN_PREFIX = "/assets/"
ELSEWHERE = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection", "grpc.health.v1.Health")


def table(settings: Settings, members: Iterable[str]) -> Json:
    """Return the route configuration for the members that are there."""
    pages = [_page({"path": path}) for path in OPEN_PATHS]
    services = [_service(name, f"svc-{member}") for member in members for name in PUBLIC[member]]
    host: Json = {
        "name": "edge",
        "domains": ["*"],
        "routes": [
            _foreign(settings),
            *_malformed(),
            *pages,
            _page({"prefix": OPEN_PREFIX}),
            _page({"path": DESCRIPTION}),
            _events(),
            _not_json(),
            *_joins(settings),
            *services,
            *(_service(name, "svc-gateway") for name in (*ELSEWHERE, *MERGED)),
            # REST finds its real route after transcoding. Until then it needs one for what stands before it (cross-origin policy). Only
            # what claims to be gRPC gets past the transcoder to here, and the bridge knows no such path.
            {"match": {"prefix": "/api/"}, "route": _target("bridge")},
        ],
        # Nothing here believes these; they are dropped so that nobody further in ever starts to.
        "request_headers_to_remove": ["x-forwarded-for", "x-forwarded-host", "x-pi-user", "x-pi-principal", "x-pi-roles", "cookie"],
        # Whose address limits and audit go by.
        "request_headers_to_add": [
            {
                "header": {"key": "x-client-address", "value": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
        "response_headers_to_add": [
            _header("x-content-type-options", "nosniff"),
            _header("cache-control", "no-store"),
        ],
    }
    if settings.allowed_origins:
        host["typed_per_filter_config"] = {
            "envoy.filters.http.cors": typed(
                "extensions.filters.http.cors.v3.CorsPolicy",
                allow_origin_string_match=[{"exact": origin} for origin in settings.allowed_origins],
                allow_methods="GET, POST, PUT, DELETE",
                allow_headers="authorization, content-type, if-match, x-grpc-web, grpc-timeout",
                expose_headers="grpc-status, grpc-message, x-request-id",
                max_age="600",
            )
        }
    return {"name": "edge", "virtual_hosts": [host]}


def _header(name: str, value: str) -> Json:
    return {"header": {"key": name, "value": value}, "append_action": "ADD_IF_ABSENT"}


def _page(match: Json) -> Json:
    return {"match": match, "route": {"cluster": "bridge", "timeout": "15s"}, "typed_per_filter_config": disabled(TRANSCODER)}


def _events() -> Json:
    return {
        "match": {"path": EVENTS},
        "route": {
            "cluster": "bridge",
            "timeout": "0s",
            "idle_timeout": "3600s",
            "upgrade_configs": [{"upgrade_type": "websocket", "enabled": True}],
        },
        "typed_per_filter_config": disabled(TRANSCODER) | _unbuffered(),
    }


def foreign(settings: Settings) -> list[Json]:
    """Return what the headers of a change are like that a page of another site asks for.

    A browser sends simple requests, those without a body among them, to any site with its user's certificate and without asking first; it
    does say where the page is from. A route can't compare ``origin`` with ``host``, so that our own pages are known by the browser's word.
    """
    allowed = "|".join(re.escape(origin) for origin in settings.allowed_origins)
    conditions: list[Json] = [
        {"name": ":method", "string_match": {"safe_regex": {"regex": "POST|PUT|PATCH|DELETE"}}},
        {"name": "origin", "present_match": True},
        # The transcoder makes each request a POST and has its route chosen again; no page may send this header without asking.
        {"name": "x-envoy-original-method", "present_match": True, "invert_match": True},
        {"name": "sec-fetch-site", "string_match": {"exact": "same-origin"}, "invert_match": True, "treat_missing_header_as_empty": True},
    ]
    if allowed:
        conditions.append({"name": "origin", "string_match": {"safe_regex": {"regex": allowed}}, "invert_match": True})
    return conditions


def _foreign(settings: Settings) -> Json:
    return {
        "match": {"prefix": "/", "headers": foreign(settings)},
        "direct_response": {"status": 403, "body": {"inline_string": FOREIGN}},
        "typed_per_filter_config": disabled(TRANSCODER),
    }


def _not_json() -> Json:
    """Return the route that refuses bodies of another kind than JSON.

    The transcoder would read them all the same, and a browser sends plain text to any site, with its user's certificate, without asking.
    """
    return {
        "match": {
            "prefix": "/api/",
            "headers": [
                {"name": ":method", "string_match": {"safe_regex": {"regex": "POST|PUT|PATCH"}}},
                {
                    "name": "content-type",
                    "string_match": {"safe_regex": {"regex": r"(?i)application/json(\s*;.*)?"}},
                    "invert_match": True,
                    "treat_missing_header_as_empty": True,
                },
                {"name": "content-length", "string_match": {"exact": "0"}, "invert_match": True, "treat_missing_header_as_empty": True},
            ],
        },
        "direct_response": {"status": 415, "body": {"inline_string": "send the body as JSON with content-type: application/json"}},
        "typed_per_filter_config": disabled(TRANSCODER),
    }


def _malformed() -> list[Json]:
    """Return the routes that refuse what gRPC can't read in its own headers: a service's server would answer INTERNAL."""
    forms = {"grpc-timeout": "[0-9]{1,8}[HMSmun]", "grpc-encoding": "identity|gzip|deflate"}
    return [
        {
            "match": {
                "prefix": "/",
                "headers": [
                    {"name": name, "present_match": True},
                    {"name": name, "string_match": {"safe_regex": {"regex": form}}, "invert_match": True},
                ],
            },
            "direct_response": {"status": 400, "body": {"inline_string": f"{name} is not one that gRPC knows"}},
            "typed_per_filter_config": disabled(TRANSCODER),
        }
        for name, form in forms.items()
    ]


def _joins(settings: Settings) -> list[Json]:
    """Return the routes of the one method that strangers may call, with a limit of their own."""
    limit = {LIMITER: limits.joins(settings)}
    route = _target("svc-identity")
    rest, native = ISSUE
    return [
        {"match": {"path": rest}, "route": route, "typed_per_filter_config": limit},
        {"match": {"path": native}, "route": route, "typed_per_filter_config": limit | _unbuffered()},
    ]


def _target(cluster: str) -> Json:
    """Return a route without end: unary calls are bounded by the services, watches are not bounded at all."""
    # Tried again only where nothing has been sent yet: a repeated write is the caller's decision.
    retry = {"retry_on": "connect-failure,refused-stream,reset-before-request", "num_retries": 2}
    return {"cluster": cluster, "timeout": "0s", "idle_timeout": "3600s", "retry_policy": retry}


def _service(name: str, cluster: str) -> Json:
    """Return the route of a gRPC service, for gRPC and gRPC-web only."""
    is_grpc = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
    is_post = {"name": ":method", "string_match": {"exact": "POST"}}  # a service's server resets streams with other methods: 503
    match = {"prefix": f"/{name}/", "headers": [is_grpc, is_post]}
    return {"match": match, "route": _target(cluster), "typed_per_filter_config": _unbuffered()}


def _unbuffered() -> Json:
    """Return the part of a route that lets bodies through as they come: a stream has no end to wait for."""
    return {BUFFER: typed("extensions.filters.http.buffer.v3.BufferPerRoute", disabled=True)}
