"""Time that moves only when a test says so.

``advance`` wakes sleepers one by one, in the order of their wake-up times (first come first served among equals), each seeing exactly the
time it asked for, and lets what they set off run before the next one wakes. Work in other threads (a database) is not waited for: await its
effect, with a bound of its own, before advancing further.
"""

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SETTLING_ROUNDS = 50
PATIENCE_SECONDS = 5.0


class FakeClock:
    """A ``core.clock.Clock`` for one event loop. Both of its clocks start with whole numbers so that sums stay exact in tests."""

    def __init__(self, start: datetime = START, monotonic: float = 1000.0) -> None:
        self._now = start
        self._monotonic = monotonic
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._slept = asyncio.Event()

    def now(self) -> datetime:
        """Return the wall time, which ``jump`` moves apart from the monotonic one."""
        return self._now

    def monotonic(self) -> float:
        """Return the seconds that ``advance`` counts."""
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Return once ``advance`` has come to the moment; at once, after one turn of the loop, for nothing or less."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), future))
        self._slept.set()
        await future

    @property
    def sleeping(self) -> int:
        """How many sleep now."""
        return sum(1 for _, _, future in self._sleepers if not future.done())

    async def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass on both clocks."""
        end = self._monotonic + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            moment, _, future = heapq.heappop(self._sleepers)
            if future.done():  # its task was cancelled
                continue
            self._pass_until(moment)
            future.set_result(None)
            await settle()
        self._pass_until(end)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back, while no time passes: what NTP does to a Pi that booted in 1970."""
        self._now += timedelta(seconds=seconds)

    def stall(self, seconds: float) -> None:
        """Let ``seconds`` pass in which nothing ran: whoever should have woken meanwhile wakes at the end, late."""
        self._pass_until(self._monotonic + seconds)
        while self._sleepers and self._sleepers[0][0] <= self._monotonic:
            _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)

    async def until_sleeping(self, count: int = 1) -> None:
        """Wait until at least ``count`` tasks sleep. Raises TimeoutError after five real seconds."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.sleeping < count:
                self._slept.clear()
                await self._slept.wait()

    def _pass_until(self, moment: float) -> None:
        if moment > self._monotonic:
            self._now += timedelta(seconds=moment - self._monotonic)
            self._monotonic = moment


async def settle() -> None:
    """Let everything that is ready to run in this loop run, a bounded number of turns."""
    for _ in range(SETTLING_ROUNDS):
        await asyncio.sleep(0)
