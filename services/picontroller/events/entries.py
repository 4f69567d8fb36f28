"""The nouns of the journal: what is handed in, what is kept, and what is read back.

The journal looks at the few fields that filters know. The event itself is ``body``, a serialised ``v1.Event`` without a cursor, which
nobody behind the door unpacks again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# Counted on top of a body when memory is bounded: measured cost of the objects around it.
OVERHEAD_BYTES = 600
LARGEST_SEQUENCE = 2**63 - 1
# The position before the oldest entry that is kept at the moment of reading: it can't be overtaken by compaction, as a number could.
OLDEST = -1


@dataclass(frozen=True, slots=True)
class Record:
    """An event before it has a place in the journal."""

    type: str
    resource: str
    node_id: str
    namespace: str
    cluster_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """An event at its place. Sequences begin with 1, rise by one, and are never used again."""

    sequence: int
    record: Record

    @property
    def size(self) -> int:
        """Bytes that the entry takes in memory, roughly."""
        return len(self.record.body) + OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class Submission:
    """A run of events from one source. They carry the sequences ``first_sequence``, ``first_sequence + 1``, … of its outbox."""

    source: str
    source_epoch: str
    first_sequence: int
    records: tuple[Record, ...]

    @property
    def size(self) -> int:
        """Bytes that the submission takes in memory, roughly."""
        return sum(len(record.body) + OVERHEAD_BYTES for record in self.records)


@dataclass(frozen=True, slots=True)
class Loss:
    """Events of a source that never arrived: its sequences ``first`` to ``last``, both included."""

    source: str
    source_epoch: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append came to. ``position`` is the journal's sequence of the source's last event, ``entries`` are those that were new."""

    last_sequence: int
    position: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the journal holds: the sequences above ``compacted`` up to ``last``; nothing when they are equal."""

    compacted: int
    last: int


@dataclass(frozen=True, slots=True)
class Slice:
    """A piece of the journal: every entry above the position asked for, up to ``position``, that the filter chose."""

    entries: Sequence[Entry]
    position: int
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class Batch:
    """What one message of a subscription says: these entries, and that nothing else up to ``position`` was chosen."""

    entries: Sequence[Entry]
    position: int
