"""Settings that belong to no single service: the mesh's addresses, and how a process stops."""

from dataclasses import dataclass


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
        host = self.metrics.rpartition(":")[0].strip("[]")
        if host not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError(f"metrics must be on loopback (they need no login), not {host or self.metrics!r}")
