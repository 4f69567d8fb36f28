"""One thread that owns what must not be touched by two: it runs pieces of work in their order, and reads from files when they are ready.

Work that has begun runs to its end. Whoever waits for it may be cancelled meanwhile; work that has not begun is then dropped.
"""

import asyncio
import logging
import os
import queue
import select
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple, TypeVar

from picontroller.core.errors import Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")


class Reader(NamedTuple):
    """What is done with a descriptor: ``read`` when it is ready, ``failed`` once when that raised. Neither blocks."""

    read: Callable[[], None]
    failed: Callable[[Exception], None]


class Worker:
    """The thread. ``watch`` and ``unwatch`` are called within its work only."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._bell, select.POLLIN)
        self._readers: dict[int, Reader] = {}
        self._mutex = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def perform(self, work: Callable[[], T]) -> T:
        """Run ``work`` in the thread and return what it returns, or raise what it raises. Raises Unavailable after ``close``."""
        future: Future[T] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = work()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._mutex:
            if self._closed:
                raise Unavailable("the GPIO driver is closed", reason="DRIVER_CLOSED")
            self._jobs.put(job)
            os.eventfd_write(self._bell, 1)
        return await asyncio.wrap_future(future)

    def watch(self, descriptor: int, read: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        """Call ``read`` in the thread whenever ``descriptor`` has something to read; when that raises, stop and call ``failed``."""
        self._readers[descriptor] = Reader(read, failed)
        self._poll.register(descriptor, select.POLLIN)

    def unwatch(self, descriptor: int) -> None:
        """Stop watching. Nothing happens when nobody watches."""
        if self._readers.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    async def close(self) -> None:
        """End the thread after all work that was given to it."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
            os.eventfd_write(self._bell, 1)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
        os.close(self._bell)

    def _run(self) -> None:
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor != self._bell:
                    self._read(descriptor)
                    continue
                os.eventfd_read(self._bell)
                if not self._work():
                    return

    def _work(self) -> bool:
        """Do all work that waits; return whether there may come more."""
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return True
            if job is None:
                return False
            job()

    def _read(self, descriptor: int) -> None:
        reader = self._readers.get(descriptor)
        if reader is None:  # given up by work that ran since the poll
            return
        try:
            reader.read()
        except Exception as error:
            log.exception("a descriptor can't be read any more", extra={"descriptor": descriptor})
            self.unwatch(descriptor)
            reader.failed(error)
