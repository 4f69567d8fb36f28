"""Prometheus metrics of a process, served on loopback only.

Several services in one process share these; the ``service`` label tells them apart.
"""

import threading
from wsgiref.simple_server import WSGIServer

from prometheus_client import Counter, Gauge, Histogram, start_http_server

RPC_SECONDS = Histogram(
    "picontroller_rpc_seconds",
    "Time to serve a call, by gRPC service, method and code.",
    ["service", "method", "code"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
RPC_OPEN = Gauge("picontroller_rpc_open", "Calls being served, by gRPC service and method.", ["service", "method"])
RPC_LIMITED = Counter("picontroller_rpc_limited_total", "Calls refused because a caller called too often, by what of.", ["what"])
TRUST_AGE = Gauge("picontroller_trust_age_seconds", "Seconds since a member heard of the identity service, by identity.", ["identity"])
EVENTS_PUBLISHED = Counter("picontroller_outbox_events_total", "Events carried from an outbox to the event bus.", ["source"])


def serve(address: str, port: int) -> tuple[int, WSGIServer, threading.Thread]:
    """Serve ``/metrics`` and return the port that was bound (for port 0), the server and its thread. Raises OSError for a taken port."""
    server, thread = start_http_server(port, addr=address)
    return server.server_port, server, thread
