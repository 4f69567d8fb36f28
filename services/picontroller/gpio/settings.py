"""Settings of the GPIO manager: the section ``[gpio]``. Intervals are in seconds of monotonic time."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """How the GPIO manager deals with agents and with those who watch."""

    health_seconds: float = 5.0
    """How often each agent with resources is asked how it is, in seconds. The call is also the manager's sign of life to the agent."""

    manager_ttl_seconds: float = 15.0
    """How long the manager may be silent before agents bring their outputs to safety, in seconds: 2 s to 1 h. Three signs of life."""

    control_seconds: float = 5.0
    """How long an agent may take to move lines, in seconds. Beyond it nobody knows whether they moved, and the caller is told so."""

    read_seconds: float = 2.0
    """How long an agent may take to read lines, in seconds, before the last known level is answered as stale."""

    watch_events: int = 4096
    """How many events wait for one slow reader of WatchEdges before the oldest are dropped and counted as lost."""

    watch_sign_seconds: float = 10.0
    """How often a quiet WatchEdges stream says that it lives, in seconds."""

    def __post_init__(self) -> None:
        """Refuse what can't be right."""
        if not 2 <= self.manager_ttl_seconds <= 3600:
            raise ValueError(f"manager_ttl_seconds must be 2 to 3600, not {self.manager_ttl_seconds:g}")
        if not 0.05 <= self.health_seconds <= self.manager_ttl_seconds / 2:
            raise ValueError(f"health_seconds must be 0.05 to half of manager_ttl_seconds, not {self.health_seconds:g}")
        for name in ("control_seconds", "read_seconds", "watch_sign_seconds"):
            if not 0.05 <= getattr(self, name) <= 60:
                raise ValueError(f"{name} must be 0.05 to 60, not {getattr(self, name):g}")
        if not 1 <= self.watch_events <= 1_000_000:
            raise ValueError(f"watch_events must be 1 to 1000000, not {self.watch_events}")
