"""Simulated Pis, for trying the product on a laptop: boards that differ, and sensors that drift as real ones do.

A board follows from its number alone, so that a simulated fleet looks the same after each start.
"""

import hashlib
import math
from datetime import timedelta

from picontroller.agent.board.hardware import Board
from picontroller.agent.board.metrics import Interface, Sample
from picontroller.core.clock import Clock

GIB = 1024**3
_RESERVED_I2C = {2: "I2C1 in use", 3: "I2C1 in use"}
BOARDS = (
    Board("Raspberry Pi 4 Model B Rev 1.5", "bcm2711", "c03115", 4 * GIB, ("i2c-1",), reserved=_RESERVED_I2C, simulated=True),
    Board(
        "Raspberry Pi 5 Model B Rev 1.0",
        "bcm2712",
        "d04170",
        8 * GIB,
        ("i2c-1",),
        pwm_channels=("pwmchip0/0", "pwmchip0/1"),
        simulated=True,
    ),
    Board("Raspberry Pi 3 Model B Rev 1.2", "bcm2837", "a02082", 1 * GIB, simulated=True),
    Board("Raspberry Pi Zero 2 W Rev 1.0", "bcm2837", "902120", GIB // 2, simulated=True),
)
"""What a fleet is made of, in turns. The Pi 5's I2C is listed and off, to show that this is possible."""

DAY_SECONDS = 86_400


def board(number: int) -> Board:
    """Return the board with a number."""
    return BOARDS[number % len(BOARDS)]


def board_like(model: str) -> Board:
    """Return the board whose model begins with ``model``. Raises ValueError naming those there are."""
    for known in BOARDS:
        if known.model.startswith(model):
            return known
    raise ValueError(f"{model!r} can't be simulated; known are {', '.join(known.model.partition(' Rev')[0] for known in BOARDS)}")


def mac_address(node_id: str) -> str:
    """Return a hardware address of Raspberry Pi's own range, always the same for a node."""
    digest = hashlib.sha256(node_id.encode()).digest()
    return "b8:27:eb:" + ":".join(f"{byte:02x}" for byte in digest[:3])


class SimulatedMetrics:
    """A machine whose load and temperature move slowly: a daily wave, a shorter one, and a little noise that follows from the time."""

    def __init__(self, clock: Clock, machine: Board, node_id: str) -> None:
        self._clock = clock
        self._board = machine
        self._mac = mac_address(node_id)
        self._phase = int.from_bytes(hashlib.sha256(node_id.encode()).digest()[3:5], "big") / 65536 * math.tau
        self._started = clock.monotonic()

    def sample(self) -> Sample:
        """Return the state now."""
        up = self._clock.monotonic() - self._started
        busy = self._wave(12.0, 8.0, 300.0) + self._wave(4.0, 4.0, 17.0)
        return Sample(
            time=self._clock.now(),
            cpu_usage=round(busy, 1),
            memory_usage=round(self._wave(38.0, 5.0, 1800.0), 1),
            temperature=round(self._wave(46.0, 4.0, DAY_SECONDS) + busy * 0.25, 1),
            disk_usage=round(min(95.0, 21.0 + up / DAY_SECONDS), 2),
            interfaces=(Interface("eth0", self._mac, int(1_000_000 + up * 1200), int(400_000 + up * 800), 1000),),
            uptime=timedelta(seconds=up),
            load=tuple(round(busy / 25 * share, 2) for share in (1.0, 0.9, 0.8)),
            memory_bytes=self._board.memory_bytes,
        )

    def _wave(self, middle: float, height: float, period: float) -> float:
        angle = self._clock.monotonic() * math.tau / period + self._phase
        return middle + height * math.sin(angle)
