"""What has no transaction of its own waits in a bounded queue, and what does not fit is counted."""

from collections.abc import Sequence

import pytest

from picontroller.core.audit.chain import DROPPED, Entry
from picontroller.core.audit.trail import CAPACITY, Trail
from picontroller.core.errors import QuotaExceeded
from tests.fakes.clock import FakeClock
from tests.unit.audit.samples import entry


class NotedLog:
    """Keeps entries in memory; fails as long as it is told to."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.full = False

    async def append(self, entries: Sequence[Entry]) -> None:
        if self.full:
            raise QuotaExceeded("the disk is full", reason="DISK_FULL")
        self.entries.extend(entries)

    def dropped(self) -> int:
        return sum(int(each.resource) for each in self.entries if each.method == DROPPED)


@pytest.fixture
def log() -> NotedLog:
    return NotedLog()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def trail(log: NotedLog, clock: FakeClock) -> Trail:
    return Trail(log, clock, "spiffe://d/svc/gpio")


async def test_trail_when_flushed_writes_entries_in_their_order(log: NotedLog, trail: Trail) -> None:
    for number in range(5):
        trail.note(entry(str(number)))
    await trail.flush()
    await trail.flush()
    assert [each.resource for each in log.entries] == ["0", "1", "2", "3", "4"]


async def test_trail_when_more_comes_than_fits_counts_the_rest(log: NotedLog, trail: Trail) -> None:
    for number in range(CAPACITY + 37):
        trail.note(entry(str(number)))
    await trail.flush()
    assert len(log.entries) == CAPACITY + 1
    assert (log.entries[-1].method, log.entries[-1].resource, log.entries[-1].principal) == (DROPPED, "37", "spiffe://d/svc/gpio")


async def test_trail_when_a_flood_lasts_tells_of_it_every_ten_seconds_and_at_the_end(log: NotedLog, trail: Trail, clock: FakeClock) -> None:
    for _ in range(20):
        for number in range(CAPACITY + 10):
            trail.note(entry(str(number)))
        await trail.flush()
        await clock.advance(1.0)
    assert [each.resource for each in log.entries if each.method == DROPPED] == ["10", "100"]
    await trail.flush(last=True)
    assert log.dropped() == 200
    assert len(log.entries) - 3 + log.dropped() == 20 * (CAPACITY + 10)


async def test_trail_when_the_log_fails_keeps_what_fits_and_counts_what_does_not(log: NotedLog, trail: Trail) -> None:
    for number in range(CAPACITY + 5):
        trail.note(entry(str(number)))
    log.full = True
    with pytest.raises(QuotaExceeded):
        await trail.flush()
    trail.note(entry("one too many"))
    log.full = False
    await trail.flush(last=True)
    assert [each.resource for each in log.entries[:2]] == ["0", "1"]
    assert log.dropped() == 6


async def test_trail_when_a_caller_is_beyond_its_rate_keeps_one_a_minute_and_counts(log: NotedLog, trail: Trail, clock: FakeClock) -> None:
    for _ in range(50):
        trail.note_limited(entry("a"))
        trail.note_limited(entry("b", principal="anonymous"))
    await clock.advance(61)
    trail.note_limited(entry("a"))
    await trail.flush(last=True)
    assert [each.resource for each in log.entries if each.method != DROPPED] == ["a", "b", "a"]
    assert log.dropped() == 98
