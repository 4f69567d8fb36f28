"""Live watchers of lines, each with a bounded queue of its own: a slow one loses the oldest events and is told how many."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from picontroller.gpio.boards import LineEvent
from picontroller.gpio.resources import Resource


@dataclass(frozen=True, slots=True)
class Seen:
    """An event on a resource's line."""

    resource: Resource
    event: LineEvent


@dataclass(frozen=True, slots=True)
class Glimpse:
    """What a watcher gets at a time; empty as a sign of life."""

    seen: tuple[Seen, ...] = ()
    lost: int = 0


LARGEST_GLIMPSE = 256


class Watcher:
    """One reader's queue. ``ids`` and ``node_id`` say what it wants to see; empty ones let everything through."""

    def __init__(self, ids: frozenset[str], node_id: str, limit: int) -> None:
        self._ids = ids
        self._node_id = node_id
        self._queue: deque[Seen] = deque()
        self._limit = limit
        self._lost = 0
        self._changed = asyncio.Event()

    def offer(self, seen: Seen) -> None:
        """Queue an event if it is wanted, at the cost of the oldest when the queue is full."""
        if (self._ids and seen.resource.id not in self._ids) or self._node_id not in ("", seen.resource.node_id):
            return
        if len(self._queue) >= self._limit:
            self._queue.popleft()
            self._lost += 1
        self._queue.append(seen)
        self._changed.set()

    def miss(self, node_id: str, count: int) -> None:
        """Note that ``count`` events were lost on the node. Whether they would have been wanted, nobody knows."""
        if self._node_id in ("", node_id):
            self._lost += count
            self._changed.set()

    async def next(self, seconds: float) -> Glimpse:
        """Return what has come, at the latest after ``seconds``."""
        if not self._queue and not self._lost:
            self._changed.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
            except TimeoutError:
                return Glimpse()
        seen = tuple(self._queue.popleft() for _ in range(min(len(self._queue), LARGEST_GLIMPSE)))
        lost, self._lost = self._lost, 0
        return Glimpse(seen, lost)


class Watchers:
    """Everybody who watches."""

    def __init__(self, limit: int, sign_seconds: float) -> None:
        self._limit = limit
        self._sign_seconds = sign_seconds
        self._watchers: set[Watcher] = set()

    def __len__(self) -> int:
        return len(self._watchers)

    def offer(self, node_id: str, seen: Sequence[Seen], lost: int) -> None:
        """Show everybody what happened on a node."""
        for watcher in self._watchers:
            if lost:
                watcher.miss(node_id, lost)
            for one in seen:
                watcher.offer(one)

    async def watch(self, ids: frozenset[str], node_id: str) -> AsyncGenerator[Glimpse, None]:
        """Yield at once, so that the reader knows that nothing from now on is missed, then what happens. Close the iterator to end it."""
        watcher = Watcher(ids, node_id, self._limit)
        self._watchers.add(watcher)
        try:
            yield Glimpse()
            while True:
                yield await watcher.next(self._sign_seconds)
        finally:
            self._watchers.discard(watcher)
