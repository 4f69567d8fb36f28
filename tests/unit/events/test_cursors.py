"""Cursors: they come back as the position they were made of, and nothing else passes for one."""

import base64
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picontroller.core.errors import InvalidArgument
from picontroller.events.cursors import LENGTH, Cursors
from tests.fakes.journal_store import EPOCH, KEY

OTHER_EPOCH = "00000000-0000-4000-8000-000000000000"


@given(st.integers(-(2**63), 2**63 - 1))
def test_cursor_when_opened_is_the_position_it_was_made_of(position: int) -> None:
    cursors = Cursors(EPOCH, KEY)
    text = cursors.seal(position)
    assert cursors.open(text) == position
    assert len(text) == LENGTH


@given(st.text(max_size=128))
def test_cursor_when_made_up_is_invalid(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Cursors(EPOCH, KEY).open(text)
    assert caught.value.reason == "CURSOR_MALFORMED"
    assert caught.value.violations[0].field == "after"


@given(st.integers(0, 10**9), st.integers(17 * 8, 33 * 8 - 1))
def test_cursor_when_a_bit_of_its_position_is_changed_is_invalid(position: int, bit: int) -> None:
    cursors = Cursors(EPOCH, KEY)
    raw = bytearray(base64.urlsafe_b64decode(cursors.seal(position)))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(InvalidArgument):
        cursors.open(base64.urlsafe_b64encode(raw).decode())


@pytest.mark.parametrize(
    "mangle", [lambda c: c[:-1], lambda c: c + "A", lambda c: c + "====", lambda c: " " + c, lambda c: c[:20] + "\n" + c[20:]]
)
def test_cursor_when_not_exactly_as_made_is_invalid(mangle) -> None:
    cursors = Cursors(EPOCH, KEY)
    with pytest.raises(InvalidArgument):
        cursors.open(mangle(cursors.seal(7)))


def test_cursor_when_of_another_journal_has_no_position() -> None:
    assert Cursors(EPOCH, KEY).open(Cursors(OTHER_EPOCH, KEY).seal(7)) is None


def test_cursors_when_compared_tell_nothing_of_the_distance_between_them() -> None:
    cursors = Cursors(EPOCH, KEY)
    blocks = [base64.urlsafe_b64decode(cursors.seal(position))[17:] for position in range(1000, 1064)]
    assert len(set(blocks)) == 64
    # Neighbours differ in about half of their 128 bits, as unrelated values do; a bare sequence would differ in one or two.
    distances = [(int.from_bytes(a) ^ int.from_bytes(b)).bit_count() for a, b in itertools.pairwise(blocks)]
    assert min(distances) > 30
