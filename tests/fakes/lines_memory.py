"""What outlives the agent's lines, in memory, with a disk that can be full."""

from picontroller.agent.gpio.table import Remembered
from picontroller.core.errors import DataLoss, Error, QuotaExceeded


class FakeMemory:
    """Keeps what was saved; ``saves`` has all of it in order. ``full`` makes saving fail, ``damaged`` the next loading."""

    def __init__(self) -> None:
        self.saves: list[Remembered] = []
        self.full = False
        self.damaged = False
        self.current = Remembered({}, {})

    def load(self) -> Remembered:
        if self.damaged:
            self.damaged = False
            self.current = Remembered({}, {})
            raise DataLoss("rubbish", reason="LINES_DAMAGED")
        return self.current

    def save(self, remembered: Remembered) -> None:
        if self.full:
            raise self.failure()
        self.current = remembered
        self.saves.append(remembered)

    @staticmethod
    def failure() -> Error:
        return QuotaExceeded("the disk is full", reason="STATE_NOT_WRITABLE")
