"""The kernel's GPIO character device as gpiod shows it, on simulated wiring: exclusive requests, sequences of edges, buffers that overflow.

Takes the place of ``gpiod.Chip`` so that everything of the driver runs but the kernel. Errors are the OSErrors that the kernel gives.
"""

import errno
import os
import threading
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import gpiod
from gpiod.line import Bias as KernelBias
from gpiod.line import Direction as KernelDirection
from gpiod.line import Drive as KernelDrive
from gpiod.line import Edge as KernelEdge
from gpiod.line import Value

from picontroller.agent.gpio.drivers import Direction, LineSettings
from picontroller.agent.gpio.drivers.simulation import Simulation, Wiring
from picontroller.agent.gpio.pins import Bias, Drive, Level

_DIRECTIONS = {KernelDirection.AS_IS: Direction.AS_IS, KernelDirection.INPUT: Direction.INPUT, KernelDirection.OUTPUT: Direction.OUTPUT}
_BIASES = {
    KernelBias.AS_IS: Bias.AS_IS,
    KernelBias.DISABLED: Bias.DISABLED,
    KernelBias.PULL_UP: Bias.PULL_UP,
    KernelBias.PULL_DOWN: Bias.PULL_DOWN,
}
_DRIVES = {
    KernelDrive.PUSH_PULL: Drive.PUSH_PULL,
    KernelDrive.OPEN_DRAIN: Drive.OPEN_DRAIN,
    KernelDrive.OPEN_SOURCE: Drive.OPEN_SOURCE,
}


class FakeKernel:
    """All chips of a machine. ``chip`` is called as ``gpiod.Chip`` is; device files below ``root`` say which chips there are."""

    def __init__(self, root: Path, labels: dict[str, tuple[str, int]]) -> None:
        self.mutex = threading.RLock()
        self.wiring = Wiring(Simulation())
        self.requests: dict[int, FakeRequest] = {}
        self.elsewhere: dict[int, str] = {}
        self.refused: set[str] = set()
        self.broken: int | None = None
        self._labels = labels
        (root / "dev").mkdir(parents=True, exist_ok=True)
        for name in labels:
            (root / "dev" / name).touch()

    def chip(self, path: str) -> Any:
        name = Path(path).name
        if name in self.refused:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return FakeChip(self, name, *self._labels[name])

    def drive(self, bcm: int, level: Level | None) -> None:
        """Put a physical level on a pin from outside."""
        with self.mutex:
            before = self.wiring.high(bcm)
            self.wiring.connect(bcm, None if level is None else level is Level.HIGH)
            if self.wiring.high(bcm) != before and (request := self.requests.get(bcm)) is not None:
                request.changed(not before)

    def check(self) -> None:
        """Fail as broken hardware does, when told to."""
        if self.broken is not None:
            raise OSError(self.broken, os.strerror(self.broken))


class FakeChip:
    """One open chip."""

    def __init__(self, kernel: FakeKernel, name: str, label: str, lines: int) -> None:
        self._kernel = kernel
        self._info = gpiod.ChipInfo(name, label, lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is held by a chip itself."""

    def get_info(self) -> gpiod.ChipInfo:
        return self._info

    def get_line_info(self, line: int) -> gpiod.LineInfo:
        with self._kernel.mutex:
            consumer = "pi-controller" if line in self._kernel.requests else self._kernel.elsewhere.get(line, "")
            output = self._kernel.wiring.direction(line) is Direction.OUTPUT
            direction = (KernelDirection.OUTPUT if output else KernelDirection.INPUT).value
            return gpiod.LineInfo(line, f"GPIO{line}", bool(consumer), consumer, direction, False, 1, 1, 1, 1, False, 0)

    def request_lines(self, config: dict[int, gpiod.LineSettings], consumer: str, event_buffer_size: int) -> "FakeRequest":
        ((line, settings),) = config.items()
        with self._kernel.mutex:
            self._kernel.check()
            if line in self._kernel.requests or line in self._kernel.elsewhere:
                raise OSError(errno.EBUSY, "Device or resource busy")
            request = FakeRequest(self._kernel, line, event_buffer_size)
            self._kernel.requests[line] = request
            request.apply(settings)
            return request


class FakeRequest:
    """One line that was requested. ``fd`` is readable while edges wait."""

    def __init__(self, kernel: FakeKernel, line: int, buffer: int) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._kernel = kernel
        self._line = line
        self._edges: deque[gpiod.EdgeEvent] = deque(maxlen=buffer)
        self._sequence = 0
        self._detect = KernelEdge.NONE

    def apply(self, settings: gpiod.LineSettings) -> None:
        level = Level.HIGH if settings.output_value is Value.ACTIVE else Level.LOW
        direction = _DIRECTIONS[settings.direction]
        self._detect = settings.edge_detection
        self._kernel.wiring.hold(
            self._line,
            LineSettings(
                direction,
                level if direction is Direction.OUTPUT else None,
                _BIASES[settings.bias],
                _DRIVES[settings.drive],
                settings.active_low,
            ),
        )

    def reconfigure_lines(self, config: dict[int, gpiod.LineSettings]) -> None:
        with self._kernel.mutex:
            self._kernel.check()
            self.apply(config[self._line])

    def set_value(self, line: int, value: Value) -> None:
        with self._kernel.mutex:
            self._kernel.check()
            held = self._kernel.wiring.held[line]
            if held.direction is not Direction.OUTPUT:
                raise PermissionError(errno.EPERM, "Operation not permitted")
            self._kernel.wiring.hold(line, replace(held, level=Level.HIGH if value is Value.ACTIVE else Level.LOW))

    def get_value(self, line: int) -> Value:
        with self._kernel.mutex:
            self._kernel.check()
            high = self._kernel.wiring.high(line) != self._kernel.wiring.held[line].active_low
            return Value.ACTIVE if high else Value.INACTIVE

    def changed(self, high: bool) -> None:
        rising = high != self._kernel.wiring.held[self._line].active_low
        if self._detect is KernelEdge.BOTH or self._detect is (KernelEdge.RISING if rising else KernelEdge.FALLING):
            self._sequence += 1
            kind = gpiod.EdgeEvent.Type.RISING_EDGE if rising else gpiod.EdgeEvent.Type.FALLING_EDGE
            self._edges.append(gpiod.EdgeEvent(kind.value, time.time_ns(), self._line, self._sequence, self._sequence))
            os.eventfd_write(self.fd, 1)

    def lose(self, count: int) -> None:
        """Let the kernel drop so many edges."""
        self._sequence += count

    def read_edge_events(self, max_events: int) -> list[gpiod.EdgeEvent]:
        with self._kernel.mutex:
            os.eventfd_read(self.fd)
            found = list(self._edges)[:max_events]
            self._edges.clear()
            return found

    def release(self) -> None:
        with self._kernel.mutex:
            self._kernel.wiring.let_go(self._line)
            self._kernel.requests.pop(self._line, None)
            os.close(self.fd)
