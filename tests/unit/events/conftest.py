"""A journal over a store in memory, under a clock that stands still until it is told."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from picontroller.events.cursors import Cursors
from picontroller.events.entries import Loss, Record, Submission
from picontroller.events.journal import Journal
from picontroller.events.subscriptions import Subscriptions
from picontroller.events.tail import Tail
from tests.fakes.clock import FakeClock
from tests.fakes.journal_store import EPOCH, KEY, FakeJournalStore


def record(kind: str = "a.b", *, body: bytes = b"", namespace: str = "") -> Record:
    return Record(kind, "", "", namespace, "", body)


def submission(*records: Record, first: int = 1, epoch: str = "e", source: str = "gpio") -> Submission:
    return Submission(source, epoch, first, records)


def lost(loss: Loss) -> Record:
    return Record("events.lost", loss.source, "", "", "", f"{loss.first}-{loss.last}".encode())


@dataclass
class World:
    """All parts, by name."""

    store: FakeJournalStore = field(default_factory=FakeJournalStore)
    clock: FakeClock = field(default_factory=FakeClock)
    tail: Tail = field(default_factory=lambda: Tail(50, 10**6))

    def __post_init__(self) -> None:
        self.cursors = Cursors(EPOCH, KEY)
        self.journal = Journal(self.store, self.cursors, self.tail, self.clock, lost)
        self.subscriptions = Subscriptions(self.journal, self.clock, heartbeat_seconds=10)
        self._published = 0

    async def publish(self, *kinds: str, namespace: str = "") -> None:
        """Publish one event of each type, as one submission."""
        records = [record(kind, namespace=namespace) for kind in kinds]
        await self.journal.publish(submission(*records, first=self._published + 1))
        self._published += len(kinds)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.journal.settle()
