"""What is kept of the journal, and for how long. The oldest go first, a few at a time, so that sources never wait long for the disk."""

import logging
from datetime import timedelta
from typing import Protocol

from picontroller.core.clock import Clock
from picontroller.events.settings import Settings

log = logging.getLogger(__name__)

BATCH = 500
BREATH_SECONDS = 0.05


class Compactable(Protocol):
    """A store that can forget its oldest entries."""

    async def compact(self, *, older_than: int, rows: int, megabytes: int, limit: int) -> int:
        """Forget at most ``limit`` of the oldest entries and return how many those were.

        Which: those before the first that is as young as ``older_than`` (Unix milliseconds of arrival), those by which there are more than
        ``rows``, and as many as it takes while the file holds more than ``megabytes``.
        """
        ...


class Retention:
    """Applies the settings to a store, for as long as ``run`` runs."""

    def __init__(self, store: Compactable, settings: Settings, clock: Clock) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock

    async def run(self) -> None:
        """Sweep now and then, for ever."""
        while True:
            await self.sweep()
            await self._clock.sleep(self._settings.sweep_seconds)

    async def sweep(self) -> int:
        """Forget all that need not be kept now; return how many entries that were."""
        forgotten = 0
        while True:
            oldest = self._clock.now() - timedelta(days=self._settings.max_age_days)
            done = await self._store.compact(
                older_than=int(oldest.timestamp() * 1000),
                rows=self._settings.max_rows,
                megabytes=self._settings.max_megabytes,
                limit=BATCH,
            )
            forgotten += done
            if done < BATCH:
                break
            await self._clock.sleep(BREATH_SECONDS)
        if forgotten:
            log.info("old events were forgotten", extra={"events": forgotten})
        return forgotten
