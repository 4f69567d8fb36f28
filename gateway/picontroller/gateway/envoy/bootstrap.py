"""Envoy's configuration as a whole, built from typed values: listener, clusters, secrets, administration.

Secrets are named by file and watched, never copied: Envoy follows a renewed certificate or root by itself. The configuration holds
no secret, and is still kept to this user, because it names every address.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from picontroller.core.callers import SpiffeId
from picontroller.core.tls.identity import server_name
from picontroller.gateway.envoy import filters, routes
from picontroller.gateway.envoy.typed import Json, typed
from picontroller.gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Edge:
    """All that the configuration depends on. Addresses are ``HOST:PORT`` or ``unix:PATH``; ``upstreams`` are by member name."""

    host: str
    port: int
    trust_domain: str
    identity: Path
    upstreams: Mapping[str, str]
    bridge: str
    reflection: str
    admin: Path
    descriptors: Path
    access_log: Path
    settings: Settings


def render(edge: Edge) -> bytes:
    """Return the bootstrap configuration as JSON."""
    clusters = [_bridge(edge)]
    clusters += [_member(edge, name, address) for name, address in edge.upstreams.items()]
    clusters.append(_member(edge, "gateway", edge.reflection))
    bootstrap: Json = {
        "node": {"id": "gateway", "cluster": "pi-controller"},
        "admin": {"address": {"pipe": {"path": str(edge.admin), "mode": 0o600}}},
        "static_resources": {"listeners": [_listener(edge)], "clusters": clusters, "secrets": []},
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": typed(
                        "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                        max_active_downstream_connections=edge.settings.connections,
                    ),
                }
            ]
        },
    }
    return json.dumps(bootstrap, indent=1).encode()


def secrets(identity: Path) -> dict[str, bytes]:
    """Return the files by which Envoy learns of its secrets, by name. They hold paths only."""
    folder = {"path": str(identity)}
    own = {
        "name": "identity",
        "tls_certificate": {
            "certificate_chain": {"filename": str(identity / "identity.pem")},
            "private_key": {"filename": str(identity / "identity.pem")},
            "watched_directory": folder,
        },
    }
    roots = {
        "name": "roots",
        "validation_context": {"trusted_ca": {"filename": str(identity / "roots.pem")}, "watched_directory": folder},
    }
    kind = "extensions.transport_sockets.tls.v3.Secret"
    return {f"{secret['name']}.sds.json": json.dumps({"resources": [typed(kind, **secret)]}).encode() for secret in (own, roots)}


def address(text: str) -> Json:
    """Return Envoy's form of ``HOST:PORT`` or ``unix:PATH``."""
    if text.startswith("unix:"):
        return {"pipe": {"path": text.removeprefix("unix:")}}
    host, _, port = text.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}


def _secret(edge: Edge, name: str) -> Json:
    file = edge.descriptors.parent / f"{name}.sds.json"
    return {"name": name, "sds_config": {"path_config_source": {"path": str(file)}, "resource_api_version": "V3"}}


def _tls(edge: Edge, **more: object) -> Json:
    return {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificate_sds_secret_configs": [_secret(edge, "identity")],
        **more,
    }


def _listener(edge: Edge) -> Json:
    downstream = typed(
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context=_tls(edge, alpn_protocols=["h2", "http/1.1"], validation_context_sds_secret_config=_secret(edge, "roots")),
        require_client_certificate=False,
        disable_stateless_session_resumption=True,  # a resumed session would not present its certificate again
        disable_stateful_session_resumption=True,
    )
    return {
        "name": "edge",
        "address": {"socket_address": {"address": edge.host, "port_value": edge.port, "ipv4_compat": edge.host == "::"}},
        "enable_reuse_port": False,  # a taken port must be an error, not a second listener that gets half of the connections
        "per_connection_buffer_limit_bytes": 64 * 1024,
        "filter_chains": [
            {
                "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": downstream},
                "transport_socket_connect_timeout": "10s",
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": filters.connection_manager(
                            edge.settings,
                            routes.table(edge.settings, edge.upstreams),
                            edge.trust_domain,
                            edge.descriptors,
                            edge.access_log,
                            edge.upstreams,
                        ),
                    }
                ],
            }
        ],
    }


def _cluster(name: str, where: str) -> Json:
    return {
        "name": name,
        "connect_timeout": "2s",
        "type": "STATIC" if where.startswith("unix:") or _is_ip(where) else "STRICT_DNS",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(where)}}]}]},
        "circuit_breakers": {
            "thresholds": [{"max_connections": 64, "max_pending_requests": 256, "max_requests": 1024, "max_retries": 8}],
        },
    }


def _bridge(edge: Edge) -> Json:
    return _cluster("bridge", edge.bridge)


def _member(edge: Edge, name: str, where: str) -> Json:
    identity = SpiffeId(edge.trust_domain, "svc", name)
    validation = {
        "default_validation_context": {
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": str(identity)}}],
        },
        "validation_context_sds_secret_config": _secret(edge, "roots"),
    }
    upstream = typed(
        "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        common_tls_context=_tls(edge, alpn_protocols=["h2"], combined_validation_context=validation),
        sni=server_name(identity),
    )
    http2 = {"connection_keepalive": {"interval": "30s", "timeout": "5s"}, "max_concurrent_streams": 1000}
    protocol = typed(
        "extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config={"http2_protocol_options": http2},
    )
    return {
        **_cluster(f"svc-{name}", where),
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": upstream},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol},
    }


def _is_ip(text: str) -> bool:
    try:
        ip_address(text.rpartition(":")[0].strip("[]"))
    except ValueError:
        return False
    return True
