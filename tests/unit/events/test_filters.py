"""Filters: globs on types, whole values on the rest."""

import fnmatch
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picontroller.events.entries import Entry, Record
from picontroller.events.filters import EVERYTHING, Filter

GLOBS = st.text("ab.*", min_size=1, max_size=12)
TYPES = st.text("ab.", min_size=1, max_size=12)


def record(kind: str = "gpio.edge", *, resource: str = "led", node: str = "n1", namespace: str = "default") -> Record:
    return Record(kind, resource, node, namespace, "", b"")


@given(GLOBS, TYPES)
def test_glob_when_compared_with_the_standard_librarys_agrees(glob: str, kind: str) -> None:
    assert Filter(types=(glob,)).matches(record(kind)) is fnmatch.fnmatchcase(kind, glob)


@pytest.mark.parametrize(
    ("chosen", "matches"),
    [
        (EVERYTHING, True),
        (Filter(types=("gpio.*",)), True),
        (Filter(types=("gpio",)), False),
        (Filter(types=("node.*", "*.edge")), True),
        (Filter(types=("gpioXedge",)), False),
        (Filter(types=("gpio.*",), node_ids=frozenset({"n2"})), False),
        (Filter(types=("node.*",), node_ids=frozenset({"n1"})), False),
        (Filter(resources=frozenset({"led", "fan"}), namespaces=frozenset({"default"})), True),
        (Filter(resources=frozenset({"le"})), False),
        (Filter(namespaces=frozenset({""})), False),
    ],
)
def test_filter_when_it_has_several_fields_needs_all_of_them(chosen: Filter, matches: bool) -> None:
    assert chosen.matches(record()) is matches
    assert bool(chosen.choose([Entry(1, record())])) is matches


def test_filter_when_a_value_is_empty_matches_events_without_one() -> None:
    assert Filter(namespaces=frozenset({""})).matches(record(namespace=""))


def test_glob_when_made_to_blow_up_is_quick() -> None:
    chosen = Filter(types=("*a" * 47 + "*b",) * 32)
    started = time.thread_time()
    assert not chosen.matches(record("a" * 96))
    assert time.thread_time() - started < 1  # of this thread's own time; tried at every place, it would take years


def test_listing_when_filters_are_equal_is_equal_and_else_differs() -> None:
    one = Filter(types=("a.*", "b.*"), node_ids=frozenset({"x", "y"}))
    assert one.listing() == Filter(types=("b.*", "a.*"), node_ids=frozenset({"y", "x"})).listing()
    assert one.listing() != Filter(types=("a.*", "b.*"), resources=frozenset({"x", "y"})).listing()
