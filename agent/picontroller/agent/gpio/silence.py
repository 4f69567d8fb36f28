"""What happens when the GPIO manager stays away: outputs go to their safe states, decided here and without any network.

Intervals are counted by the monotonic clock. Everything the manager says counts as a sign of life. Once it is back, the outputs stay safe
until it writes again: only the manager knows which wanted values may be applied after such a break.
"""

import logging
from collections.abc import Sequence
from typing import Protocol

from picontroller.core.clock import Clock

log = logging.getLogger(__name__)

DEFAULT_TTL_SECONDS = 15.0
TICK_SECONDS = 1.0


class Outputs(Protocol):
    """The outputs that depend on the manager."""

    async def make_safe(self, reason: str) -> int:
        """Bring all outputs to their safe states and return how many moved."""
        ...

    async def reclaim(self) -> None:
        """Try again to get outputs that are not under control."""
        ...

    def uncontrolled(self) -> Sequence[object]:
        """Return the outputs that are not under control."""
        ...


class Silence:
    """Watches for the manager. ``safe`` is True from the moment that its absence moved an output until it writes again."""

    def __init__(self, outputs: Outputs, clock: Clock, ttl: float = DEFAULT_TTL_SECONDS) -> None:
        self.safe = False
        self._outputs = outputs
        self._clock = clock
        self._ttl = ttl
        self._heard_at = clock.monotonic()
        self._away = False

    def heard(self, ttl: float | None = None) -> None:
        """Take down a sign of life, and how long the manager may stay away from now on when it says so (seconds)."""
        if ttl is not None:
            self._ttl = ttl
        self._heard_at = self._clock.monotonic()
        self._away = False

    def written(self) -> None:
        """Take down that the manager is in charge of the outputs again."""
        self.safe = False

    async def run(self) -> None:
        """Watch for ever."""
        while True:
            remaining = self._heard_at + self._ttl - self._clock.monotonic()
            if remaining > 0:
                # Never longer than a tick, because a shorter time to live may come meanwhile, and to try again for lost lines.
                await self._clock.sleep(min(remaining, TICK_SECONDS))
            else:
                await self._expire()
            if self._outputs.uncontrolled():
                await self._outputs.reclaim()

    async def _expire(self) -> None:
        """Make everything safe once, then wait for the manager's return."""
        log.warning("the GPIO manager is silent", extra={"seconds": self._ttl})
        self._away = True
        if await self._outputs.make_safe("the GPIO manager is silent"):
            self.safe = True
        while self._away:
            await self._clock.sleep(TICK_SECONDS)
            if self._outputs.uncontrolled():
                await self._outputs.reclaim()
        log.info("the GPIO manager is back")
