"""Settings of the event bus: how much history it keeps, and how much memory it spends on readers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """The section ``[events]``."""

    max_age_days: float = 7.0
    """Days for which an event is kept, counted by this machine's clock from its arrival. A week bridges a long weekend of a reader's."""

    max_rows: int = 1_000_000
    """How many events are kept at most; the oldest go first. A million of ordinary size take about 400 MB."""

    max_megabytes: int = 1024
    """How large the journal may grow on disk, whatever the size of its events. Small enough for an SD card of 16 GB with K3s on it."""

    sweep_seconds: float = 60.0
    """Pause between two looks for events that are too old or too many."""

    heartbeat_seconds: float = 10.0
    """A subscriber who has been sent nothing for so long gets an empty batch with its cursor. Well below the idle time of usual proxies."""

    tail_events: int = 4096
    """How many of the newest events are held in memory for all subscribers together; who is further behind reads from disk."""

    tail_megabytes: float = 4.0
    """How much memory these may take."""

    def __post_init__(self) -> None:
        """Refuse what can't be right."""
        for name in ("max_age_days", "max_rows", "max_megabytes", "sweep_seconds", "heartbeat_seconds", "tail_events", "tail_megabytes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.max_age_days > 36_500:
            raise ValueError(f"max_age_days must be at most 36500, not {self.max_age_days:g}")
