"""The judge is judged: it passes a right history and names the promise that each wrong one breaks."""

from collections.abc import Callable

import pytest

from tests.chaos.guarantees import Connection, Observed, Sent, Watch, violations

JOURNAL = [Observed(f"c{n}", f"e{n}", "odd.x" if n % 2 else "even.x") for n in range(1, 9)]
E = dict(enumerate(JOURNAL, start=1))


def right() -> tuple[list[Observed], Watch, Watch, list[Sent]]:
    everything = Watch(
        "all",
        lambda _: True,
        [
            Connection("start", [([E[1], E[2]], "c2"), ([], "c2"), ([E[3]], "c3")]),
            Connection("c3", [([E[4], E[5], E[6], E[7], E[8]], "c8")]),
        ],
    )
    odd = Watch(
        "odd", lambda o: o.type == "odd.x", [Connection("start", [([E[1], E[3]], "c4"), ([], "c4"), ([E[5]], "c5"), ([E[7]], "c8")])]
    )
    sent = [Sent("a", ("e1", "e2"), True), Sent("b", ("e3",), True), Sent("a", ("e4", "e5", "e6"), True), Sent("b", ("e7", "e8"), False)]
    return list(JOURNAL), everything, odd, sent


def test_history_when_right_breaks_nothing() -> None:
    journal, everything, odd, sent = right()
    assert violations(journal, [everything, odd], [*sent, Sent("b", ("never-arrived",), False)]) == []


def swap(journal: list[Observed], everything: Watch, odd: Watch, sent: list[Sent]) -> None:
    everything.connections[1].responses = [([E[5], E[4], E[6], E[7], E[8]], "c8")]


def repeat(journal: list[Observed], everything: Watch, odd: Watch, sent: list[Sent]) -> None:
    everything.connections[1].responses.insert(0, ([E[3]], "c3"))


def split(journal: list[Observed], everything: Watch, odd: Watch, sent: list[Sent]) -> None:
    sent[2:] = [Sent("a", ("e4", "e6"), True), Sent("b", ("e5",), True), Sent("c", ("e7", "e8"), True)]


def half(journal: list[Observed], everything: Watch, odd: Watch, sent: list[Sent]) -> None:
    sent[3] = Sent("b", ("e7", "e8", "e9"), False)


def omit(journal: list[Observed], everything: Watch, odd: Watch, sent: list[Sent]) -> None:
    everything.connections[1].responses = [([E[4], E[6], E[7], E[8]], "c8")]


def omit_at_the_seam(journal: list[Observed], everything: Watch, odd: Watch, sent: list[Sent]) -> None:
    everything.connections[1].responses = [([E[5], E[6], E[7], E[8]], "c8")]


def resume_elsewhere(journal: list[Observed], everything: Watch, odd: Watch, sent: list[Sent]) -> None:
    everything.connections[1] = Connection("c4", [([E[5], E[6], E[7], E[8]], "c8")])


def run_ahead(journal: list[Observed], everything: Watch, odd: Watch, sent: list[Sent]) -> None:
    odd.connections[0].responses[2] = ([], "c5")


def fall_behind(journal: list[Observed], everything: Watch, odd: Watch, sent: list[Sent]) -> None:
    odd.connections[0].responses[3] = ([E[5]], "c4")


def claim_elsewhere(journal: list[Observed], everything: Watch, odd: Watch, sent: list[Sent]) -> None:
    odd.connections[0].responses.append(([], "c99"))


def choose_wrongly(journal: list[Observed], everything: Watch, odd: Watch, sent: list[Sent]) -> None:
    odd.connections[0].responses[1] = ([E[1], E[2], E[3]], "c4")


def lose(journal: list[Observed], everything: Watch, odd: Watch, sent: list[Sent]) -> None:
    sent.append(Sent("c", ("gone",), True))


def duplicate(journal: list[Observed], everything: Watch, odd: Watch, sent: list[Sent]) -> None:
    journal.append(Observed("c9", "e8", "even.x"))


def invent(journal: list[Observed], everything: Watch, odd: Watch, sent: list[Sent]) -> None:
    journal.append(Observed("c9", "e9", "odd.x"))


def reorder(journal: list[Observed], everything: Watch, odd: Watch, sent: list[Sent]) -> None:
    sent[0], sent[2] = sent[2], sent[0]


def falsify(journal: list[Observed], everything: Watch, odd: Watch, sent: list[Sent]) -> None:
    everything.connections[0].responses[2] = ([Observed("c3", "e7", "odd.x")], "c3")


@pytest.mark.parametrize(
    ("spoil", "promise"),
    [
        (swap, "Ordered"),
        (repeat, "Unique"),
        (split, "Atomic"),
        (half, "Atomic"),
        (omit, "Reliable"),
        (omit_at_the_seam, "Reliable"),
        (resume_elsewhere, "Resumable"),
        (run_ahead, "Bookmarkable"),
        (fall_behind, "Bookmarkable"),
        (claim_elsewhere, "Bookmarkable"),
        (choose_wrongly, "Filter"),
        (lose, "Acknowledged"),
        (duplicate, "Acknowledged"),
        (invent, "Acknowledged"),
        (reorder, "Acknowledged"),
        (falsify, "Reliable"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_history_when_spoilt_names_the_promise(spoil: Callable[..., None], promise: str) -> None:
    parts = right()
    spoil(*parts)
    journal, everything, odd, sent = parts
    assert promise in {line.partition(":")[0] for line in violations(journal, [everything, odd], sent)}
