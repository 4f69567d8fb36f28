"""The rules of resources: what absent choices become, what a change may touch, which line a pin is."""

import dataclasses
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picontroller.core import header
from picontroller.core.errors import Conflict, FailedPrecondition, InvalidArgument
from picontroller.gpio import resources, rows
from picontroller.gpio.resources import (
    CHANGEABLE,
    Bias,
    Change,
    Drive,
    Edge,
    Epoch,
    Level,
    Mode,
    Observation,
    Pin,
    Resource,
    Restore,
    Safe,
    Stage,
    Wish,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
KERNEL_NAMES = (("ID_SDA", 0), ("SPI_MOSI", 10), ("TWICE", 5), ("TWICE", 6))


def made(mode: Mode = Mode.OUTPUT, **fields: object) -> Resource:
    wish = Wish("led", "", "pi", Pin("bcm", "17"), mode)
    return dataclasses.replace(resources.new_resource(wish, 17, NOW), **fields)  # type: ignore[arg-type]  # keyword arguments of tests


def test_new_output_when_nothing_is_said_has_safe_defaults() -> None:
    resource = made()
    assert (resource.namespace, resource.stage, resource.value) == ("default", Stage.CREATING, None)
    assert (resource.safe, resource.restore, resource.drive, resource.edge) == (Safe.INPUT, Restore.SAFE, Drive.PUSH_PULL, None)
    assert not resource.applied


def test_new_input_when_nothing_is_said_has_nothing_of_outputs() -> None:
    resource = made(Mode.INPUT)
    assert (resource.safe, resource.drive, resource.edge) == (None, None, Edge.NONE)


@pytest.mark.parametrize(
    ("pin", "bcm"),
    [
        (Pin("bcm", "17"), 17),
        (Pin("header", "17"), "PIN_POWER"),
        (Pin("header", "11"), 17),
        (Pin("name", "J8:11"), 17),
        (Pin("name", "gpio5"), 5),
        (Pin("name", "SPI_MOSI"), 10),
        (Pin("name", "spi_mosi"), "PIN_UNKNOWN"),
        (Pin("name", "ID_SDA"), "PIN_RESERVED"),
        (Pin("name", "TWICE"), "PIN_UNKNOWN"),
        (Pin("bcm", "28"), "PIN_UNKNOWN"),
        (Pin("bcm", "0"), "PIN_RESERVED"),
    ],
)
def test_line_when_named_is_found_or_refused(pin: Pin, bcm: int | str) -> None:
    if isinstance(bcm, int):
        assert resources.bcm_of(pin, KERNEL_NAMES) == bcm
        return
    with pytest.raises(InvalidArgument) as caught:
        resources.bcm_of(pin, KERNEL_NAMES)
    assert (caught.value.reason, caught.value.violations[0].field) == (bcm, f"pin.{pin.kind}")


@given(st.sampled_from(sorted(set(header.POSITION_OF) - {0, 1})))
def test_line_when_named_in_any_way_is_the_same(bcm: int) -> None:
    names = [Pin("bcm", str(bcm)), Pin("header", str(header.POSITION_OF[bcm])), Pin("name", f"GPIO{bcm}")]
    assert {resources.bcm_of(pin, ()) for pin in names} == {bcm}


def test_change_when_empty_is_refused() -> None:
    with pytest.raises(InvalidArgument) as caught:
        resources.changed(made(), Change(frozenset()))
    assert caught.value.reason == "NOTHING_TO_CHANGE"


@given(st.sets(st.sampled_from(["value", "safe", "restore", "bias"]), min_size=1))
def test_change_when_some_fields_count_leaves_the_others(fields: set[str]) -> None:
    before = made(value=Level.LOW, safe=Safe.HOLD, restore=Restore.SAFE, bias=Bias.PULL_UP)
    change = Change(frozenset(fields), Level.HIGH, Safe.LOW, Restore.DESIRED, Bias.DISABLED)
    after = resources.changed(before, change)
    assert {name for name in CHANGEABLE if getattr(after, name) != getattr(before, name)} == fields
    assert after.etag != before.etag


def test_change_when_a_counting_field_is_absent_resets_it() -> None:
    before = made(Mode.INPUT, edge=Edge.BOTH, debounce=500, bias=Bias.PULL_UP, restore=Restore.DESIRED)
    after = resources.changed(before, Change(frozenset({"edge", "debounce", "bias", "restore"})))
    assert (after.edge, after.debounce, after.bias, after.restore) == (Edge.NONE, 0, None, Restore.SAFE)


@pytest.mark.parametrize(("mode", "field"), [(Mode.INPUT, "value"), (Mode.INPUT, "safe"), (Mode.OUTPUT, "edge"), (Mode.OUTPUT, "debounce")])
def test_change_when_the_mode_has_no_use_for_it_is_refused(mode: Mode, field: str) -> None:
    with pytest.raises(FailedPrecondition):
        resources.changed(made(mode), Change(frozenset({field}), value=Level.HIGH))


def test_etag_when_expected_is_compared() -> None:
    resource = made()
    resources.check_etag(resource, None)
    resources.check_etag(resource, frozenset({"other", resource.etag}))
    for stale in (frozenset({"other"}), frozenset[str]()):
        with pytest.raises(Conflict):
            resources.check_etag(resource, stale)


def test_epochs_when_compared_go_by_term_then_counter() -> None:
    assert sorted([Epoch(2, 1), Epoch(1, 9), Epoch(1, 2)]) == [Epoch(1, 2), Epoch(1, 9), Epoch(2, 1)]


levels = st.sampled_from(Level) | st.none()
times = st.integers(0, 2**50).map(rows.moment)


@given(
    st.builds(
        Resource,
        mode=st.sampled_from(Mode),
        pin=st.builds(Pin, st.sampled_from(["bcm", "header", "name"]), st.text(max_size=9)),
        create_time=times,
        observed=st.none() | st.builds(Observation, levels, times, st.just(False)),
        debounce=st.integers(0, 1_000_000),
    )
)
def test_resource_when_kept_as_values_comes_back_equal(resource: Resource) -> None:
    assert rows.resource_from_json(rows.resource_to_json(resource)) == resource


def test_answers_when_kept_come_back_with_their_errors() -> None:
    class OfService(FailedPrecondition):
        pass

    error = OfService("no", reason="WHY", metadata={"a": "b"}, retry_after=2.5)
    kept = [rows.Answer("a", Observation(Level.HIGH, NOW)), rows.Answer("b", None, error)]
    first, second = rows.answers_from_json(rows.answers_to_json(kept))
    assert first == kept[0]
    assert second.error is not None
    assert (type(second.error), second.error.reason, second.error.retry_after) == (FailedPrecondition, "WHY", 2.5)
