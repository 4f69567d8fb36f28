"""Which events a reader wants.

The store says the same in SQL; ``tests/contract/events`` holds the two together.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from picontroller.events.entries import Entry, Record


def glob_expression(glob: str) -> str:
    """Return a type glob as a regular expression whose time is linear in the text for each chunk between stars.

    Every chunk is matched at the first place it fits and never tried elsewhere (an atomic group), which is right for stars that match
    anything; ``.*a.*a.*a…`` without that lets one subscriber stop the process.
    """
    first, *rest = re.sub(r"\*+", "*", glob).split("*")
    if not rest:
        return re.escape(first)
    *middle, last = rest
    return re.escape(first) + "".join(f"(?>.*?{re.escape(chunk)})" for chunk in middle if chunk) + ".*" + re.escape(last)


@dataclass(frozen=True)
class Filter:
    """Chooses events: within a field any of the values, and all of the fields. An empty field matches everything.

    ``types`` are globs in which ``*`` stands for any run of characters; the others are compared as a whole. Whatever else is chosen, types
    that begin with one of ``hidden`` are left out: its reader may not know of them.
    """

    types: tuple[str, ...] = ()
    resources: frozenset[str] = field(default_factory=frozenset)
    node_ids: frozenset[str] = field(default_factory=frozenset)
    namespaces: frozenset[str] = field(default_factory=frozenset)
    hidden: tuple[str, ...] = ()

    @cached_property
    def chooses_all(self) -> bool:
        """Whether every event is wanted."""
        return not (self.types or self.resources or self.node_ids or self.namespaces or self.hidden)

    @cached_property
    def _type_pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(f"(?:{glob_expression(glob)})" for glob in self.types), re.DOTALL)

    def matches(self, record: Record) -> bool:
        """Return whether an event is wanted."""
        return (
            (not self.resources or record.resource in self.resources)
            and (not self.node_ids or record.node_id in self.node_ids)
            and (not self.namespaces or record.namespace in self.namespaces)
            and (not self.types or self._type_pattern.fullmatch(record.type) is not None)
            and not record.type.startswith(self.hidden)
        )

    def choose(self, entries: Iterable[Entry]) -> list[Entry]:
        """Return the entries that are wanted, in their order."""
        if self.chooses_all:
            return list(entries)
        return [entry for entry in entries if self.matches(entry.record)]

    def listing(self) -> list[list[str]]:
        """Return the filter as plain lists that are equal for equal filters: what page tokens are bound to."""
        chosen = [sorted(self.types), sorted(self.resources), sorted(self.node_ids), sorted(self.namespaces)]
        return [*chosen, sorted(self.hidden)] if self.hidden else chosen


EVERYTHING = Filter()
