"""Following what agents tell of their lines: each batch becomes events, in the transaction that notes how far the agent was followed.

So an event is told once however often the stream breaks. What happens on a line that nobody owns is nobody's event. A line that is just
being taken into use is waited for: its resource's creation is told before what happens on it.

Live watchers see events without waiting for the disk. Each has a bounded queue of its own: a slow one loses the oldest and is told so.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import Counter

from picontroller.core.clock import Clock
from picontroller.core.errors import OutOfRange, Unavailable
from picontroller.core.events import Event
from picontroller.gpio.boards import Agents, Batch, LineEvent, Node, Nodes, Position
from picontroller.gpio.resources import Observation, Resource, Stage
from picontroller.gpio.turns import Turns

log = logging.getLogger(__name__)

LINE_EVENTS = Counter("picontroller_gpio_line_events_total", "Events of lines taken from agents, by cause.", ["cause"])
LINE_EVENTS_LOST = Counter("picontroller_gpio_line_events_lost_total", "Events of lines that agents had to drop.")


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


@dataclass(frozen=True, slots=True)
class Sighting:
    """What an event says of a resource. ``applied``: True when its value was written, False when it went safe, None when neither."""

    id: str
    observed: Observation
    applied: bool | None


class Journal(Protocol):
    """Where events and positions are safe. See ``store.ResourceStore``."""

    async def on_node(self, node_id: str) -> list[Resource]:
        """Return a node's resources in all stages."""
        ...

    async def position(self, node_id: str) -> Position | None:
        """Return how far a node's events have been taken."""
        ...

    async def take(self, node_id: str, position: Position, sightings: Sequence[Sighting], events: Sequence[Event]) -> None:
        """Note what was seen up to ``position``, with its events."""
        ...


class Following:
    """Follows one node at a time; ``run_changed`` is called with the node's id when its agent turns out to have been restarted."""

    def __init__(
        self,
        journal: Journal,
        nodes: Nodes,
        agents: Agents,
        turns: Turns,
        watchers: Watchers,
        clock: Clock,
        run_changed: Callable[[str], None],
    ) -> None:
        self._journal = journal
        self._nodes = nodes
        self._agents = agents
        self._turns = turns
        self._watchers = watchers
        self._clock = clock
        self._run_changed = run_changed
        self._shown: dict[str, Position] = {}

    async def follow(self, node_id: str) -> None:
        """Take a node's events from where it was left. Ends by cancellation or with an error; call it again then."""
        node = await self._nodes.find(node_id)
        position = await self._journal.position(node_id)
        try:
            await self._follow_after(node, position)
        except OutOfRange:
            # The agent is in the run that we know and behind what it told us: one of us was put back to an older state.
            log.warning("the agent does not know how far it was followed, so it is followed from now on", extra={"node_id": node_id})
            await self._follow_after(node, None)
        raise Unavailable(f"the agent of node {node_id} ended its stream of events", reason="STREAM_ENDED")

    async def _follow_after(self, node: Node, position: Position | None) -> None:
        async with aclosing(self._agents.events(node, position)) as batches:
            async for batch in batches:
                if position is None or batch.position.run_id != position.run_id:
                    self._shown.pop(node.id, None)
                    self._run_changed(node.id)
                if batch.events or batch.lost or batch.position != position:
                    await self._take(node.id, batch)
                position = batch.position

    async def _take(self, node_id: str, batch: Batch) -> None:
        owners = await self._owners(node_id, {event.bcm for event in batch.events})
        seen = [Seen(owners[event.bcm], event) for event in batch.events if event.bcm in owners]
        if batch.lost:
            LINE_EVENTS_LOST.inc(batch.lost)
            log.warning("events of lines were lost", extra={"node_id": node_id, "lost": batch.lost})
        self._show(node_id, batch, seen)
        events = [_event_of(one) for one in seen]
        if batch.lost:
            events.append(Event("gpio.edges.lost", self._clock.now(), node_id, node_id=node_id, data={"lost": batch.lost}))
        await self._journal.take(node_id, batch.position, _sightings(seen), events)
        for one in seen:
            LINE_EVENTS.labels(one.event.cause).inc()

    async def _owners(self, node_id: str, lines: set[int]) -> dict[int, Resource]:
        """Return the READY owners by line, those that are just being created included."""
        if not lines:
            return {}
        held = {resource.resolved.bcm: resource for resource in await self._journal.on_node(node_id)}
        creating = [resource.id for bcm, resource in held.items() if bcm in lines and resource.stage is Stage.CREATING]
        if creating:
            async with self._turns.of(creating):
                held = {resource.resolved.bcm: resource for resource in await self._journal.on_node(node_id)}
        return {bcm: resource for bcm, resource in held.items() if resource.stage is Stage.READY}

    def _show(self, node_id: str, batch: Batch, seen: Sequence[Seen]) -> None:
        """Show live watchers what they were not shown before: a batch comes again when it could not be written down."""
        shown = self._shown.get(node_id)
        if shown is not None and shown.run_id == batch.position.run_id:
            if batch.position.sequence <= shown.sequence:
                return
            seen = [one for one in seen if one.event.sequence > shown.sequence]
        self._shown[node_id] = batch.position
        self._watchers.offer(node_id, seen, batch.lost)


def _event_of(seen: Seen) -> Event:
    resource, event = seen.resource, seen.event
    data: dict[str, object] = {
        "id": resource.id,
        "pin": event.bcm,
        "header": event.header,
        "state": event.level.name.lower() if event.level else "",
        "cause": event.cause,
        "sequence": event.sequence,
    }
    kind = "gpio.edge" if event.cause == "edge" else "gpio.state.changed"
    return Event(kind, event.time, resource.name, node_id=resource.node_id, namespace=resource.namespace, data=data)


def _sightings(seen: Sequence[Seen]) -> list[Sighting]:
    """Return the newest sighting of each resource, with the newest that says whether its value is applied."""
    found: dict[str, Sighting] = {}
    verdicts: dict[str, bool] = {}
    for one in seen:
        id_, event = one.resource.id, one.event
        if event.cause in ("write", "safe"):
            verdicts[id_] = event.cause == "write"
        applied = verdicts.get(id_)
        found[id_] = Sighting(id_, Observation(event.level, event.time), applied)
    return list(found.values())
