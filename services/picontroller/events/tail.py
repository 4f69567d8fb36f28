"""The newest entries in memory, shared by all subscribers, so that those who keep up never touch the disk.

It is a cache and nothing more: entries lie without gaps, and one that would leave a gap makes it begin anew. Its size is bounded by number
and by bytes, whatever readers do; who needs an older entry reads from the store.
"""

from collections.abc import Sequence

from picontroller.events.entries import Entry


class Tail:
    """A run of consecutive entries up to the newest."""

    def __init__(self, largest_count: int, largest_bytes: int) -> None:
        self._largest_count = largest_count
        self._largest_bytes = largest_bytes
        self._entries: list[Entry] = []
        self._dropped = 0  # entries at the front of the list that count as gone; the list is cut when half of it is
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries) - self._dropped

    def extend(self, entries: Sequence[Entry]) -> None:
        """Add entries that follow each other. What is there already is ignored; a gap makes them the only ones."""
        if not entries:
            return
        if len(self):
            following = self._entries[-1].sequence + 1
            if entries[0].sequence > following:
                self._clear()
            else:
                entries = entries[following - entries[0].sequence :]
        self._entries.extend(entries)
        self.bytes += sum(entry.size for entry in entries)
        while len(self) and (len(self) > self._largest_count or self.bytes > self._largest_bytes):
            self.bytes -= self._entries[self._dropped].size
            self._dropped += 1
        if self._dropped * 2 >= len(self._entries):
            del self._entries[: self._dropped]
            self._dropped = 0

    def after(self, position: int, limit: int, largest_bytes: int) -> Sequence[Entry] | None:
        """Return entries above ``position``, at most ``limit`` and about ``largest_bytes``, at least one when there is one.

        None when the tail begins later, so that the store has to be asked.
        """
        if not len(self) or position + 1 < self._entries[self._dropped].sequence:
            return None
        start = self._dropped + position + 1 - self._entries[self._dropped].sequence
        found = self._entries[start : start + limit]
        total = 0
        for index, entry in enumerate(found):
            total += entry.size
            if total > largest_bytes and index:
                return found[:index]
        return found

    def _clear(self) -> None:
        self._entries.clear()
        self._dropped = 0
        self.bytes = 0
