"""One writer, shared commits, nothing half done."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import apsw
import pytest

from picontroller.core.errors import DataLoss, FailedPrecondition, Internal, NotFound, QuotaExceeded, Unavailable
from picontroller.core.store.sqlite import Database

SCHEMA = ("CREATE TABLE item (name TEXT PRIMARY KEY, filler BLOB);",)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with await Database.open(tmp_path / "state" / "test.db", SCHEMA) as opened:
        yield opened


def insert(name: str, filler: bytes = b"") -> Callable[[apsw.Connection], None]:
    return lambda connection: connection.execute("INSERT INTO item VALUES (?, ?)", (name, filler)) and None


async def names(database: Database) -> list[str]:
    return await database.read(lambda c: [str(row[0]) for row in c.execute("SELECT name FROM item ORDER BY name")])


async def test_work_when_it_raises_changes_nothing_and_leaves_its_neighbours_alone(database: Database) -> None:
    def fail(connection: apsw.Connection) -> None:
        connection.execute("INSERT INTO item VALUES ('half', NULL)")
        raise NotFound("no such thing")

    outcomes = await asyncio.gather(database.write(insert("a")), database.write(fail), database.write(insert("b")), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), NotFound, type(None)]
    assert await names(database) == ["a", "b"]


async def test_writes_when_many_wait_share_commits(database: Database) -> None:
    commits = 0

    def count() -> None:
        nonlocal commits
        commits += 1

    database.on_commit(count)
    await asyncio.gather(*(database.write(insert(f"{number:03}")) for number in range(300)))
    await asyncio.sleep(0)
    assert len(await names(database)) == 300
    assert commits < 100


async def test_caller_when_cancelled_leaves_the_work_whole(database: Database) -> None:
    task = asyncio.create_task(database.write(insert("a")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await database.write(insert("b"))
    assert await names(database) == ["a", "b"]


async def test_file_when_open_elsewhere_is_refused(database: Database) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path; from picontroller.core.store.sqlite import Database\n"
        "asyncio.run(Database.open(Path(sys.argv[1]), ()))"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script, str(database.path)], capture_output=True, text=True, timeout=30
    )
    assert done.returncode != 0
    assert "is in use by another process" in done.stderr


async def test_schema_when_newer_or_foreign_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    async with await Database.open(path, (*SCHEMA, "CREATE TABLE more (x);")):
        pass
    with pytest.raises(FailedPrecondition, match="schema version 2, this program knows 1"):
        await Database.open(path, SCHEMA)
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = foreign.read_bytes()
    with pytest.raises(FailedPrecondition, match="belongs to another program"):
        await Database.open(foreign, SCHEMA)
    assert foreign.read_bytes()[100:] == before[100:]


async def test_migration_when_it_fails_keeps_the_old_schema(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    async with await Database.open(path, SCHEMA) as database:
        await database.write(insert("kept"))
    with pytest.raises(apsw.SQLError):
        await Database.open(path, (*SCHEMA, "CREATE TABLE more (x); INSERT INTO nowhere VALUES (1);"))
    async with await Database.open(path, SCHEMA) as database:
        assert await names(database) == ["kept"]


async def test_file_when_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    path.write_bytes(b"this is not a database" * 500)
    with pytest.raises(DataLoss):
        await Database.open(path, SCHEMA)
    assert path.read_bytes().startswith(b"this is not")


async def test_disk_when_full_refuses_and_recovers(tmp_path: Path) -> None:
    async with await Database.open(tmp_path / "test.db", SCHEMA) as database:
        await database.write(lambda c: c.execute("PRAGMA max_page_count = 20") and None)
        with pytest.raises(QuotaExceeded, match="full"):
            await database.write(insert("large", b"x" * 200_000))
        await database.write(insert("small"))
        assert await names(database) == ["small"]


def insert_urgently(name: str, reserve: Path) -> Callable[[apsw.Connection], None]:
    """Return work that finds a larger disk once the reserve is gone."""

    def work(connection: apsw.Connection) -> None:
        if not reserve.exists():
            connection.execute("PRAGMA max_page_count = 100000")
        connection.execute("INSERT INTO item VALUES (?, ?)", (name, b"x" * 200_000))

    return work


async def test_disk_when_full_has_room_for_what_is_urgent_alone_and_reserves_it_again(tmp_path: Path) -> None:
    reserve = tmp_path / "test.reserve"
    async with await Database.open(tmp_path / "test.db", SCHEMA, reserve_bytes=65536) as database:
        assert reserve.stat().st_blocks * 512 >= 65536
        assert reserve.stat().st_mode & 0o777 == 0o600
        await database.write(lambda c: c.execute("PRAGMA max_page_count = 20") and None)
        with pytest.raises(QuotaExceeded, match="full"):
            await database.write(insert("large", b"x" * 200_000))
        assert reserve.exists(), "only what is urgent may have it"
        outcomes = await asyncio.gather(
            database.write(insert("other", b"x" * 200_000)),
            database.write(insert_urgently("urgent", reserve), urgent=True),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [QuotaExceeded, type(None)]
        assert await names(database) == ["urgent"]
        assert not reserve.exists()
        await database.write(insert("small"))
        assert reserve.exists()


async def test_disk_when_full_and_the_reserve_is_spent_refuses_what_is_urgent_and_lives(tmp_path: Path) -> None:
    async with await Database.open(tmp_path / "test.db", SCHEMA, reserve_bytes=65536) as database:
        await database.write(lambda c: c.execute("PRAGMA max_page_count = 20") and None)
        for _ in range(2):
            with pytest.raises(QuotaExceeded, match="full"):
                await database.write(insert("large", b"x" * 200_000), urgent=True)
        await database.write(insert("small"))
        assert await names(database) == ["small"]


async def test_work_when_it_breaks_a_constraint_is_our_mistake_and_the_writer_lives(database: Database) -> None:
    await database.write(insert("a"))
    outcomes = await asyncio.wait_for(asyncio.gather(database.write(insert("a")), database.write(insert("b")), return_exceptions=True), 10)
    assert [type(outcome) for outcome in outcomes] == [Internal, type(None)]
    await asyncio.wait_for(database.write(insert("c")), 10)
    assert await names(database) == ["a", "b", "c"]
    assert not database.failed


@pytest.mark.parametrize("statement", ["ROLLBACK", "COMMIT", "no such statement"])
async def test_work_when_it_ruins_its_transaction_is_not_acknowledged_and_the_writer_lives(database: Database, statement: str) -> None:
    outcomes = await asyncio.wait_for(
        asyncio.gather(
            database.write(insert("before")),
            database.write(lambda c: c.execute(statement).execute("INSERT INTO nowhere VALUES (1)") and None),
            return_exceptions=True,
        ),
        10,
    )
    assert isinstance(outcomes[1], Exception)
    acknowledged = ["before"] if outcomes[0] is None else []
    assert set(acknowledged) <= set(await names(database))
    await asyncio.wait_for(database.write(insert("after")), 10)
    assert "after" in await names(database)


async def test_database_when_closed_says_so(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "test.db", SCHEMA)
    await database.close()
    with pytest.raises(Unavailable):
        await database.write(insert("late"))


def test_sqlite_is_newer_than_the_wal_reset_bug() -> None:
    assert tuple(map(int, apsw.sqlite_lib_version().split("."))) >= (3, 51, 3)
