"""The list of those who are refused, as each member keeps it."""

from pathlib import Path

import pytest

from picontroller.core.callers import ANONYMOUS, Caller, Role, SpiffeId
from picontroller.core.errors import FailedPrecondition
from picontroller.core.tls.denials import KEPT_AFTER_END_SECONDS, Denial, Denials

NODE = SpiffeId("pi-controller.local", "node", "n1")
DAY = 86400.0


def caller(serial: str = "a1") -> Caller:
    return Caller(NODE, frozenset({Role.AGENT}), "certificate", 1e10, proof=f"certificate:{serial}")


def test_denials_when_they_name_a_proof_or_an_identity_hold_for_it_alone(tmp_path: Path) -> None:
    denials = Denials(tmp_path, lambda: 0.0)
    assert not denials.holds(caller())
    denials.add([Denial("certificate:a1", DAY)], 1)
    assert [denials.holds(each) for each in (caller("a1"), caller("a2"), ANONYMOUS)] == [True, False, False]
    denials.add([Denial(str(NODE), DAY)], 2)
    assert [denials.holds(each) for each in (caller("a1"), caller("a2"), ANONYMOUS)] == [True, True, False]
    assert (len(denials), denials.version) == (2, 2)


def test_denials_when_read_again_are_the_same(tmp_path: Path) -> None:
    Denials(tmp_path, lambda: 0.0).add([Denial("token:x", DAY)], 7)
    again = Denials(tmp_path, lambda: 0.0)
    again.load()
    assert (again.denies("token:x"), again.version) == (True, 7)


def test_denials_when_the_clock_was_ahead_are_kept_and_are_forgotten_at_last(tmp_path: Path) -> None:
    now = 0.0
    denials = Denials(tmp_path, lambda: now)
    now = 39 * DAY
    denials.add([Denial("token:x", DAY)], 1)
    denials.add([Denial("token:y", 90 * DAY)], 2)
    now = 0.0
    assert denials.denies("token:x"), "the clock is right now, and the token has not ended"
    now = DAY + KEPT_AFTER_END_SECONDS
    denials.add([], 3)
    assert (denials.denies("token:x"), denials.denies("token:y")) == (False, True)


def test_denials_when_the_disk_fails_hold_all_the_same_and_are_told(tmp_path: Path) -> None:
    (tmp_path / "in-the-way").write_text("")
    denials = Denials(tmp_path / "in-the-way" / "folder", lambda: 0.0)
    told: list[int] = []
    forget = denials.on_change(lambda: told.append(len(denials)))
    with pytest.raises(OSError):
        denials.add([Denial("token:x", DAY)], 1)
    assert (denials.denies("token:x"), told) == (True, [1])
    forget()
    with pytest.raises(OSError):
        denials.add([Denial("token:y", DAY)], 2)
    assert told == [1]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 1, "denials": []}', '{"version": "x", "denials": {}}', '{"version": 1, "deni']
)
def test_denials_when_the_file_is_damaged_are_not_taken_for_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "denials.json").write_text(text)
    with pytest.raises(FailedPrecondition) as caught:
        Denials(tmp_path).load()
    assert caught.value.reason == "IDENTITY_DAMAGED"
