"""What is wrong with this node: one line each, beginning with a word in capitals that programs can rely on."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from picontroller.core.tls.identity import Credentials

MOST = 32
LONGEST = 300

Source = Callable[[], Iterable[str]]


class Health:
    """Asks all sources. Nothing is remembered: a problem is over when its source no longer names it."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = tuple(sources)

    def problems(self) -> list[str]:
        """Return what is wrong now, each line once and short enough for ReportHealth; what is too much is counted in the last."""
        lines = list(dict.fromkeys(line[:LONGEST] for source in self._sources for line in source() if line))
        if len(lines) > MOST:
            lines[MOST - 1 :] = [f"MORE_PROBLEMS: {len(lines) - MOST + 1} further problems; the agent's log has them"]
        return lines


def certificate_problems(credentials: Credentials, now: datetime) -> tuple[str, ...]:
    """Return the line that says that our certificate is at its end, or near it: it should have been renewed long before."""
    renewal, end = credentials.renewal_time(), credentials.not_after
    if now >= end:
        return (f"CERTIFICATE_EXPIRED: it ended {end:%Y-%m-%d %H:%M} UTC; join again with a fresh token",)
    if now >= renewal + (end - renewal) / 2:
        return (f"CERTIFICATE_EXPIRES: it ends {end:%Y-%m-%d %H:%M} UTC and could not be renewed yet",)
    return ()
