"""The journal: the one order of all events, appended by sources and read by position.

A reader's position is all that is known of it. Nothing is queued for anybody: who keeps up reads the tail in memory, who doesn't reads the
store, and either way the next entry is the one with the next sequence. That is why no reader can miss an event, see one twice or fill the
memory.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from picontroller.core.clock import Clock
from picontroller.core.errors import OutOfRange, Unavailable
from picontroller.events.cursors import START, Cursors
from picontroller.events.entries import OLDEST, Appended, Batch, Bounds, Loss, Record, Slice, Submission
from picontroller.events.filters import Filter
from picontroller.events.tail import Tail

log = logging.getLogger(__name__)

# How much one reader takes at a time. A hundred events a message carry most of what larger ones would, and leave the loop to others.
MESSAGE_EVENTS = 100
READ_EVENTS = 500
READ_BYTES = 512 * 1024
# What may wait for the disk before sources are told to come back: a stalled disk must not fill the memory.
PENDING_BYTES = 64 * 1024 * 1024


class Store(Protocol):
    """Where the journal is kept. ``SqliteStore`` is the one that lasts."""

    async def append(self, submission: Submission, *, time: int, gapless: bool, describe_loss: Callable[[Loss], Record]) -> Appended:
        """Add what is new of ``submission`` and return once it is on disk; all of it is added or nothing.

        Events up to the source's last sequence are known and skipped. Beyond a gap within a known source epoch: with ``gapless`` raises
        FailedPrecondition, else an entry made by ``describe_loss`` stands for what is missing. ``time`` is in Unix milliseconds.
        """
        ...

    async def after(self, position: int, chosen: Filter, limit: int, largest_bytes: int) -> Slice:
        """Return entries above ``position`` (or ``OLDEST``): at most ``limit``, about ``largest_bytes``, from one consistent view."""
        ...

    async def bounds(self) -> Bounds:
        """Return what is there."""
        ...


class Journal:
    """Appends and reads. Everything but the store's disk work happens in the event loop."""

    def __init__(self, store: Store, cursors: Cursors, tail: Tail, clock: Clock, describe_loss: Callable[[Loss], Record]) -> None:
        self.tail = tail
        self.cursors = cursors
        self._store = store
        self._clock = clock
        self._describe_loss = describe_loss
        self._last = 0
        self._stirred = asyncio.Event()
        self._appending: set[asyncio.Task[Appended]] = set()
        self._pending_bytes = 0

    def submit(self, submission: Submission, *, gapless: bool = False) -> asyncio.Task[Appended]:
        """Queue an append behind those submitted before and return its task, which nobody but the journal may cancel.

        What is on disk must reach the subscribers even when the source has gone. Raises Unavailable when too much waits for the disk.
        """
        if self._pending_bytes > PENDING_BYTES:
            raise Unavailable("too many events wait for the disk", reason="JOURNAL_BUSY", retry_after=1.0)
        task = asyncio.get_running_loop().create_task(self._append(submission, gapless=gapless), name="append to the journal")
        self._appending.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Appended]) -> None:
        self._appending.discard(task)
        if not task.cancelled():
            task.exception()  # whoever awaits the task gets it; a source that has gone needs no complaint in the log

    async def publish(self, submission: Submission) -> Appended:
        """Append and return once it is on disk. A cancelled caller changes nothing about that."""
        return await asyncio.shield(self.submit(submission))

    async def _append(self, submission: Submission, *, gapless: bool) -> Appended:
        self._pending_bytes += submission.size
        try:
            now = int(self._clock.now().timestamp() * 1000)
            appended = await self._store.append(submission, time=now, gapless=gapless, describe_loss=self._describe_loss)
        finally:
            self._pending_bytes -= submission.size
        if appended.entries:
            self.tail.extend(appended.entries)
            self._last = max(self._last, appended.position)
            self.stir()
        return appended

    def stir(self) -> None:
        """Wake all who wait, so that they look at the clock."""
        stirred, self._stirred = self._stirred, asyncio.Event()
        stirred.set()

    async def stirring(self, position: int) -> None:
        """Return when there may be an entry above ``position``, or when everybody was stirred."""
        if self._last <= position:
            await self._stirred.wait()

    async def read(self, position: int, chosen: Filter) -> Sequence[Batch]:
        """Return what comes next above ``position``, in batches fit for one message each; the last may be empty of entries.

        No batches at all mean that nothing is there yet. Raises OutOfRange when what comes next is no longer kept.
        """
        remembered = self.tail.after(position, MESSAGE_EVENTS, READ_BYTES)
        if remembered is not None:
            return [Batch(chosen.choose(remembered), remembered[-1].sequence)] if remembered else []
        found = await self._store.after(position, chosen, READ_EVENTS, READ_BYTES)
        if OLDEST < position < found.bounds.compacted:
            raise self._out_of_range("what comes after the cursor is no longer kept", "CURSOR_COMPACTED", found.bounds)
        if found.position == position:
            return []
        runs = [found.entries[start : start + MESSAGE_EVENTS] for start in range(0, len(found.entries), MESSAGE_EVENTS)] or [()]
        return [*(Batch(run, run[-1].sequence) for run in runs[:-1]), Batch(runs[-1], found.position)]

    async def locate(self, after: str, *, absent: str = "") -> int:
        """Return the position of a cursor: the newest for an empty one, ``OLDEST`` for ``start``.

        ``absent`` says what an empty one means instead. Raises InvalidArgument for what is no cursor and OutOfRange for one that points
        outside what is kept, with ``oldest`` in its metadata: the cursor to go on with by those who can bear the loss.
        """
        after = after or absent
        if after == START:
            return OLDEST
        bounds = await self._store.bounds()
        if not after:
            return bounds.last
        position = self.cursors.open(after)
        if position is None:
            raise self._out_of_range("the cursor belongs to another journal: this one was made anew", "CURSOR_EPOCH", bounds)
        if position < 0:
            raise self._out_of_range("the cursor lies before the first event", "CURSOR_NEGATIVE", bounds)
        if position > bounds.last:
            raise self._out_of_range("the cursor lies ahead of the newest event", "CURSOR_FUTURE", bounds)
        if position < bounds.compacted:
            raise self._out_of_range("what comes after the cursor is no longer kept", "CURSOR_COMPACTED", bounds)
        return position

    async def settle(self) -> None:
        """Return once all that was submitted is on disk or has failed."""
        await asyncio.gather(*self._appending, return_exceptions=True)

    def _out_of_range(self, message: str, reason: str, bounds: Bounds) -> OutOfRange:
        return OutOfRange(message, reason=reason, metadata={"oldest": self.cursors.seal(bounds.compacted)})
