"""Taking turns, and finishing what was begun.

Whoever moves a line holds its resource's turn from reading the resource to writing it back, so that the disk and the agent see changes in
one order. Several turns are taken in the order of their names, which is why two batches can't wait for each other. Work that has begun runs
to its end even when its caller has gone: half of a change is worse than one that nobody waits for.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)


class Turns:
    """Locks by name, made when first wanted and forgotten when nobody wants them. For one event loop."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}
        self._unfinished: set[asyncio.Task[object]] = set()

    def __len__(self) -> int:
        return len(self._locks)

    @asynccontextmanager
    async def of(self, names: Iterable[str]) -> AsyncIterator[None]:
        """Hold the turns of all ``names``; empty names need none."""
        async with AsyncExitStack() as stack:
            for name in sorted({name for name in names if name}):
                await stack.enter_async_context(self._one(name))
            yield

    @asynccontextmanager
    async def _one(self, name: str) -> AsyncIterator[None]:
        lock, waiting = self._locks.get(name) or (asyncio.Lock(), 0)
        self._locks[name] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            _, waiting = self._locks[name]
            if waiting == 1:
                del self._locks[name]
            else:
                self._locks[name] = (lock, waiting - 1)

    async def finish(self, work: Coroutine[object, None, T]) -> T:
        """Return what ``work`` returns. When the caller is cancelled meanwhile, ``work`` goes on and its failure is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._unfinished.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[object]) -> None:
        self._unfinished.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.debug("a change failed", extra={"error": str(error)})  # its caller, if still there, has the error itself

    async def close(self) -> None:
        """Wait until everything that was begun is done."""
        while self._unfinished:
            await asyncio.gather(*self._unfinished, return_exceptions=True)
