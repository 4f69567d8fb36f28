"""What happens on lines, in one sequence: kept for a while in a ring of bounded size, read by any number of subscribers.

Sequences begin at 1 with each run of the agent and rise by one with every event over all lines, those that the kernel dropped included, so
that a gap counts them. Subscribers read the ring at their own pace and nobody waits for them: one that falls behind is told exactly how
many of its events it has missed. ``publish`` may be called from any thread; everything else belongs to the event loop.
"""

import asyncio
import threading
from collections import Counter, deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

from picontroller.agent.gpio.drivers import LineEdge
from picontroller.agent.gpio.header import Header
from picontroller.agent.gpio.pins import Cause, Level, ResolvedPin
from picontroller.core.clock import Clock
from picontroller.core.errors import OutOfRange
from picontroller.core.ids import new_uuid
from picontroller.core.tasks import cancel_and_wait

KEPT = 8192
BATCH = 64
SIGN_OF_LIFE_SECONDS = 10.0

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened to a line, before it has its place in the sequence. ``lost`` of the line's events before it were dropped."""

    pin: ResolvedPin
    level: Level
    cause: Cause
    time: datetime
    lost: int = 0


@dataclass(frozen=True, slots=True)
class PinEvent:
    """A happening in its place. The ``lost`` sequences before it stand for what the kernel dropped."""

    sequence: int
    happening: Happening


@dataclass(frozen=True, slots=True)
class Batch:
    """What a subscriber gets at once. The first batch of a subscription and signs of life have no events.

    ``lost`` counts its events that are missing since the batch before; ``sequence`` is the newest covered.
    """

    events: tuple[PinEvent, ...]
    lost: int
    sequence: int


class Events:
    """The ring. ``run_id`` names this run of the agent, whose sequences mean nothing in another."""

    def __init__(self, clock: Clock, kept: int = KEPT) -> None:
        self.run_id = new_uuid()
        self._clock = clock
        self._kept = kept
        self._mutex = threading.Lock()
        self._ring: deque[PinEvent] = deque()
        self._newest = 0
        self._dropped = 0  # newest sequence that the ring no longer has
        self._dropped_of: Counter[int] = Counter()  # how many of them were of each line
        self._subscriptions: set[Subscription] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waking = False

    @property
    def newest(self) -> int:
        """Sequence of the newest event; 0 when there was none."""
        return self._newest

    def publish(self, happenings: Sequence[Happening]) -> None:
        """Give happenings their sequences and wake those who wait for them."""
        if not happenings:
            return
        with self._mutex:
            for happening in happenings:
                self._newest += happening.lost + 1
                self._ring.append(PinEvent(self._newest, happening))
                if len(self._ring) > self._kept:
                    oldest = self._ring.popleft()
                    self._dropped = oldest.sequence
                    self._dropped_of[oldest.happening.pin.bcm] += oldest.happening.lost + 1
            if self._waking or not self._subscriptions or self._loop is None:
                return
            self._waking = True
        self._loop.call_soon_threadsafe(self._wake)

    def publish_edges(self, header: Header, edges: Sequence[LineEdge]) -> None:
        """Publish what a driver reports."""
        self.publish(
            [
                Happening(header.pin(edge.bcm), edge.level, Cause.EDGE, _EPOCH + timedelta(microseconds=edge.time_ns // 1000), edge.lost)
                for edge in edges
            ]
        )

    async def subscribe(
        self, bcms: frozenset[int] = frozenset(), after: int = 0, run_id: str = "", *, sign_of_life: float = SIGN_OF_LIFE_SECONDS
    ) -> AsyncGenerator[Batch]:
        """Yield batches of the events of lines (all when ``bcms`` is empty) for ever; the first has no events and tells where we are.

        With this run's ``run_id``, everything after the sequence ``after``; with another's, everything kept; with none, what comes next.
        For some lines only, what was lost before the subscription is an upper bound: the ring has forgotten whose it was.
        Raises OutOfRange for a sequence that this run has not reached.
        """
        self._loop = asyncio.get_running_loop()
        subscription = self._open(bcms, after, run_id)
        pulse = self._loop.create_task(subscription.beat(self._clock, sign_of_life))
        self._subscriptions.add(subscription)
        try:
            yield subscription.first()
            while True:
                yield await subscription.next()
        finally:
            self._subscriptions.discard(subscription)
            await cancel_and_wait(pulse)

    def _open(self, bcms: frozenset[int], after: int, run_id: str) -> "Subscription":
        with self._mutex:
            if not run_id and not after:
                return Subscription(self, bcms, self._newest, 0)
            start = after if run_id == self.run_id else 0
            if start > self._newest:
                raise OutOfRange(f"this run of the agent has come to sequence {self._newest}, not to {start}", reason="SEQUENCE_UNKNOWN")
            missed = max(0, self._dropped - start)
            lost = min(missed, self._total_dropped(bcms)) if bcms else missed
            return Subscription(self, bcms, max(start, self._dropped), lost)

    def read(self, subscription: "Subscription") -> Batch:
        """Return what is new to a subscription, at most ``BATCH`` events, and move it on."""
        with self._mutex:
            lost, position = subscription.lost, subscription.position
            if position < self._dropped:
                dropped = self._total_dropped(subscription.bcms)
                lost += dropped - (subscription.passed if subscription.bcms else position)
                subscription.passed = dropped
                position = self._dropped
            events: list[PinEvent] = []
            for index in range(self._index_after(position), len(self._ring)):
                event = self._ring[index]
                happening = event.happening
                if not subscription.bcms or happening.pin.bcm in subscription.bcms:
                    if len(events) == BATCH:
                        break
                    lost += min(happening.lost, event.sequence - 1 - position)
                    subscription.passed += happening.lost + 1
                    events.append(event)
                position = event.sequence
            subscription.position, subscription.lost = position, 0
            return Batch(tuple(events), lost, position)

    def passed_at(self, position: int, bcms: frozenset[int]) -> int:
        """Return how many events of some lines there were up to a sequence that the ring still has. With the ring locked."""
        if not bcms:
            return position
        kept = (event.happening for event in islice(self._ring, 0, self._index_after(position)))
        return self._total_dropped(bcms) + sum(happening.lost + 1 for happening in kept if happening.pin.bcm in bcms)

    def _total_dropped(self, bcms: frozenset[int]) -> int:
        return sum(self._dropped_of[bcm] for bcm in bcms) if bcms else self._dropped

    def _index_after(self, position: int) -> int:
        """Return where in the ring the first event after a sequence is."""
        low, high = 0, len(self._ring)
        while low < high:
            middle = (low + high) // 2
            if self._ring[middle].sequence <= position:
                low = middle + 1
            else:
                high = middle
        return low

    def _wake(self) -> None:
        with self._mutex:
            self._waking = False
        for subscription in self._subscriptions:
            subscription.news.set()


class Subscription:
    """One reader's place in the ring. ``passed`` counts its events up to there, so that those dropped later can be counted exactly."""

    def __init__(self, events: Events, bcms: frozenset[int], position: int, lost: int) -> None:
        self.news = asyncio.Event()
        self.bcms = bcms
        self.position = position
        self.lost = lost
        self.passed = events.passed_at(position, bcms)
        self._events = events
        self._silent = False
        self._due = False
        self.news.set()

    def first(self) -> Batch:
        """Return the batch that opens the subscription."""
        lost, self.lost = self.lost, 0
        return Batch((), lost, self.position)

    async def next(self) -> Batch:
        """Return the next batch that has something to say: events, losses, or only that we live."""
        while True:
            await self.news.wait()
            self.news.clear()
            batch = self._events.read(self)
            if len(batch.events) == BATCH:
                self.news.set()
            if batch.events or batch.lost or self._due:
                self._silent = self._due = False
                return batch

    async def beat(self, clock: Clock, seconds: float) -> None:
        """Ask for a sign of life whenever nothing was said for so long."""
        while True:
            self._silent = True
            await clock.sleep(seconds)
            if self._silent:
                self._due = True
                self.news.set()
