"""A chain that was touched names its first record that does not fit."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picontroller.core.audit.chain import PRUNED, Entry, Mark, hash_of, sealed
from tests.unit.audit.samples import ENTRY, chain, entry, verified

RECORDS = chain(*(entry(f"r{number}") for number in range(1, 8)))


def test_chain_when_untouched_holds() -> None:
    found = verified(RECORDS, Mark(4, RECORDS[3].hash))
    assert (found.broken, found.problem, found.records, found.first) == (0, "", 7, 1)
    assert found.head == Mark(7, RECORDS[6].hash)


def test_chain_when_empty_holds_unless_something_was_noted() -> None:
    assert verified([]).broken == 0
    assert verified([], Mark(3, "x")).broken == 1


@pytest.mark.parametrize("field", [field.name for field in fields(Entry)])
def test_chain_when_any_field_of_a_record_was_changed_breaks_there(field: str) -> None:
    value = 5 if field == "time" else "another"
    touched = [*RECORDS]
    touched[3] = replace(touched[3], entry=replace(touched[3].entry, **{field: value}))
    found = verified(touched)
    assert (found.broken, found.records) == (4, 3)


def test_chain_when_a_record_was_changed_with_its_hash_breaks_at_the_next() -> None:
    touched = [*RECORDS]
    touched[3] = sealed("gpio", 4, entry("forged"), touched[2].hash)
    assert verified(touched).broken == 5


def test_chain_when_a_record_is_missing_breaks_at_its_number() -> None:
    assert verified(RECORDS[:3] + RECORDS[4:]).broken == 4


def test_chain_when_two_records_were_swapped_breaks_at_the_first_of_them() -> None:
    assert verified([*RECORDS[:2], RECORDS[3], RECORDS[2], *RECORDS[4:]]).broken == 3
    renumbered = [*RECORDS]
    renumbered[2], renumbered[3] = replace(RECORDS[3], number=3), replace(RECORDS[2], number=4)
    assert verified(renumbered).broken == 3


def test_chain_when_its_end_was_cut_shows_only_against_a_mark_from_elsewhere() -> None:
    assert verified(RECORDS[:5]).broken == 0
    found = verified(RECORDS[:5], Mark(7, RECORDS[6].hash))
    assert found.broken == 6
    assert "cut off" in found.problem


def test_chain_when_written_anew_shows_only_against_a_mark_from_elsewhere() -> None:
    forged = chain(*(entry(f"forged{number}") for number in range(7)))
    assert verified(forged).broken == 0
    assert verified(forged, Mark(2, RECORDS[1].hash)).broken == 2


def test_chain_when_its_beginning_is_gone_breaks_unless_a_record_says_that_it_was_pruned() -> None:
    assert verified(RECORDS[3:]).broken == 4
    pruning = sealed("gpio", 8, entry("3", method=PRUNED, request_digest=RECORDS[2].hash), RECORDS[6].hash)
    assert verified([*RECORDS[3:], pruning]).broken == 0
    assert verified([*RECORDS[4:], pruning]).broken == 5
    assert verified([*RECORDS[2:], pruning]).broken == 3


def test_chain_when_only_a_part_is_given_begins_anywhere() -> None:
    assert verified(RECORDS[3:], whole=False).broken == 0
    assert verified(RECORDS[3:5] + RECORDS[6:], whole=False).broken == 6


def test_chain_when_a_record_of_another_service_is_in_it_breaks() -> None:
    assert verified([*RECORDS[:2], *chain(entry("x"), entry("y"), entry("z"), service="events")[2:]]).broken == 3


@given(st.lists(st.text(max_size=8), min_size=9, max_size=9), st.lists(st.text(max_size=8), min_size=9, max_size=9))
def test_hash_when_fields_differ_in_any_way_differs(left: list[str], right: list[str]) -> None:
    one, other = Entry(1, *left), Entry(1, *right)
    assert (hash_of("s", 1, one, "p") == hash_of("s", 1, other, "p")) is (one == other)


def test_hash_is_what_it_was_when_the_first_logs_were_written() -> None:
    assert hash_of("gpio", 1, ENTRY, "0" * 64) == "61d30ad14943571d10b1b70e7369016e7b7a3ce053f1b279f2f27c95123d682b"
