"""A SQLite file with one writer.

All changes go through one thread and one connection. Whatever is waiting when a transaction begins shares its commit, each piece of work in
a savepoint of its own: on an SD card a commit costs a flush of 5-50 ms, so this is what makes the difference between 50 and thousands of
writes a second, at no cost in safety (``synchronous=FULL``: what was acknowledged survives a power cut if the disk honours flushes).

apsw carries its own SQLite, newer than 3.51.3; Debian 12's 3.40 can corrupt a WAL file that two connections checkpoint.
"""

import asyncio
import concurrent.futures
import fcntl
import logging
import os
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import apsw

from picontroller.core.audit import pending
from picontroller.core.audit.chain import Entry
from picontroller.core.audit.pending import NotTheChange, Pending
from picontroller.core.errors import DataLoss, Error, FailedPrecondition, Internal, QuotaExceeded, Unavailable
from picontroller.core.files import make_private_folder
from picontroller.core.store.migrations import migrate
from picontroller.core.store.reserve import Reserve

T = TypeVar("T")
log = logging.getLogger(__name__)

LARGEST_BATCH = 200
DISK_FULL = "DISK_FULL"
_SETTINGS = (
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA temp_store=MEMORY;"
    "PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; PRAGMA journal_size_limit=67108864"
)


class _Job:
    """One piece of work with the future of who waits for it, and the audit record that its change takes along."""

    __slots__ = ("error", "future", "loop", "pending", "recorded", "result", "urgent", "work")

    def __init__(self, work: Callable[[apsw.Connection], Any], loop: asyncio.AbstractEventLoop, *, urgent: bool) -> None:
        self.work = work
        self.urgent = urgent
        self.pending: Pending | None = None
        self.recorded = False
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.result: Any = None
        self.error: BaseException | None = None

    def finish(self) -> None:
        """Hand the outcome to the waiting task, in its own thread."""
        try:
            self.loop.call_soon_threadsafe(self._resolve)
        except RuntimeError:  # the loop is gone: nobody waits any more
            log.debug("a database job finished after its loop had closed")

    def forget_record(self) -> None:
        """Take note that the record was taken back with the transaction."""
        if self.recorded and self.pending is not None:
            self.pending.recorded = self.recorded = False

    def _resolve(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Database:
    """One SQLite file. Open it with ``await Database.open(…)`` and close it, or use it as an asynchronous context manager.

    A second process that opens the same file is refused. ``failed`` turns true, for good, when the disk reports an I/O error: after a
    failed flush nobody knows what is on disk, so nothing is acknowledged any more and the process should end and open the file anew.
    ``record``, when somebody set it, writes the audit record of the first change of each call, in the transaction of that change.
    """

    def __init__(self, path: Path, connection: apsw.Connection, lock: int, reserve: Reserve) -> None:
        self.path = path
        self.failed = False
        self.record: Callable[[apsw.Connection, Entry], None] | None = None
        self._connection = connection
        self._lock = lock
        self._reserve = reserve
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._listeners: list[Callable[[], None]] = []
        self._writer = threading.Thread(target=self._write_forever, name=f"writer-{path.stem}", daemon=True)
        self._local = threading.local()
        self._readers = concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix=f"reader-{path.stem}")
        self._reader_connections: list[apsw.Connection] = []
        self._closed = False
        self._writer.start()

    @classmethod
    async def open(cls, path: Path, scripts: Sequence[str], *, reserve_bytes: int = 0) -> Self:
        """Open ``path``, make it if it is not there, and bring it to the newest schema.

        ``reserve_bytes`` of the disk are kept in ``<name>.reserve`` beside it, to be given up for urgent changes when the disk is full.

        Raises FailedPrecondition when another process has it open, when it belongs to another program or a newer release, and DataLoss
        when it is damaged (it is left as it is).
        """
        return await asyncio.to_thread(cls._open, path, scripts, reserve_bytes)

    @classmethod
    def _open(cls, path: Path, scripts: Sequence[str], reserve_bytes: int) -> Self:
        try:
            make_private_folder(path.parent)
            lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FailedPrecondition(f"{path.parent} can't be written: {error.strerror}", reason="FOLDER_UNWRITABLE") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise FailedPrecondition(f"{path} is in use by another process; stop that first", reason="DATABASE_IN_USE") from error
        try:
            connection = apsw.Connection(str(path))
            connection.set_busy_timeout(5000)
            connection.execute(_SETTINGS).fetchall()  # apsw stops at each statement that answers until its answer is read
            if connection.pragma("quick_check") != "ok":
                raise DataLoss(f"{path} is damaged; restore a backup", reason="DATABASE_DAMAGED")
            migrate(connection, scripts)
            reserve = Reserve(path.with_suffix(".reserve"), reserve_bytes)
            reserve.make()
        except (apsw.NotADBError, apsw.CorruptError) as error:
            os.close(lock)
            raise DataLoss(f"{path} is damaged; restore a backup", reason="DATABASE_DAMAGED") from error
        except BaseException:
            os.close(lock)
            raise
        return cls(path, connection, lock, reserve)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` in the event loop after every commit that changed something."""
        self._listeners.append(listener)

    async def write(self, work: Callable[[apsw.Connection], T], *, prepares: bool = False, urgent: bool = False) -> T:
        """Run ``work`` in the writer's thread and return its result once it is on disk.

        All of it happens or, when it raises, nothing. A cancelled caller changes nothing about that: the work is done or undone as a whole.
        ``work`` must only use the connection it is given, must not begin or end transactions, and must be quick. Work that only
        ``prepares`` what its caller asked for, or takes that back, leaves the audit record to the write that does it. Work that is
        ``urgent`` may be run a second time, after the first was taken back, in the room that was reserved for it.
        """
        if self._closed or self.failed:
            raise Unavailable(f"the database {self.path.name} is closed", reason="DATABASE_CLOSED")
        job = _Job(work, asyncio.get_running_loop(), urgent=urgent)
        if self.record is not None and not prepares and (started := pending.current()) is not None:
            started.entry()  # here, because the request belongs to this thread
            job.pending = started
        self._jobs.put(job)
        result: T = await asyncio.shield(job.future)
        return result

    async def read(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run ``work`` with a read-only connection in a reader's thread: one consistent view of what is committed."""
        if self._closed:
            raise Unavailable(f"the database {self.path.name} is closed", reason="DATABASE_CLOSED")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    def _read(self, work: Callable[[apsw.Connection], T]) -> T:
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READONLY)
            connection.set_busy_timeout(5000)
            connection.execute("PRAGMA query_only=ON")
            self._local.connection = connection
            self._reader_connections.append(connection)
        try:
            connection.execute("BEGIN")
            try:
                return work(connection)
            finally:
                connection.execute("ROLLBACK")
        except apsw.Error as error:
            raise self._translated(error) from error

    async def close(self) -> None:
        """Finish what is queued, then close the file."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._readers.shutdown)
        for connection in self._reader_connections:
            connection.close()
        self._connection.close()
        os.close(self._lock)

    def _write_forever(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            batch = [job]
            while len(batch) < LARGEST_BATCH:
                try:
                    more = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    self._jobs.put(None)
                    break
                batch.append(more)
            try:
                self._commit(batch)
                self._retry_urgent(batch)
            except Exception as error:  # not even taking back worked: whoever waits must hear of it, and the writer must live
                self.failed = True
                log.critical("the writer could not take back a transaction", exc_info=error, extra={"database": str(self.path)})
            changed = any(job.error is None for job in batch)
            for job in batch:
                job.finish()
            if changed and not self.failed:
                for listener in self._listeners:
                    try:
                        batch[0].loop.call_soon_threadsafe(listener)
                    except RuntimeError:
                        log.debug("a commit was not announced because its loop had closed")

    def _retry_urgent(self, batch: list[_Job]) -> None:
        """Run what is urgent again, alone, if the disk was full and room could be made."""
        full = [job for job in batch if job.urgent and isinstance(job.error, QuotaExceeded) and job.error.reason == DISK_FULL]
        if full and self._reserve.give_up():
            for job in full:
                job.error = None
            self._commit(full)
        elif any(job.error is None for job in batch):
            self._reserve.make()

    def _commit(self, batch: list[_Job]) -> None:
        """Run all jobs in one transaction; when it fails as a whole, every job fails with it."""
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in batch:
                connection.execute("SAVEPOINT job")
                before = connection.total_changes()
                try:
                    job.result = job.work(connection)
                    if job.pending is not None and connection.total_changes() != before:
                        self._record(connection, job, job.pending)
                    connection.execute("RELEASE job")
                except Exception as error:
                    job.forget_record()
                    if connection.in_transaction:
                        connection.execute("ROLLBACK TO job; RELEASE job")
                    if isinstance(error, apsw.FullError | apsw.IOError) or not connection.in_transaction:
                        raise  # SQLite took back more than this job: nothing of the batch may be acknowledged
                    job.error = self._translated(error) if isinstance(error, apsw.Error) else error
            connection.execute("COMMIT")
        except Exception as error:
            translated = self._translated(error) if isinstance(error, apsw.Error) else error
            for job in batch:
                job.forget_record()
                job.error = translated
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _record(self, connection: apsw.Connection, job: _Job, pending: Pending) -> None:
        """Write the audit record of the call that ``job`` belongs to, unless an earlier change of the call took it along."""
        if self.record is not None and not pending.recorded and not isinstance(job.result, NotTheChange):
            self.record(connection, pending.entry())
            pending.recorded = job.recorded = True

    def _translated(self, error: BaseException) -> Error:
        name = self.path.name
        if isinstance(error, apsw.FullError):
            return QuotaExceeded(f"the disk of {name} is full; nothing was changed", reason=DISK_FULL)
        if isinstance(error, apsw.CorruptError | apsw.NotADBError):
            self.failed = True
            return DataLoss(f"the database {name} is damaged", reason="DATABASE_DAMAGED")
        if isinstance(error, apsw.IOError):
            self.failed = True
            log.critical("the disk failed, nothing is acknowledged any more", extra={"database": str(self.path), "error": str(error)})
            return Unavailable(f"the disk of {name} failed; nothing was acknowledged", reason="DISK_FAILED")
        if isinstance(error, apsw.BusyError | apsw.LockedError):
            return Unavailable(f"the database {name} is busy", reason="DATABASE_BUSY")
        # Everything else is our mistake (a constraint that nobody expected) or a disk that changed under us (read-only, out of files).
        log.error("a database operation failed unexpectedly", exc_info=error, extra={"database": str(self.path)})
        return Internal(f"the database {name} could not do it; the log has the particulars", reason="DATABASE_ERROR")
