"""The tail is a cache: whatever it answers equals a list of everything, and it never grows beyond its bounds."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from picontroller.events.entries import OVERHEAD_BYTES, Entry, Record
from picontroller.events.tail import Tail

COUNT, BYTES = 12, 10 * (OVERHEAD_BYTES + 50)


def entry(sequence: int, size: int = 10) -> Entry:
    return Entry(sequence, Record("a.b", "", "", "", "", bytes(size)))


class TailAgainstList(RuleBasedStateMachine):
    """The model: a list of all entries ever made."""

    def __init__(self) -> None:
        super().__init__()
        self.tail = Tail(COUNT, BYTES)
        self.model: list[Entry] = []

    @rule(sizes=st.lists(st.integers(0, 3000), max_size=20), again=st.integers(0, 5))
    def extend(self, sizes: list[int], again: int) -> None:
        repeated = self.model[len(self.model) - min(again, len(self.model)) :]
        fresh = [entry(len(self.model) + index, size) for index, size in enumerate(sizes, start=1)]
        self.model += fresh
        self.tail.extend([*repeated, *fresh])

    @rule(missed=st.integers(1, 5))
    def extend_beyond_a_gap(self, missed: int) -> None:
        self.model += [entry(len(self.model) + index) for index in range(1, missed + 1)]
        self.model.append(entry(len(self.model) + 1))
        self.tail.extend(self.model[-1:])
        assert list(self.tail.after(len(self.model) - 1, 9, 10**9) or ()) == self.model[-1:]

    @rule(back=st.integers(0, 30), limit=st.integers(1, 20), largest=st.integers(1, 10_000))
    def read(self, back: int, limit: int, largest: int) -> None:
        position = max(0, len(self.model) - back)
        found = self.tail.after(position, limit, largest)
        if found is None:
            assert position < len(self.model) or not len(self.tail)
            return
        wanted = self.model[position : position + limit]
        assert list(found) == wanted[: len(found)]
        assert bool(found) == bool(wanted)
        assert len(found) <= 1 or sum(e.size for e in found) <= largest
        if len(found) < len(wanted):
            assert sum(e.size for e in wanted[: len(found) + 1]) > largest

    @invariant()
    def is_bounded_and_counts_right(self) -> None:
        assert len(self.tail) <= COUNT
        kept = self.model[len(self.model) - len(self.tail) :]
        assert self.tail.bytes == sum(e.size for e in kept) <= BYTES
        assert len(self.tail._entries) <= 2 * COUNT + 26  # what was dropped is let go of soon


TestTailAgainstList = TailAgainstList.TestCase
TestTailAgainstList.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_tail_when_empty_knows_nothing() -> None:
    assert Tail(1, 1).after(0, 1, 1) is None
