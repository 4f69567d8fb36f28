"""The machine's state in numbers, from ``/proc`` and ``/sys`` below a root path.

What the machine does not offer is None: an absent temperature is not 0 °C. Use of the processor is counted since the sample before, over
all cores.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from picontroller.core.clock import Clock

N = TypeVar("N", int, float)

PROCESSOR_ZONES = ("cpu-thermal", "cpu_thermal", "soc-thermal", "x86_pkg_temp")
"""Names of the processor's thermal zone, in the order of preference."""


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface with its counters since boot. ``speed_mbits`` is 0 when it is not known."""

    name: str
    mac_address: str
    received_bytes: int
    sent_bytes: int
    speed_mbits: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the machine. Shares are percentages of all there is; ``temperature`` is in °C."""

    time: datetime
    cpu_usage: float | None = None
    memory_usage: float | None = None
    temperature: float | None = None
    disk_usage: float | None = None
    interfaces: tuple[Interface, ...] = ()
    uptime: timedelta | None = None
    load: tuple[float, ...] = ()
    memory_bytes: int = 0


class SystemMetrics:
    """Takes samples of the machine below ``root``."""

    def __init__(self, clock: Clock, root: Path = Path("/")) -> None:
        self._clock = clock
        self._root = root
        self._busy, self._total = 0, 0
        self._usage = 0.0

    def sample(self) -> Sample:
        """Return the state now: some twenty small reads, 0.5 ms on a Pi 4. The first sample's processor use is that since boot."""
        total, available = self._memory()
        return Sample(
            time=self._clock.now(),
            cpu_usage=self._cpu_usage(),
            memory_usage=_share(total - available, total) if available is not None else None,
            temperature=_plausible(self._temperature()),
            disk_usage=self._disk_usage(),
            interfaces=self._interfaces(),
            uptime=self._uptime(),
            load=self._load(),
            memory_bytes=total,
        )

    def _cpu_usage(self) -> float | None:
        fields = self._text("proc/stat").partition("\n")[0].split()
        if len(fields) < 5 or fields[0] != "cpu":
            return None
        counts = [int(count) for count in fields[1:9]]  # guest time, further right, is counted in user time already
        total, idle = sum(counts), sum(counts[3:5])
        busy = total - idle
        passed, worked = total - self._total, busy - self._busy
        if passed > 0:  # a sample sooner than the kernel's next tick says the same as the one before
            self._usage = min(100.0, max(0.0, worked / passed * 100))
            self._total, self._busy = total, busy
        return self._usage

    def _memory(self) -> tuple[int, int | None]:
        """Return total and available memory in bytes."""
        found: dict[str, int] = {}
        for line in self._text("proc/meminfo").splitlines():
            name, _, rest = line.partition(":")
            number = rest.split()[:1]
            if number and number[0].isdigit():
                found[name] = int(number[0]) * 1024
        return found.get("MemTotal", 0), found.get("MemAvailable")

    def _temperature(self) -> float | None:
        zones = {self._text(f"{zone}/type").strip(): zone for zone in self._folder("sys/class/thermal", "thermal_zone")}
        for name in PROCESSOR_ZONES:
            if name in zones:
                return _number(self._text(f"{zones[name]}/temp"), lambda text: int(text) / 1000)
        return None

    def _disk_usage(self) -> float | None:
        try:
            status = os.statvfs(self._root)
        except OSError:
            return None
        used = status.f_blocks - status.f_bfree  # as df has it: what is kept for root counts neither as used nor as free
        return _share(used, used + status.f_bavail)

    def _interfaces(self) -> tuple[Interface, ...]:
        found: list[Interface] = []
        for folder in self._folder("sys/class/net", ""):
            name = Path(folder).name
            received = _number(self._text(f"{folder}/statistics/rx_bytes"), int)
            sent = _number(self._text(f"{folder}/statistics/tx_bytes"), int)
            if name == "lo" or received is None or sent is None:
                continue
            speed = _number(self._text(f"{folder}/speed"), int)  # -1, or no answer at all, while the cable is out
            found.append(Interface(name, self._text(f"{folder}/address").strip(), received, sent, max(0, speed or 0)))
        return tuple(found)

    def _uptime(self) -> timedelta | None:
        seconds = _number(self._text("proc/uptime").partition(" ")[0], float)
        return None if seconds is None else timedelta(seconds=seconds)

    def _load(self) -> tuple[float, ...]:
        numbers = [_number(word, float) for word in self._text("proc/loadavg").split()[:3]]
        return tuple(number for number in numbers if number is not None)

    def _folder(self, path: str, prefix: str) -> list[str]:
        try:
            return sorted(f"{path}/{entry.name}" for entry in (self._root / path).iterdir() if entry.name.startswith(prefix))
        except OSError:
            return []

    def _text(self, path: str) -> str:
        try:
            return (self._root / path).read_text(errors="replace")
        except OSError:
            return ""


def _number(text: str, convert: Callable[[str], N]) -> N | None:
    try:
        return convert(text)
    except ValueError:
        return None


def _share(part: int, whole: int) -> float | None:
    return min(100.0, max(0.0, part / whole * 100)) if whole > 0 else None


def _plausible(celsius: float | None) -> float | None:
    """Return a temperature that a running processor can have; sensors that are broken say -273 or 127."""
    return celsius if celsius is not None and -40 <= celsius <= 125 else None
