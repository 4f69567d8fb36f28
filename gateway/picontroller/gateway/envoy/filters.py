"""The HTTP side of the listener: what is refused before anything else, who is authenticated, what is logged.

The order of the filters matters: tokens are checked before anything is spent on a request, and the transcoder comes last because what
follows it sees gRPC only.
"""

from collections.abc import Iterable
from pathlib import Path

from picontroller.core.rpc.forwarding import AUDIENCE, CLOCK_SKEW_SECONDS
from picontroller.core.tls.channels import LARGEST_MESSAGE_BYTES
from picontroller.gateway.envoy import limits, replies, routes
from picontroller.gateway.envoy.descriptors import MERGED, PUBLIC
from picontroller.gateway.envoy.typed import Json, typed
from picontroller.gateway.settings import Settings

LONGEST_ESCAPE = 6  # bytes that JSON takes for a control character: what fits into a message must fit into its answer
JWKS_PATH = "/jwks.json"
_HCM = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def connection_manager(
    settings: Settings, table: Json, trust_domain: str, descriptors: Path, access_log: Path, members: Iterable[str]
) -> Json:
    """Return the HTTP connection manager."""
    chain: list[Json] = [
        _filter("jwt_authn", _tokens(trust_domain)),
        _filter("local_ratelimit", limits.requests(settings)),
        # The transcoder's own limit on bodies does not hold for a message that it reads piece by piece. Routes of gRPC switch this off.
        _filter("buffer", typed("extensions.filters.http.buffer.v3.Buffer", max_request_bytes=settings.body_bytes)),
        _filter("grpc_web", typed("extensions.filters.http.grpc_web.v3.GrpcWeb")),
        _filter("grpc_json_transcoder", _transcoder(descriptors, members)),
        _filter("header_mutation", _plain_names()),
        _filter("router", typed("extensions.filters.http.router.v3.Router", suppress_envoy_headers=True)),
    ]
    if settings.allowed_origins:
        chain.insert(0, _filter("cors", typed("extensions.filters.http.cors.v3.Cors")))
    return typed(
        _HCM,
        stat_prefix="edge",
        codec_type="AUTO",
        route_config=table,
        http_filters=chain,
        access_log=[_access_log(access_log)],
        local_reply_config=replies.config(routes.foreign(settings)),
        server_name="pi-controller",
        server_header_transformation="OVERWRITE",
        upgrade_configs=[{"upgrade_type": "websocket", "enabled": False}],
        max_request_headers_kb=settings.header_kib,
        request_headers_timeout="10s",
        stream_idle_timeout="3600s",
        delayed_close_timeout="0.5s",
        drain_timeout="5s",
        common_http_protocol_options={
            "idle_timeout": "600s",
            "max_headers_count": 100,
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
        http2_protocol_options={
            "max_concurrent_streams": 100,
            "initial_stream_window_size": 64 * 1024,
            "initial_connection_window_size": 1024 * 1024,
            "override_stream_error_on_invalid_http_message": True,
        },
        # Who calls: the connection's own address and its own certificate, whatever headers claim.
        use_remote_address=True,
        # Nobody is internal (an empty list would mean the private networks): x-envoy-* headers from outside are dropped.
        internal_address_config={"unix_sockets": False, "cidr_ranges": [{"address_prefix": "192.0.2.255", "prefix_len": 32}]},
        skip_xff_append=True,
        forward_client_cert_details="SANITIZE_SET",
        set_current_client_cert_details={"chain": True, "uri": True},
        always_set_request_id_in_response=True,
        # One form for each path, so that what is checked is what is served.
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action="REJECT_REQUEST",
        strip_any_host_port=False,
    )


def _filter(name: str, config: Json) -> Json:
    return {"name": f"envoy.filters.http.{name}", "typed_config": config}


def _plain_names() -> Json:
    """Return what drops headers that HTTP allows and gRPC does not: a service's server would end the whole call as INTERNAL.

    These are odd names, and binary headers that may not be base64; nothing of ours reads any.
    """
    odd = {"safe_regex": {"regex": "[^:a-z0-9.-].*|[^:].*[^a-z0-9.-].*|.*-bin"}}
    drop = {"request_mutations": [{"remove_on_match": {"key_matcher": odd}}]}
    return typed("extensions.filters.http.header_mutation.v3.HeaderMutation", mutations=drop)


def _tokens(trust_domain: str) -> Json:
    """Return the token check: a bad token is refused here, a missing one is left to the services, which know what is public.

    Keys come from the bridge, which has the newest, so that a new signing key needs no restart.
    """
    provider: Json = {
        "issuer": trust_domain,
        "audiences": [AUDIENCE],
        "remote_jwks": {
            "http_uri": {"uri": f"http://bridge{JWKS_PATH}", "cluster": "bridge", "timeout": "2s"},
            "cache_duration": "10s",
            "async_fetch": {"fast_listener": False, "failed_refetch_duration": "1s"},
        },
        "forward": True,
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "payload_in_metadata": "token",
        "require_expiration": True,
        "clock_skew_seconds": CLOCK_SKEW_SECONDS,
        "jwt_cache_config": {"jwt_cache_size": 500},
    }
    wanted = {"requires_any": {"requirements": [{"provider_name": "api_token"}, {"allow_missing": {}}]}}
    free = [{"match": {"path": path}} for path in routes.OPEN_PATHS]
    return typed(
        "extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        providers={"api_token": provider},
        rules=[*free, {"match": {"prefix": routes.OPEN_PREFIX}}, {"match": {"prefix": "/"}, "requires": wanted}],
    )


def _transcoder(descriptors: Path, members: Iterable[str]) -> Json:
    return typed(
        "extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        proto_descriptor=str(descriptors),
        services=[*(name for member in members for name in PUBLIC[member]), *MERGED],
        convert_grpc_status=True,
        max_response_body_size=LARGEST_MESSAGE_BYTES * LONGEST_ESCAPE,
        print_options={
            "always_print_primitive_fields": True,
            "preserve_proto_field_names": True,
            "stream_newline_delimited": True,
        },
        request_validation_options={
            "reject_unknown_method": True,
            "reject_unknown_query_parameters": True,
            "reject_binding_body_field_collisions": True,  # or the body's id would win over the path's
        },
    )


def _access_log(path: Path) -> Json:
    """Return the access log. Queries and tokens never get into it; the path is logged as the client sent it, without its query."""
    fields: Json = {
        "time": "%START_TIME%",
        "method": "%REQ(:METHOD)%",
        "path": "%PATH(NQ:ORIG_OR_PATH)%",
        "protocol": "%PROTOCOL%",
        "status": "%RESPONSE_CODE%",
        "grpc_status": "%GRPC_STATUS%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "flags": "%RESPONSE_FLAGS%",
        "duration_ms": "%DURATION%",
        "received_bytes": "%BYTES_RECEIVED%",
        "sent_bytes": "%BYTES_SENT%",
        "client": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
        "certificate": "%DOWNSTREAM_PEER_URI_SAN%",
        "subject": "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:token:sub)%",
        "user_agent": "%REQ(USER-AGENT)%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "upstream": "%UPSTREAM_CLUSTER%",
    }
    file = typed("extensions.access_loggers.file.v3.FileAccessLog", path=str(path), log_format={"json_format": fields})
    return {"name": "envoy.access_loggers.file", "typed_config": file}
