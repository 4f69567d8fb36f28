"""Pages of past events, oldest first."""

from dataclasses import dataclass
from typing import Protocol

from picontroller.events.cursors import START
from picontroller.events.entries import Entry
from picontroller.events.filters import Filter
from picontroller.events.journal import Journal

NAME = "events"
PAGE_BYTES = 1024 * 1024


class PageTokens(Protocol):
    """Seals where a listing goes on."""

    async def seal_page(self, listing: list[object], key: str) -> str:
        """Return the token of the page that begins after ``key``."""
        ...

    async def open_page(self, listing: list[object], token: str) -> str:
        """Return the key in a token, empty for an empty token. Raises InvalidArgument for one that was not sealed for this listing."""
        ...


@dataclass(frozen=True, slots=True)
class Page:
    """Entries, and the token of the next page, empty on the last."""

    entries: tuple[Entry, ...]
    next_page_token: str


class Listing:
    """Answers pages from a journal."""

    def __init__(self, journal: Journal, tokens: PageTokens) -> None:
        self._journal = journal
        self._tokens = tokens

    async def page(self, chosen: Filter, after: str, size: int, token: str) -> Page:
        """Return the chosen entries after the cursor ``after`` (the oldest kept when empty), or the page that ``token`` names.

        A page may hold fewer than ``size`` when its events are large. Raises InvalidArgument for a token of another listing, and what
        ``Journal.locate`` raises.
        """
        listing: list[object] = [NAME, after, *chosen.listing()]
        # The key is a cursor, not a number: tokens can be read by whoever holds them, and must not tell how many events a filter hides.
        position = await self._journal.locate(await self._tokens.open_page(listing, token) or after, absent=START)
        entries: list[Entry] = []
        total = 0
        while batches := await self._journal.read(position, chosen):
            for batch in batches:
                for entry in batch.entries:
                    total += entry.size
                    if len(entries) == size or (entries and total > PAGE_BYTES):
                        key = self._journal.cursors.seal(entries[-1].sequence)
                        return Page(tuple(entries), await self._tokens.seal_page(listing, key))
                    entries.append(entry)
                position = batch.position
        return Page(tuple(entries), "")
