"""The gateway's settings."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the gateway lets in, how much of it, and where Envoy is."""

    envoy_file: Path | None = None
    """Path of the Envoy program. None takes the one that was installed with this Python, or else the one in PATH."""

    allowed_origins: tuple[str, ...] = ()
    """Web origins other than the gateway's own whose pages may use the API and the WebSocket, for example ``https://dash.example``.
    Empty, because a browser that holds a client certificate would lend it to any page named here."""

    body_bytes: int = 1024 * 1024
    """Largest REST request body in bytes; larger ones get 413. Native gRPC messages are limited by the services (4 MiB)."""

    header_kib: int = 24
    """Largest sum of request headers in KiB. HTTP/2 streams with more are reset without a word, so that this is above the services' 16 KiB,
    which answer properly."""

    connections: int = 2000
    """Most connections from outside at a time; further ones are closed at once."""

    requests_per_second: int = 2000
    """Most requests a second from all callers together, with a burst of as many; others get 429. Far above what the services do on a Pi,
    low enough that a flood ends here."""

    requests_per_second_per_address: int = 1000
    """Most requests a second from one address, with a burst of as many; others get 429. IPv6 addresses count by their /64. Half of what all
    have together, so that nobody can use that up. Each service has finer limits for each caller: see ``[limits]``."""

    requests_per_second_per_subject: int = 1000
    """Most requests a second with the API tokens of one subject, from wherever they come, with a burst of as many; others get 429. As many
    as from one address: a token that was spread over many machines is still one caller."""

    joins_per_second: int = 20
    """Most attempts a second to trade a join token for a certificate, from all callers together: the only method open to strangers."""

    joins_burst_per_address: int = 20
    """Most of these attempts at once from one address; a quarter of as many comes back each second. Above what the identity service lets
    pass (``joins_per_second`` in ``[limits]``), which answers more exactly: here ends a flood."""

    log_bytes: int = 16 * 1024 * 1024
    """Size in bytes at which the access log starts anew; one older file is kept."""

    start_seconds: float = 15.0
    """How long Envoy may take until it is ready. It takes 0.2 s on a laptop; a busy Pi needs patience."""

    token_seconds: float = 10.0
    """How long a WebSocket client may take to send its token in the first message."""

    def __post_init__(self) -> None:
        """Refuse what can't be right."""
        for origin in self.allowed_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"allowed_origins must be like https://host[:port], not {origin!r}")
        if self.envoy_file is not None and not os.access(self.envoy_file, os.X_OK):
            raise ValueError(f"envoy_file must be a program that exists, not {str(self.envoy_file)!r}")
        if not 1 <= self.header_kib <= 96:
            raise ValueError(f"header_kib must be 1 to 96, not {self.header_kib}")
        for name in (
            "body_bytes",
            "connections",
            "requests_per_second",
            "requests_per_second_per_address",
            "requests_per_second_per_subject",
            "joins_per_second",
            "joins_burst_per_address",
            "log_bytes",
            "start_seconds",
            "token_seconds",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name):g}")
