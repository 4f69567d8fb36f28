"""Real hardware, by the kernel's character device and libgpiod.

Each line is requested by itself, so that one can be changed or let go without touching another; a batch costs one system call a line,
which loses nothing because no Raspberry Pi's chip sets several lines at once. gpiod's objects are not safe in several threads: all of them
live in the driver's one thread, which also reads the edges.
"""

import errno
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Protocol

import gpiod
from gpiod.line import Bias as LineBias
from gpiod.line import Clock as LineClock
from gpiod.line import Direction as LineDirection
from gpiod.line import Drive as LineDrive
from gpiod.line import Edge as LineEdgeDetection
from gpiod.line import Value

from picontroller.agent.gpio.drivers import CONSUMER, Chip, Direction, EdgeListener, Feature, LineEdge, LineInfo, LineSettings, PinBank, T
from picontroller.agent.gpio.drivers.chips import find
from picontroller.agent.gpio.drivers.worker import Worker
from picontroller.agent.gpio.pins import Bias, Drive, Edge, Level
from picontroller.core.errors import Error, FailedPrecondition, Unavailable, Unsupported
from picontroller.core.header import name_of

EVENT_BUFFER = 1024
"""Edges of one line that the kernel keeps for us: the most that it grants. When it is full, the oldest is dropped."""

_ENOTSUPP = 524  # the kernel's own "not supported", which has no name in C libraries
_MISSING = (errno.EOPNOTSUPP, errno.ENXIO, _ENOTSUPP)

_DIRECTIONS = {Direction.AS_IS: LineDirection.AS_IS, Direction.INPUT: LineDirection.INPUT, Direction.OUTPUT: LineDirection.OUTPUT}
_BIASES = {
    Bias.AS_IS: LineBias.AS_IS,
    Bias.DISABLED: LineBias.DISABLED,
    Bias.PULL_UP: LineBias.PULL_UP,
    Bias.PULL_DOWN: LineBias.PULL_DOWN,
}
_DRIVES = {Drive.PUSH_PULL: LineDrive.PUSH_PULL, Drive.OPEN_DRAIN: LineDrive.OPEN_DRAIN, Drive.OPEN_SOURCE: LineDrive.OPEN_SOURCE}
_EDGES = {
    Edge.NONE: LineEdgeDetection.NONE,
    Edge.RISING: LineEdgeDetection.RISING,
    Edge.FALLING: LineEdgeDetection.FALLING,
    Edge.BOTH: LineEdgeDetection.BOTH,
}
_LEVELS = {Value.ACTIVE: Level.HIGH, Value.INACTIVE: Level.LOW}
_VALUES = {Level.HIGH: Value.ACTIVE, Level.LOW: Value.INACTIVE}


class Chips(Protocol):
    """Opens chips, as ``gpiod.Chip`` does."""

    def __call__(self, path: str) -> gpiod.Chip:
        """Return the chip behind a device file. Raises OSError."""
        ...


async def open_driver(root: Path = Path("/"), label: str | None = None, chips: Chips = gpiod.Chip) -> "GpiodDriver":
    """Return a driver for the header of the board whose ``dev`` and ``sys`` are below ``root``.

    ``label`` names the header's chip where it can't be found by itself. Raises FailedPrecondition when there is no such chip, or it may not
    be opened; see ``chips``.
    """
    worker = Worker("gpio")
    try:
        return await worker.perform(lambda: _opened(worker, root, label, chips))
    except BaseException:
        await worker.close()
        raise


def _opened(worker: Worker, root: Path, label: str | None, chips: Chips) -> "GpiodDriver":
    def describe(path: Path) -> tuple[str, int]:
        with chips(str(path)) as chip:
            info = chip.get_info()
            return info.label, info.num_lines

    header, all_chips = find(describe, root, label)
    return GpiodDriver(worker, GpiodBank(chips(str(header.path)), worker), header.chip.label, all_chips)


class GpiodDriver:
    """Reaches the header's lines through the kernel."""

    def __init__(self, worker: Worker, bank: "GpiodBank", label: str, chips: tuple[Chip, ...]) -> None:
        self._worker = worker
        self._bank = bank
        self._label = label
        self._chips = chips

    @property
    def name(self) -> str:
        """``gpiod``."""
        return "gpiod"

    @property
    def atomicity(self) -> str:
        """``SEQUENTIAL``: one line after the other, within microseconds."""
        return "SEQUENTIAL"

    @property
    def chips(self) -> tuple[Chip, ...]:
        """The board's chips that may be opened."""
        return self._chips

    @property
    def label(self) -> str:
        """Label of the header's chip."""
        return self._label

    @property
    def features(self) -> frozenset[Feature]:
        """All: the kernel makes up for what a chip lacks, but for edges on a chip without interrupts, which a request would tell."""
        return frozenset(Feature)

    async def perform(self, work: Callable[[PinBank], T]) -> T:
        """Run ``work`` in the driver's thread."""
        return await self._worker.perform(lambda: work(self._bank))

    def listen(self, listener: EdgeListener) -> None:
        """Report edges to ``listener``, from the driver's thread."""
        self._bank.listener = listener

    def problems(self) -> list[str]:
        """Return which lines' edges are not read."""
        return self._bank.problems()

    async def close(self) -> None:
        """Let all lines go and end the thread."""
        try:
            await self._worker.perform(self._bank.close)
        except Unavailable:
            return  # closed before
        await self._worker.close()


class GpiodBank:
    """The lines of one chip, in the driver's thread."""

    def __init__(self, chip: gpiod.Chip, worker: Worker) -> None:
        self.listener: EdgeListener | None = None
        self._chip = chip
        self._worker = worker
        self._requests: dict[int, gpiod.LineRequest] = {}
        self._sequences: dict[int, int] = {}
        self._unread: dict[int, str] = {}

    def info(self, bcm: int) -> LineInfo:
        """Return what is known of a line."""
        try:
            info = self._chip.get_line_info(bcm)
        except OSError as error:
            raise _translated(error, bcm, "") from error
        direction = Direction.OUTPUT if info.direction is LineDirection.OUTPUT else Direction.INPUT
        return LineInfo(bcm, info.name or "", (info.consumer or "the kernel") if info.used else "", direction)

    def request(self, bcm: int, settings: LineSettings) -> None:
        """Take a line."""
        try:
            request = self._chip.request_lines({bcm: _line_settings(settings)}, consumer=CONSUMER, event_buffer_size=EVENT_BUFFER)
        except (OSError, ValueError) as error:
            raise _translated(error, bcm, self._consumer(bcm)) from error
        self._requests[bcm] = request
        self._sequences[bcm] = 0
        self._watch(bcm, request)

    def reconfigure(self, bcm: int, settings: LineSettings) -> None:
        """Change a line."""
        try:
            self._held(bcm).reconfigure_lines({bcm: _line_settings(settings)})
        except OSError as error:
            raise _translated(error, bcm, "") from error
        if bcm in self._unread:
            self._watch(bcm, self._requests[bcm])  # a fresh attempt; when it fails as well, it is said again

    def set(self, levels: Mapping[int, Level]) -> None:
        """Drive outputs, one after the other."""
        for bcm, level in levels.items():
            try:
                self._held(bcm).set_value(bcm, _VALUES[level])
            except OSError as error:
                raise _translated(error, bcm, "") from error

    def get(self, bcms: Iterable[int]) -> dict[int, Level]:
        """Return levels at the pins."""
        found = {}
        for bcm in bcms:
            try:
                found[bcm] = _LEVELS[self._held(bcm).get_value(bcm)]
            except OSError as error:
                raise _translated(error, bcm, "") from error
        return found

    def release(self, bcm: int) -> None:
        """Let a line go."""
        request = self._requests.pop(bcm, None)
        self._unread.pop(bcm, None)
        if request is not None:
            self._worker.unwatch(request.fd)
            request.release()

    def close(self) -> None:
        """Let everything go."""
        for bcm in list(self._requests):
            self.release(bcm)
        self._chip.close()

    def problems(self) -> list[str]:
        """Return which lines' edges are not read, and why. May be called from any thread."""
        return [
            f"EDGES_NOT_READ: {name_of(bcm)}: its edges are not read any more ({why}); configure the line again"
            for bcm, why in sorted(self._unread.copy().items())
        ]

    def _watch(self, bcm: int, request: gpiod.LineRequest) -> None:
        self._unread.pop(bcm, None)
        self._worker.watch(request.fd, partial(self._read, bcm, request), partial(self._lost, bcm))

    def _lost(self, bcm: int, error: Exception) -> None:
        self._unread[bcm] = str(error) or type(error).__name__

    def _held(self, bcm: int) -> gpiod.LineRequest:
        request = self._requests.get(bcm)
        if request is None:
            raise Unavailable(f"{name_of(bcm)} is not requested", reason="HARDWARE_ERROR")
        return request

    def _consumer(self, bcm: int) -> str:
        try:
            return self.info(bcm).consumer
        except Error:
            return ""

    def _read(self, bcm: int, request: gpiod.LineRequest) -> None:
        edges = []
        for event in request.read_edge_events(EVENT_BUFFER):
            level = Level.HIGH if event.event_type is gpiod.EdgeEvent.Type.RISING_EDGE else Level.LOW
            edges.append(LineEdge(bcm, level, event.timestamp_ns, event.line_seqno - self._sequences[bcm] - 1))
            self._sequences[bcm] = event.line_seqno
        if self.listener is not None and edges:
            self.listener(edges)


def _line_settings(settings: LineSettings) -> gpiod.LineSettings:
    return gpiod.LineSettings(
        direction=_DIRECTIONS[settings.direction],
        edge_detection=_EDGES[settings.edge],
        bias=_BIASES[settings.bias],
        drive=_DRIVES[settings.drive],
        active_low=settings.active_low,
        debounce_period=timedelta(microseconds=settings.debounce_us),
        event_clock=LineClock.REALTIME,
        output_value=_VALUES[settings.level or Level.LOW],
    )


def _translated(error: OSError | ValueError, bcm: int, consumer: str) -> Error:
    """Return what the kernel refused as an error of the drivers' contract."""
    number = error.errno if isinstance(error, OSError) else None
    name = name_of(bcm)
    if number == errno.EBUSY:
        holder = consumer or "somebody else"
        return FailedPrecondition(f"{name} is held by {holder}", reason="LINE_BUSY", metadata={"consumer": holder})
    if number in _MISSING:
        return Unsupported(f"{name}: the chip can't do what the settings ask ({error})", reason="FEATURE_MISSING")
    return Unavailable(f"{name}: the kernel refused: {error}", reason="HARDWARE_ERROR")
