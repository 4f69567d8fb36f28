"""``python -m tests.bench.audit``: what the audit record costs a write, and how fast records are written and verified.

The same insert runs in turns with and without a pending record, on one database on this disk, so that whatever else the machine does hits
both alike; alone (each waits for its own flush) and fifty at a time (which share flushes). Prints medians as JSON.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw

from picontroller.core.audit import pending
from picontroller.core.audit.chain import Entry
from picontroller.core.audit.pending import Pending
from picontroller.core.clock import SystemClock
from picontroller.core.store import audit, outbox, pages
from picontroller.core.store.audit import AuditLog
from picontroller.core.store.sqlite import Database

SCHEMA = ("CREATE TABLE notes (text TEXT NOT NULL);" + outbox.SCHEMA + pages.SCHEMA, audit.SCHEMA)
TOGETHER = 50
ENTRY = Entry(
    0,
    "spiffe://d/user/anna",
    "token:" + "1" * 36,
    "192.0.2.7",
    "picontroller.v1.GpioService/WritePins",
    "r" * 36,
    "OK",
    "",
    "q" * 8,
    "0" * 64,
)


def add(connection: apsw.Connection) -> None:
    """Change something."""
    connection.execute("INSERT INTO notes VALUES ('a note of ordinary length, as a resource may have')")


async def plain(database: Database) -> None:
    """Write as background work does."""
    await database.write(add)


async def recorded(database: Database) -> None:
    """Write as a call does."""
    pending.begin(Pending(lambda: replace(ENTRY, time=time.time_ns() // 1000)))
    await database.write(add)


async def seconds(work: Callable[[Database], Awaitable[None]], database: Database, count: int, together: int) -> float:
    """Return the seconds of one write when ``together`` are under way at a time."""
    began = time.perf_counter()
    for _ in range(count // together):
        # Tasks of their own, because each call has its own context.
        await asyncio.gather(*(asyncio.create_task(_run(work, database)) for _ in range(together)))
    return (time.perf_counter() - began) / (count // together * together)


async def _run(work: Callable[[Database], Awaitable[None]], database: Database) -> None:
    await work(database)


async def compare(runs: int, writes: int, records: int) -> dict[str, Any]:
    """Measure."""
    figures: dict[str, Any] = {"runs": runs, "writes": writes}
    with tempfile.TemporaryDirectory() as text:
        async with await Database.open(Path(text) / "data" / "bench.db", SCHEMA) as database:
            log = AuditLog(database, "bench", SystemClock(), "spiffe://d/svc/bench")
            for name, together, count in (("alone", 1, writes), ("shared", TOGETHER, writes * 10)):
                pairs = [
                    (await seconds(plain, database, count, together), await seconds(recorded, database, count, together))
                    for _ in range(runs)
                ]
                figures[f"{name}_plain_us"] = round(statistics.median(without for without, _ in pairs) * 1e6, 1)
                figures[f"{name}_recorded_us"] = round(statistics.median(within for _, within in pairs) * 1e6, 1)
                figures[f"{name}_ratio"] = round(statistics.median(within / without for without, within in pairs), 3)
            began = time.perf_counter()
            for _ in range(records // 500):
                await log.append([ENTRY] * 500)
            figures["batched_records_per_second"] = round(records / (time.perf_counter() - began))
            head = await log.head()
            began = time.perf_counter()
            found = await log.verify(())
            assert found.broken == 0, found.problem
            figures["verified_records_per_second"] = round(head.number / (time.perf_counter() - began))
    return figures


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.audit", description="what the audit record costs a write")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--writes", type=int, default=400)
    parser.add_argument("--records", type=int, default=20_000)
    chosen = parser.parse_args()
    print(json.dumps(asyncio.run(compare(chosen.runs, chosen.writes, chosen.records))))


if __name__ == "__main__":
    main()
