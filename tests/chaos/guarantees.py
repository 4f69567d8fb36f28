"""What the event bus promises its subscribers, checked over recorded histories. The names are etcd's for the same promises.

Ordered       events of a connection come in the order of the journal
Unique        no event comes twice to a watcher, resumed as often as it may be
Atomic        events published together lie together in the journal, all of them or none, with nobody else's between
Reliable      no event is left out between the first and the last place of a watcher
Resumable     a connection goes on exactly after the cursor that it was given
Bookmarkable  a response's cursor never runs ahead of an event that is yet to come, nor behind one that came
Filter        what comes is what was chosen
Acknowledged  what was acknowledged is in the journal, once, in its source's order; and nothing is that was never sent

The journal that histories are checked against is a listing made after the run; cursors of equal places are equal.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Observed:
    """An event as it was seen: its cursor, its unique name, and its type."""

    cursor: str
    name: str
    type: str


@dataclass
class Connection:
    """One subscription until it broke: the cursor it was given, then responses as (events, cursor)."""

    after: str
    responses: list[tuple[list[Observed], str]] = field(default_factory=list)


@dataclass
class Watch:
    """All connections of one watcher, each resumed where the one before was; ``chooses`` says which events its filter wants."""

    name: str
    chooses: Callable[[Observed], bool]
    connections: list[Connection] = field(default_factory=list)


@dataclass
class Sent:
    """One publish: the names of its events in order, and whether the bus said that they are safe."""

    source: str
    names: tuple[str, ...]
    acknowledged: bool = False


def violations(journal: Sequence[Observed], watches: Iterable[Watch], sent: Sequence[Sent]) -> list[str]:
    """Return each broken promise as a line that begins with its name; nothing when all were kept."""
    places = {observed.cursor: index for index, observed in enumerate(journal, start=1)}
    found = list(_acknowledged(journal, sent)) + list(_atomic(journal, sent))
    for watch in watches:
        found += [f"{line} ({watch.name})" for line in _watched(journal, places, watch)]
    return found


def _acknowledged(journal: Sequence[Observed], sent: Sequence[Sent]) -> Iterator[str]:
    where: dict[str, list[int]] = {}
    for index, observed in enumerate(journal, start=1):
        where.setdefault(observed.name, []).append(index)
    ever = Counter(name for publish in sent for name in publish.names)
    yield from (f"Acknowledged: {name} was never sent" for name in where if name not in ever)
    yield from (f"Acknowledged: {name} is in the journal {len(at)} times" for name, at in where.items() if len(at) > 1)
    latest: dict[str, int] = {}
    for publish in sent:
        for name in publish.names:
            at = where.get(name)
            if at is None:
                if publish.acknowledged:
                    yield f"Acknowledged: {name} is lost"
                continue
            if at[0] < latest.get(publish.source, 0):
                yield f"Acknowledged: {name} is out of its source's order"
            latest[publish.source] = at[0]


def _atomic(journal: Sequence[Observed], sent: Sequence[Sent]) -> Iterator[str]:
    where = {observed.name: index for index, observed in enumerate(journal, start=1)}
    for publish in sent:
        at = [where[name] for name in publish.names if name in where]
        if at and (len(at) != len(publish.names) or at != list(range(at[0], at[0] + len(at)))):
            yield f"Atomic: {publish.names} lie at {at}"


def _watched(journal: Sequence[Observed], places: dict[str, int], watch: Watch) -> Iterator[str]:
    seen: set[str] = set()
    places = dict(places)
    for number, connection in enumerate(watch.connections):
        position: int | None = _place(places, connection.after)
        for events, cursor in connection.responses:
            for observed in events:
                at = places.get(observed.cursor)
                if at is None or journal[at - 1] != observed:
                    yield f"Reliable: {observed.name} is not what the journal has at its cursor"
                    continue
                if observed.cursor in seen:
                    yield f"Unique: {observed.name} came again in connection {number}"
                seen.add(observed.cursor)
                if not watch.chooses(observed):
                    yield f"Filter: {observed.name} was not chosen"
                if position is not None:
                    yield from _stepped(journal, position, at, watch, observed.name)
                position = at
            if position == 0 and not seen:
                places.setdefault(cursor, 0)  # no event stands at the beginning of a journal, so that a listing has no cursor for it
            claimed = _place(places, cursor)
            if claimed is None:
                yield f"Bookmarkable: a cursor of connection {number} is no place in the journal"
            elif position is not None and claimed < position:
                yield f"Bookmarkable: a cursor of connection {number} lies before an event that came"
            else:
                if position is not None:
                    yield from _left_out(journal, position, claimed + 1, watch, "Bookmarkable")
                position = claimed
        if number:
            yield from _resumed(watch.connections[number - 1], connection, number)


def _stepped(journal: Sequence[Observed], position: int, at: int, watch: Watch, name: str) -> Iterator[str]:
    if at <= position:
        yield f"Ordered: {name} came after what stands behind it"
    yield from _left_out(journal, position, at, watch, "Reliable")


def _left_out(journal: Sequence[Observed], position: int, end: int, watch: Watch, promise: str) -> Iterator[str]:
    for observed in journal[position : end - 1]:
        if watch.chooses(observed):
            yield f"{promise}: {observed.name} was left out"


def _resumed(before: Connection, connection: Connection, number: int) -> Iterator[str]:
    """A watcher resumes after the last thing it was told; a harness that does otherwise would prove nothing."""
    told = before.after
    for events, cursor in before.responses:
        told = cursor or (events[-1].cursor if events else told)
    if connection.after != told:
        yield f"Resumable: connection {number} did not go on where the one before stopped"


def _place(places: dict[str, int], cursor: str) -> int | None:
    """Return the place of a cursor: 0 for the beginning; None when the watcher left it to the bus (or it is unknown)."""
    return 0 if cursor == "start" else places.get(cursor)
