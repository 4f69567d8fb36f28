"""What can be set about discovery: the section ``[discovery]``."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """How long discovery waits for signs of life, and how often it writes them down."""

    lost_after_seconds: float = 15.0
    """A node that is silent for so many seconds is LOST. Agents report every 5 s, so that 15 forgives two lost reports."""

    flush_seconds: float = 60.0
    """How often the time of each node's last sign of life is written to disk, in seconds: one write for all nodes. After a crash the times
    shown may be so much too old. 60, because each write costs an SD card some of its life."""

    def __post_init__(self) -> None:
        if not 1.0 <= self.lost_after_seconds <= 86_400.0:
            raise ValueError("lost_after_seconds must be between 1 and 86400")
        if not 1.0 <= self.flush_seconds <= 86_400.0:
            raise ValueError("flush_seconds must be between 1 and 86400")
