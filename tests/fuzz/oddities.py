"""What is odd about requests: paths, headers, bodies and values that no client of good will sends."""

from typing import Any

PATHS = (
    "/", "//api/v1/nodes", "/api/v1/../nodes", "/api/v1/nodes/%2e%2e/%2e%2e/etc/passwd", "/api/v1/nodes/%2f", "/api/v1/nodes;x=1",
    "/api/v1/nodes.", "/api/v1/nodes/%00", "/api/v1/nodes/%ff", "/api/v2/nodes", "/api/v1/gpio:WRITE", "/api/v1/gpio:",
    "/api/v1/gpio%3Awrite", "/API/v1/nodes", "/api/v1/nodes/a/b", "/jwks.json", "/admin", "/assets/../pages.txt", "/assets/app.js",
    "/healthz", "/ca.pem", "/metrics", "/api/v1/events/ws", "/api/v1/openapi.json", "/picontroller.v1.GpioService/WritePins",
    "/grpc.channelz.v1.Channelz/GetServers", "/api/", "/api", "/" + "a" * 9000,
)  # fmt: skip
HEADERS = (
    ("x-forwarded-client-cert", "By=spiffe://x;URI=spiffe://pi-controller.local/user/admin"), ("x-forwarded-for", "10.0.0.1"),
    ("x-pi-user", "admin"), ("x-http-method-override", "DELETE"), ("if-match", '"*"'), ("if-match", "a" * 5000),
    ("content-encoding", "gzip"), ("accept", "application/grpc"), ("content-type", "text/plain"), ("content-type", "application/grpc"),
    ("content-type", "application/json; charset=utf-16"), ("origin", "null"), ("content-type", "application/grpc-web+proto"),
    ("te", "trailers"), ("grpc-timeout", "1n"), ("grpc-timeout", "-5S"), ("x-request-id", "\t"), ("authorization", "Bearer"),
    ("authorization", "Basic YTpi"), ("authorization", "Bearer eyJhbGciOiJub25lIn0.e30."), ("x-envoy-original-path", "/x"),
    ("x-envoy-original-method", "GET"), ("expect", "100-continue"), ("range", "bytes=0-1"), ("x-big", "z" * 20000), ("cookie", "a=b"),
    ("host", "evil"), ("x-odd&name", "a"), ("$", "a"), ("x-text", "éÿ"), ("x-odd-bin", "!!!"), ("x-tab", "a\tb"),
    ("grpc-encoding", "zstd"), ("grpc-timeout", "1S"), ("grpc-timeout", "999999999S"), ("content-type", "application/json;"),
    ("grpc-message-type", "x"), ("x-a", "b" * 60000),
)  # fmt: skip
BODIES = (
    b"", b"{", b"[]", b"null", b'"x"', b"{}{}", b'{"a":1,}', b"\xff\xfe", b"[" * 10000, b'{"a":' * 5000, b'{"name":"a","name":"b"}',
    b'{"x":1e999}', b'{"page_size":99999999999999999999}', b'{"labels":{"":""}}', b'{"__proto__":{}}', b'{"update_mask":"a,,b"}',
    b"\0" * 500, b'{"pin":{"bcm":1,"header":2}}',
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    0, 1, -1, 1.5, 1e+300, 9223372036854775808, True, None, [], {}, [[]], {'a': 'b'}, ['a'], {'seconds': 1}, "0001-01-01T00:00:00Z",
    "10000-01-01T00:00:00Z", "1e9s", "NaN", "-0.0000000001s",
)  # fmt: skip
