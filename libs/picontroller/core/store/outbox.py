"""The outbox: events written in the transaction of the change they tell of, then carried to the event bus in order, at least once.

The event bus recognises what it has by (source, epoch, sequence), so that together it is exactly once.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

import apsw

from picontroller.core import ids
from picontroller.core.clock import Clock
from picontroller.core.errors import InvalidArgument
from picontroller.core.events import Event, event_from_json
from picontroller.core.store.sqlite import Database

log = logging.getLogger(__name__)

SCHEMA = """
CREATE TABLE outbox (sequence INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL);
CREATE TABLE outbox_epoch (epoch TEXT NOT NULL);
"""
BATCH = 500
BATCH_CHARACTERS = 512 * 1024  # a batch larger than a message may be (4 MiB) would be refused for ever, and hold up all behind it
BACKSTOP_SECONDS = 1.0


def emit(connection: apsw.Connection, event: Event) -> None:
    """Add an event to the outbox of the transaction that ``connection`` is in."""
    connection.execute("INSERT INTO outbox (event) VALUES (?)", (event.to_json(),))


class Publisher(Protocol):
    """Where outboxes are emptied to."""

    async def publish(self, epoch: str, first_sequence: int, events: Sequence[Event]) -> int:
        """Return the last sequence of ``epoch`` that is safe, once it is. Raises Unavailable when nobody answers."""
        ...


class Outbox:
    """Carries one database's outbox to a publisher for as long as ``run`` runs."""

    def __init__(self, database: Database, publisher: Publisher, clock: Clock) -> None:
        self._database = database
        self._publisher = publisher
        self._clock = clock
        self._changed = asyncio.Event()
        database.on_commit(self._changed.set)

    async def run(self) -> None:
        """Publish what is there and what comes. Ends only by cancellation or with the publisher's error; run it again then."""
        epoch = await self._database.write(_epoch)
        while True:
            self._changed.clear()
            rows = await self._database.read(_oldest)
            if not rows:
                try:
                    async with asyncio.timeout(BACKSTOP_SECONDS):
                        await self._changed.wait()
                except TimeoutError:
                    pass  # a look now and then costs nothing and forgives a missed notice
                continue
            try:
                done = await self._publisher.publish(epoch, rows[0][0], [event for _, event in rows])
            except InvalidArgument:
                done = await self._publish_singly(epoch, rows)
            await self._database.write(lambda connection, done=done: _forget(connection, done))  # type: ignore[misc]  # default binds the loop's value

    async def _publish_singly(self, epoch: str, rows: Sequence[tuple[int, Event]]) -> int:
        """Publish one by one and leave out what the bus refuses, or one bad event would hold up all others for ever.

        The bus notices the gap in the sequence and tells of it in an event of its own.
        """
        for sequence, event in rows:
            try:
                await self._publisher.publish(epoch, sequence, [event])
            except InvalidArgument as error:
                log.error("the event bus refused an event, which is left out", extra={"type": event.type, "error": error.message})
        return rows[-1][0]


def _epoch(connection: apsw.Connection) -> str:
    found = connection.execute("SELECT epoch FROM outbox_epoch").get
    if found is None:
        found = ids.new_uuid()
        connection.execute("INSERT INTO outbox_epoch VALUES (?)", (found,))
    return str(found)


def _oldest(connection: apsw.Connection) -> list[tuple[int, Event]]:
    found: list[tuple[int, Event]] = []
    total = 0
    for sequence, text in connection.execute("SELECT sequence, event FROM outbox ORDER BY sequence LIMIT ?", (BATCH,)):
        total += len(text)
        if found and total > BATCH_CHARACTERS:
            break
        found.append((int(sequence), event_from_json(str(text))))
    return found


def _forget(connection: apsw.Connection, done: int) -> None:
    connection.execute("DELETE FROM outbox WHERE sequence <= ?", (done,))
