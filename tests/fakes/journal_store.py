"""A journal's store in memory: a list, and knobs to make it slow, failing or forgetful."""

import asyncio
import json
from collections.abc import Callable

from picontroller.core.errors import Error, FailedPrecondition, InvalidArgument
from picontroller.events.entries import OLDEST, Appended, Bounds, Entry, Loss, Record, Slice, Submission
from picontroller.events.filters import Filter

EPOCH = "6f2c1d1e-8a51-4a3b-9f63-0d6a3f7f2b11"
KEY = bytes(range(16))


class FakeJournalStore:
    """Implements ``events.journal.Store``, ``events.listing.PageTokens`` and ``events.retention.Compactable``."""

    def __init__(self) -> None:
        self.epoch = EPOCH
        self.key = KEY
        self.entries: list[Entry] = []
        self.times: dict[int, int] = {}
        self.last = 0
        self.compacted = 0
        self.sources: dict[tuple[str, str], tuple[int, int]] = {}
        self.reads = 0
        self.failure: Error | None = None
        self.failures: dict[int, Error] = {}  # by the first sequence of the submission that fails
        self.gate = asyncio.Event()
        self.gate.set()

    async def append(self, submission: Submission, *, time: int, gapless: bool, describe_loss: Callable[[Loss], Record]) -> Appended:
        """Append, once the gate is open and unless a failure is set."""
        await self.gate.wait()
        if failure := self.failure or self.failures.get(submission.first_sequence):
            raise failure
        key, first = (submission.source, submission.source_epoch), submission.first_sequence
        known = self.sources.get(key)
        last, position = known or (first - 1, 0)
        if gapless and (known is None or first > last + 1):
            raise FailedPrecondition("gap", reason="SEQUENCE_GAP", metadata={"last_sequence": str(last if known else 0)})
        fresh = [r for n, r in enumerate(submission.records, start=first) if n > last]
        if not fresh:
            return Appended(last, position, ())
        if first > last + 1:
            fresh.insert(0, describe_loss(Loss(*key, last + 1, first - 1)))
        added = tuple(Entry(self.last + index, record) for index, record in enumerate(fresh, start=1))
        self.entries += added
        self.times |= {entry.sequence: time for entry in added}
        self.last += len(added)
        self.sources[key] = (first + len(submission.records) - 1, self.last)
        return Appended(self.sources[key][0], self.last, added)

    async def after(self, position: int, chosen: Filter, limit: int, largest_bytes: int) -> Slice:
        """Read everything that fits."""
        self.reads += 1
        bounds = await self.bounds()
        if position == OLDEST:
            position = bounds.compacted
        if position < bounds.compacted:
            return Slice((), position, bounds)
        found, total = [], 0
        for entry in chosen.choose(entry for entry in self.entries if entry.sequence > position):
            total += entry.size
            if len(found) == limit or (found and total > largest_bytes):
                return Slice(found, found[-1].sequence, bounds)
            found.append(entry)
        return Slice(found, max(position, self.last), bounds)

    async def bounds(self) -> Bounds:
        """Return what is there."""
        return Bounds(self.compacted, self.last)

    async def compact(self, *, older_than: int, rows: int, megabytes: int, limit: int) -> int:
        """Forget by age and number; a list has no size on disk."""
        done = 0
        while self.entries and done < limit:
            sequence = self.entries[0].sequence
            if self.times[sequence] >= older_than and self.last - sequence < rows:
                break
            del self.entries[0]
            self.compacted = sequence
            done += 1
        return done

    async def seal_page(self, listing: list[object], key: str) -> str:
        """Return a token that says what it is."""
        return json.dumps([listing, key])

    async def open_page(self, listing: list[object], token: str) -> str:
        """Return the key of a token of this listing."""
        if not token:
            return ""
        theirs, key = json.loads(token)
        if theirs != listing:
            raise InvalidArgument("another listing", reason="PAGE_TOKEN_INVALID")
        return str(key)
