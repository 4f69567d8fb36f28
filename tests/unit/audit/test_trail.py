"""What has no transaction of its own waits in a bounded queue, and what does not fit is counted."""

from collections.abc import Sequence

import pytest

from picontroller.core.audit.chain import DROPPED, Entry
from picontroller.core.audit.trail import CAPACITY, STRANGERS_AT_ONCE, Trail
from picontroller.core.errors import QuotaExceeded
from picontroller.core.store.audit import KEPT_RECORDS
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


async def test_trail_when_a_flood_lasts_tells_of_it_every_minute_and_at_the_end(log: NotedLog, trail: Trail, clock: FakeClock) -> None:
    for _ in range(70):
        for number in range(CAPACITY + 10):
            trail.note(entry(str(number)))
        await trail.flush()
        await clock.advance(1.0)
    assert [each.resource for each in log.entries if each.method == DROPPED] == ["10", "600"]
    await trail.flush(last=True)
    assert log.dropped() == 700
    assert len(log.entries) - 3 + log.dropped() == 70 * (CAPACITY + 10)


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


async def test_trail_when_refusals_are_alike_keeps_one_a_minute_and_counts(log: NotedLog, trail: Trail, clock: FakeClock) -> None:
    for _ in range(50):
        trail.note_refused(entry("a"), "anna")
        trail.note_refused(entry("b", principal="anonymous"), "192.0.2.7")
    await clock.advance(61)
    trail.note_refused(entry("a"), "anna")
    await trail.flush(last=True)
    assert [each.resource for each in log.entries if each.method != DROPPED] == ["a", "b", "a"]
    assert log.dropped() == 98


async def test_trail_when_refusals_differ_keeps_the_first_of_each(log: NotedLog, trail: Trail) -> None:
    trail.note_refused(entry("one", reason="ROLE_MISSING"), "anna")
    trail.note_refused(entry("another reason", reason="NOT_OWN_NODE"), "anna")
    trail.note_refused(entry("another caller", reason="ROLE_MISSING"), "bert")
    trail.note_refused(entry("another method", reason="ROLE_MISSING", method="picontroller.v1.DiscoveryService/DeleteNode"), "anna")
    await trail.flush(last=True)
    assert [each.resource for each in log.entries] == ["one", "another reason", "another caller", "another method"]


async def test_trail_when_strangers_come_from_everywhere_keeps_few_and_all_of_others(log: NotedLog, trail: Trail, clock: FakeClock) -> None:
    """A day of a hundred networks a minute, each with another reason."""
    minutes, known = 24 * 60, 0
    for minute in range(minutes):
        for number in range(100):
            trail.note_refused(entry("s", principal="anonymous", reason=f"R{number}"), f"2001:db8:{minute:x}:{number:x}::/64")
        if minute % 10 == 0:
            trail.note_refused(entry("k", reason="ROLE_MISSING"), "anna")
            known += 1
        await trail.flush()
        await clock.advance(60.0)
    await trail.flush(last=True)
    of_strangers = sum(each.resource == "s" for each in log.entries)
    assert sum(each.resource == "k" for each in log.entries) == known
    assert of_strangers == STRANGERS_AT_ONCE + (minutes - 1) * 10
    assert of_strangers + log.dropped() == minutes * 100
    assert len(log.entries) * 60 < KEPT_RECORDS, "two months of them fit into a log"
