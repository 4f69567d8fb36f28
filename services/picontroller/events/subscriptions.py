"""Subscriptions: history, then what comes, without a seam between the two.

Each runs at the pace at which its batches are taken. One that is not taken waits where it is, in the journal and not in memory.
"""

from collections.abc import AsyncGenerator

from picontroller.core.clock import Clock
from picontroller.core.errors import Unauthenticated
from picontroller.events.entries import Batch
from picontroller.events.filters import Filter
from picontroller.events.journal import Journal

# A sign of life comes late by this part of a heartbeat at most.
PULSES = 10


class Subscriptions:
    """Follows a journal for any number of readers."""

    def __init__(self, journal: Journal, clock: Clock, heartbeat_seconds: float) -> None:
        self._journal = journal
        self._clock = clock
        self._heartbeat = heartbeat_seconds

    async def follow(self, after: str, chosen: Filter, expires: float = float("inf")) -> AsyncGenerator[Batch, None]:
        """Yield the chosen entries after a cursor and those that come, for ever.

        A batch without entries says that all is well: at once when there is nothing to send yet (so that a reader knows that it is
        connected, and from where), then whenever nothing was sent for the length of a heartbeat.

        Raises what ``Journal.locate`` and ``read`` raise, and Unauthenticated once the proof of the caller has passed ``expires`` (Unix
        seconds).
        """
        position = await self._journal.locate(after)
        due = self._clock.monotonic()
        while True:
            if self._clock.now().timestamp() >= expires:
                raise Unauthenticated("the proof of who you are has expired; subscribe again with a new one", reason="PROOF_EXPIRED")
            batches = await self._journal.read(position, chosen)
            for batch in batches:
                position = batch.position
                if batch.entries:
                    yield batch
                    due = self._clock.monotonic() + self._heartbeat
            if self._clock.monotonic() >= due:
                yield Batch((), position)
                due = self._clock.monotonic() + self._heartbeat
            if not batches:
                await self._journal.stirring(position)

    async def pulse(self) -> None:
        """Wake all readers now and then, for ever, so that each sees when its sign of life is due: one timer instead of one for each."""
        while True:
            await self._clock.sleep(self._heartbeat / PULSES)
            self._journal.stir()
