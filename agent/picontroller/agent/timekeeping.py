"""Whether the wall clock can be right. A Pi has no clock chip: until NTP answers it believes in 1970, or in the moment it was switched off.

With such a clock every certificate is "not yet valid" and every handshake fails without saying why. So the agent compares the clock with
moments that are past for certain, and waits, saying ``CLOCK_UNSYNCED``, while it is behind them. A clock that is ahead can't be told.
"""

import contextlib
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from picontroller.core.clock import Clock
from picontroller.core.files import write_atomically

log = logging.getLogger(__name__)

RELEASED = datetime(2026, 1, 1, tzinfo=UTC)
"""No copy of this code is older. Raised with each release."""

SYNCHRONISED = "run/systemd/timesync/synchronized"
"""There once systemd has set the clock by network time."""

LAST_SEEN = "last-seen"
REMEMBER_SECONDS = 600.0
LOOK_SECONDS = 1.0
SAY_SECONDS = 60.0
SLACK = timedelta(minutes=10)
"""By how much the clock may be behind: certificates begin five minutes before they are made, and clocks are set back by seconds."""


class Timekeeper:
    """Knows the latest moment that is past for certain: release, newest file of ours, begin of our certificate."""

    def __init__(
        self, clock: Clock, folder: Path, known_past: Callable[[], datetime | None] = lambda: None, root: Path = Path("/")
    ) -> None:
        self._clock = clock
        self._folder = folder
        self._known_past = known_past
        self._synchronised = root / SYNCHRONISED

    def lower_bound(self) -> datetime:
        """Return the latest moment that is past for certain."""
        moments = [RELEASED]
        if not self._synchronised.exists():  # else a file of a day when the clock was ahead would hold us up for nothing
            moments += self._file_times()
        if (known := self._known_past()) is not None:
            moments.append(known)
        return max(moments)

    def behind(self) -> timedelta | None:
        """Return how far the clock is behind at the least; None when it may be right."""
        behind = self.lower_bound() - self._clock.now()
        return behind if behind > SLACK else None

    def problems(self) -> tuple[str, ...]:
        """Return the line for the agent's health, nothing when the clock may be right."""
        if self.behind() is None:
            return ()
        return (f"CLOCK_UNSYNCED: the clock says {self._clock.now():%Y-%m-%d %H:%M} UTC, which is past; waiting for network time",)

    async def until_right(self) -> None:
        """Return when the clock may be right; say so once a minute until then."""
        said = None
        while (behind := self.behind()) is not None:
            if said is None or self._clock.monotonic() - said >= SAY_SECONDS:
                said = self._clock.monotonic()
                log.warning(
                    "CLOCK_UNSYNCED: waiting for the clock to be set; connect to a network with NTP, or run: date -s",
                    extra={"clock": self._clock.now().isoformat(timespec="seconds"), "behind_at_least": str(behind)},
                )
            await self._clock.sleep(LOOK_SECONDS)
        if said is not None:
            log.info("the clock was set", extra={"clock": self._clock.now().isoformat(timespec="seconds")})

    async def remember(self) -> None:
        """Write down now and then that it is this late, so that a start without network time knows."""
        while True:
            await self.until_right()
            self.write_down()
            await self._clock.sleep(REMEMBER_SECONDS)

    def write_down(self) -> None:
        """Write down that it is this late. A folder that can't be written costs only this."""
        now = self._clock.now()
        with contextlib.suppress(OSError):
            path = self._folder / LAST_SEEN
            write_atomically(path, f"{now.isoformat(timespec='seconds')}\n".encode())
            os.utime(path, (now.timestamp(), now.timestamp()))  # the kernel's time may differ from the clock that we were given

    def _file_times(self) -> list[datetime]:
        found: list[datetime] = []
        for name in (LAST_SEEN, "join.json", "lines.json"):
            with contextlib.suppress(OSError):
                found.append(datetime.fromtimestamp((self._folder / name).stat().st_mtime, UTC))
        return found
