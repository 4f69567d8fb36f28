"""Time, passed in wherever it matters so that tests can bend it.

Wall time (``now``) is for people and certificates; ``monotonic`` is for every interval: a Pi has no clock chip and jumps from 1970 to today
while it runs.
"""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """A source of time."""

    def now(self) -> datetime:
        """Return the wall time in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back, from an arbitrary origin."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` by the monotonic clock."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        """Return the wall time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the machine's monotonic seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep by the event loop's clock."""
        await asyncio.sleep(seconds)
