"""Settings that belong to no single service: the mesh's addresses, and how a process stops."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class MeshSettings:
    """Where peers are, for services that run one a process. ``pictl up`` connects its services itself and ignores this."""

    identity: str = "127.0.0.1:7440"
    """Address of the identity service, ``HOST:PORT`` or ``unix:PATH``."""

    events: str = "127.0.0.1:7441"
    """Address of the event bus."""

    discovery: str = "127.0.0.1:7442"
    """Address of the discovery service."""

    gpio: str = "127.0.0.1:7445"
    """Address of the GPIO manager."""

    metrics: str = "127.0.0.1:0"
    """Where this process serves Prometheus metrics. Loopback, because they need no login; port 0 takes a free one and logs it."""

    grace_seconds: float = 10.0
    """How long a stopping process waits for calls in flight. Longer than the slowest ordinary call (5 s)."""

    def __post_init__(self) -> None:
        """Refuse what can't be right."""
        if not 0 < self.grace_seconds <= 300:
            raise ValueError(f"grace_seconds must be above 0 and at most 300, not {self.grace_seconds:g}")
        for field in fields(self):
            if field.type is str or field.type == "str":
                _check(field.name, getattr(self, field.name), unix=field.name != "metrics")
        host = self.metrics.rpartition(":")[0].strip("[]")
        if host not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError(f"metrics must be on loopback (they need no login), not {host or self.metrics!r}")


def _check(name: str, text: str, *, unix: bool) -> None:
    """Refuse what is no address."""
    if unix and text.startswith("unix:") and text != "unix:":
        return
    host, separator, port = text.rpartition(":")
    bare = ":" in host and not (host.startswith("[") and host.endswith("]"))
    if not separator or not host or bare or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"{name} must be HOST:PORT (port 0 to 65535){' or unix:PATH' if unix else ''}, not {text!r}")
