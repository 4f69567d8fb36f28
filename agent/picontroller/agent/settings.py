"""Settings of the agent: the section ``[agent]``."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})")

SIMULATED_MODELS = (
    "Raspberry Pi Zero 2 W",
    "Raspberry Pi 3 Model B",
    "Raspberry Pi 4 Model B",
    "Raspberry Pi 5 Model B",
    "Raspberry Pi 5",
)
"""What ``simulated_model`` may be. Stands here, and not with the boards, because settings know of nothing else."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How one agent runs."""

    listen: str | None = None
    """Where the agent serves, ``HOST:PORT`` or ``unix:PATH``. None: port 7450 on all addresses, or on loopback when the gateway is on this
    machine. Whoever calls needs a certificate of the control plane's."""

    advertise: str | None = None
    """``HOST:PORT`` that the control plane dials. None: the address from which this machine reaches the gateway. Set it behind NAT."""

    backend: Literal["gpiod", "sim"] = "gpiod"
    """How lines are reached: ``gpiod`` through the kernel, ``sim`` on a board that exists in software only."""

    chip: str | None = None
    """Label of the GPIO chip that the header hangs on (``gpioinfo`` shows labels). None: found by the board's device tree. Never a number:
    those differ between kernels."""

    hostname: str | None = None
    """Name under which the node presents itself. None: that of the machine."""

    simulated_model: str = "Raspberry Pi 4 Model B"
    """Model that ``sim`` pretends to be: Raspberry Pi Zero 2 W, 3 Model B, 4 Model B or 5 (``SIMULATED_MODELS``)."""

    simulated_life_seconds: float | None = None
    """How often GPIO4 of a ``sim`` board toggles by itself when it is an input, in seconds. None: never."""

    report_seconds: float = 5.0
    """Time between signs of life. The control plane calls a node lost after 15 s, so that two may go astray."""

    grace_seconds: float = 5.0
    """How long a stopping agent waits for calls in flight, after its outputs are safe. Longer than a batch of 256 operations takes."""

    connection_age_seconds: float = 600.0
    """Age at which a connection to this agent is asked to end, give or take a tenth; its streams have half of that again
    (at most 30 s). The control plane makes a new one by itself."""

    metrics: str | None = None
    """Where an agent that runs by itself serves Prometheus metrics, ``127.0.0.1:PORT``; port 0 takes a free one. None: nowhere, which saves
    a thread. Loopback, because they need no login."""

    root: Path = Path("/")
    """Where the machine's ``proc``, ``sys`` and ``dev`` are found. Differs in containers that have them elsewhere."""

    def __post_init__(self) -> None:
        """Refuse what can't be right."""
        for name in ("listen", "advertise"):
            value = getattr(self, name)
            if value is None or (name == "listen" and value.startswith("unix:")):
                continue
            match = _ADDRESS.fullmatch(value)
            if match is None or int(match[2]) > 65535 or (name == "advertise" and int(match[2]) == 0):
                raise ValueError(f"{name} must be HOST:PORT, not {value!r}")
        if not 0.05 <= self.report_seconds <= 14:
            raise ValueError(f"report_seconds must be from 0.05 to 14 (after 15 the node is lost), not {self.report_seconds:g}")
        if not 0 <= self.grace_seconds <= 60:
            raise ValueError(f"grace_seconds must be from 0 to 60, not {self.grace_seconds:g}")
        if not 1 <= self.connection_age_seconds <= 86400:
            raise ValueError(f"connection_age_seconds must be from 1 to 86400 (a day), not {self.connection_age_seconds:g}")
        if self.simulated_life_seconds is not None and self.simulated_life_seconds < 0.01:
            raise ValueError(f"simulated_life_seconds must be 0.01 or more, not {self.simulated_life_seconds:g}")
        if self.simulated_model not in SIMULATED_MODELS:
            raise ValueError(f"simulated_model must be one of {', '.join(SIMULATED_MODELS)}, not {self.simulated_model!r}")
        metrics = None if self.metrics is None else re.fullmatch(r"(127\.0\.0\.1|\[::1\]|localhost):([0-9]{1,5})", self.metrics)
        if self.metrics is not None and (metrics is None or int(metrics[2]) > 65535):
            raise ValueError(f"metrics must be HOST:PORT on loopback (they need no login), not {self.metrics!r}")
        if self.chip is not None and re.fullmatch(r"(/dev/)?gpiochip\d+|\d+", self.chip):
            raise ValueError(f"chip must be a label such as pinctrl-bcm2835, not {self.chip!r}: numbers differ between kernels")
