"""The way into the audit log for what has no transaction of its own: refusals, failures, and calls that changed nothing in a database.

Entries wait in memory, a thousand at most, and are written together. A flood of refusals must cost neither memory nor the disk's time, and
must not push what matters out of a log that keeps a million records: what does not fit is counted, one refusal a minute stands for all that
are alike, and those of strangers have a ceiling together. The counts are written as records of their own.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from picontroller.core.audit.chain import DROPPED, Entry
from picontroller.core.callers import ANONYMOUS
from picontroller.core.clock import Clock

CAPACITY = 1000
# Of the same caller (or network, where nobody is known), to the same method, for the same reason.
REPEATED_SECONDS = 60.0
DROPPED_SECONDS = 60.0
# Refusals of all strangers together: so many at once, and then one each time so many seconds have passed. They alone would need two months
# to fill a log.
STRANGERS_AT_ONCE = 60
STRANGERS_SECONDS = 6.0
# Entries gather for this long, so that one flush of the disk carries many. Well below the second within which a refusal is to be seen.
GATHERING_SECONDS = 0.25


class Log(Protocol):
    """Where entries go."""

    async def append(self, entries: Sequence[Entry]) -> None:
        """Chain ``entries`` in their order and return once they are on disk."""
        ...


class Trail:
    """A bounded queue in front of a log. ``principal`` is the service itself, which signs for its own records."""

    def __init__(self, log: Log, clock: Clock, principal: str) -> None:
        self._log = log
        self._clock = clock
        self._principal = principal
        self._waiting: list[Entry] = []
        self._missed = 0
        self._told = float("-inf")
        self._alike: dict[tuple[str, str, str], float] = {}  # the oldest first
        self._strangers_full = float("-inf")
        self._news = asyncio.Event()
        self._many = asyncio.Event()

    def now(self) -> int:
        """Return the time as it stands in entries."""
        return int(self._clock.now().timestamp() * 1_000_000)

    def note(self, entry: Entry) -> None:
        """Take an entry, or count it as dropped."""
        if len(self._waiting) < CAPACITY:
            self._waiting.append(entry)
        else:
            self._missed += 1
        self._news.set()
        if len(self._waiting) >= CAPACITY // 2:
            self._many.set()

    def note_refused(self, entry: Entry, who: str) -> None:
        """Take an entry of a call that was refused, or count it: when the last like it is not a minute old, or strangers had their share.

        ``who`` is whose calls are alike: a principal, or the network of the address.
        """
        key, now = (who, entry.method, entry.reason), self._clock.monotonic()
        alike = now - self._alike.get(key, float("-inf")) < REPEATED_SECONDS
        if alike or (entry.principal == ANONYMOUS.principal and not self._take_from_strangers(now)):
            self._missed += 1
            self._news.set()
            return
        self._alike.pop(key, None)
        self._alike[key] = now
        self._forget_alike(now)
        self.note(entry)

    def _take_from_strangers(self, now: float) -> bool:
        full = max(now, self._strangers_full) + STRANGERS_SECONDS
        if full - now > STRANGERS_AT_ONCE * STRANGERS_SECONDS:
            return False
        self._strangers_full = full
        return True

    def _forget_alike(self, now: float) -> None:
        """Strangers can't have others forgotten: they are here as seldom as in the log."""
        while len(self._alike) > CAPACITY or now - next(iter(self._alike.values())) >= REPEATED_SECONDS:
            del self._alike[next(iter(self._alike))]

    async def run(self) -> None:
        """Write what comes, for ever."""
        while True:
            await self._news.wait()
            try:
                async with asyncio.timeout(GATHERING_SECONDS):
                    await self._many.wait()
            except TimeoutError:
                pass
            self._news.clear()
            self._many.clear()
            await self.flush()

    async def flush(self, *, last: bool = False) -> None:
        """Write what waits, and the number of what was dropped when the last time is long ago or this is the ``last`` time.

        When the log can't take it, it goes on waiting, as much of it as fits; raises the log's error.
        """
        taken, self._waiting = self._waiting, []
        now, missed = self._clock.monotonic(), 0
        if self._missed and (last or now - self._told >= DROPPED_SECONDS):
            missed, self._missed = self._missed, 0
        try:
            if taken or missed:
                await self._log.append([*taken, *([self._dropped(missed)] if missed else [])])
        except BaseException:
            kept = [*taken, *self._waiting]
            self._missed += missed + max(0, len(kept) - CAPACITY)
            self._waiting = kept[:CAPACITY]
            self._news.set()
            raise
        if missed:
            self._told = now
        if self._missed:
            self._news.set()

    def _dropped(self, count: int) -> Entry:
        return Entry(self.now(), self._principal, "", "", DROPPED, str(count), "OK", "", "", "")
