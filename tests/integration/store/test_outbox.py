"""A change and its event are one; the outbox carries events on in order, at least once, whatever fails between."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import apsw
import pytest

from picontroller.core.clock import SystemClock
from picontroller.core.errors import InvalidArgument, NotFound, Unavailable
from picontroller.core.events import Event, event_from_json
from picontroller.core.store import outbox
from picontroller.core.store.outbox import Outbox
from picontroller.core.store.sqlite import Database
from picontroller.core.tasks import keep_running

SCHEMA = ("CREATE TABLE item (name TEXT);" + outbox.SCHEMA,)


class FakeBus:
    """Takes events like the event bus; fails when told to, before or after it has kept them."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, int], str] = {}
        self.failures: list[str] = []

    async def publish(self, epoch: str, first_sequence: int, events: Sequence[Event]) -> int:
        if any(event.resource == "refused" for event in events):
            raise InvalidArgument("not an event")
        failure = self.failures.pop(0) if self.failures else ""
        if failure == "before":
            raise Unavailable("no bus")
        for number, event in enumerate(events, start=first_sequence):
            self.kept.setdefault((epoch, number), event.type)
        if failure == "after":
            raise Unavailable("the answer was lost")
        return first_sequence + len(events) - 1


def event(name: str) -> Event:
    return Event(f"item.{name}", datetime.now(UTC), resource=name, data={"n": 1})


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not check():
            await asyncio.sleep(0.01)


async def add(database: Database, name: str) -> None:
    def work(connection: apsw.Connection) -> None:
        connection.execute("INSERT INTO item VALUES (?)", (name,))
        outbox.emit(connection, event(name))

    await database.write(work)


async def test_events_when_the_bus_fails_before_or_after_arrive_once_each_in_order(tmp_path: Path) -> None:
    bus = FakeBus()
    bus.failures = ["before", "after", "", "after", "before"]
    async with await Database.open(tmp_path / "test.db", SCHEMA) as database:
        running = asyncio.create_task(keep_running("outbox", Outbox(database, bus, SystemClock()).run, SystemClock()))
        for number in range(20):
            await add(database, f"n{number:02}")
        await until(lambda: len(bus.kept) == 20)
        running.cancel()
    assert list(bus.kept.values()) == [f"item.n{number:02}" for number in range(20)]
    assert [sequence for _, sequence in bus.kept] == list(range(1, 21))


async def test_event_when_the_bus_refuses_it_is_left_out_and_holds_up_no_other(tmp_path: Path) -> None:
    bus = FakeBus()
    async with await Database.open(tmp_path / "test.db", SCHEMA) as database:
        for name in ("first", "refused", "last"):
            await add(database, name)
        running = asyncio.create_task(Outbox(database, bus, SystemClock()).run())
        await until(lambda: "item.last" in bus.kept.values())
        await add(database, "later")
        await until(lambda: "item.later" in bus.kept.values())
        running.cancel()
    assert list(bus.kept.values()) == ["item.first", "item.last", "item.later"]
    assert [sequence for _, sequence in bus.kept] == [1, 3, 4]


async def test_event_when_its_change_fails_is_never_published(tmp_path: Path) -> None:
    bus = FakeBus()
    async with await Database.open(tmp_path / "test.db", SCHEMA) as database:
        running = asyncio.create_task(Outbox(database, bus, SystemClock()).run())

        def fail(connection: apsw.Connection) -> None:
            outbox.emit(connection, event("ghost"))
            raise NotFound("no")

        with pytest.raises(NotFound):
            await database.write(fail)
        await add(database, "real")
        await until(lambda: bus.kept)
        running.cancel()
    assert list(bus.kept.values()) == ["item.real"]
    assert [sequence for _, sequence in bus.kept] == [1], "a change that failed leaves no gap"


async def test_outbox_when_opened_again_goes_on_under_its_epoch(tmp_path: Path) -> None:
    bus = FakeBus()
    for name in ("first", "second"):
        async with await Database.open(tmp_path / "test.db", SCHEMA) as database:
            await add(database, name)
            running = asyncio.create_task(Outbox(database, bus, SystemClock()).run())
            await until(lambda name=name: f"item.{name}" in bus.kept.values())  # type: ignore[misc]  # default binds the loop's value
            running.cancel()
    assert [sequence for _, sequence in bus.kept] == [1, 2]
    assert len({epoch for epoch, _ in bus.kept}) == 1


def test_event_when_kept_as_text_comes_back_the_same() -> None:
    sent = Event("a.b", datetime.now(UTC), "r", "c", "n", "ns", {"x": [1, {"y": None}]})
    assert event_from_json(sent.to_json()) == sent
