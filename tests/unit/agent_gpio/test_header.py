"""What a line may be called, and which lines nobody may have."""

import pytest

from picontroller.agent.gpio.drivers import Direction, LineInfo
from picontroller.agent.gpio.header import Header
from picontroller.agent.gpio.pins import PinRef
from picontroller.core import header
from picontroller.core.errors import FailedPrecondition, InvalidArgument

# Debian's kernel names lines of a Pi 3 by what they can do.
DEBIAN_NAMES = {0: "ID_SDA", 1: "ID_SCL", 2: "SDA1", 3: "SCL1", 4: "GPIO_GCLK", 14: "TXD1", 15: "RXD1", 20: "NC", 21: "NC"}


def board(reserved: dict[int, str] | None = None) -> Header:
    infos = [LineInfo(bcm, DEBIAN_NAMES.get(bcm, f"GPIO{bcm}"), "", Direction.INPUT) for bcm in range(28)]
    return Header("pinctrl-bcm2835", infos, lambda: reserved or {})


def test_table_when_counted_has_28_lines_and_12_supplies() -> None:
    assert sorted(header.POSITION_OF) == list(range(28))
    assert sorted([*header.BCM_AT, *header.SUPPLY_AT]) == list(range(1, 41))


# From the pinout that Raspberry Pi prints: position and BCM number.
@pytest.mark.parametrize(("position", "bcm"), [(3, 2), (5, 3), (7, 4), (8, 14), (11, 17), (12, 18), (13, 27), (36, 16), (37, 26), (40, 21)])
def test_position_when_on_the_pinout_is_that_line(position: int, bcm: int) -> None:
    assert board().resolve(PinRef("header", position)).bcm == bcm
    assert board().resolve(PinRef("bcm", bcm)).header == position
    for name in (f"GPIO{bcm}", f"BCM{bcm}", f"J8:{position}", f"BOARD{position}", f"gpio{bcm}", f"j8:{position}"):
        assert board().resolve(PinRef("name", name)).bcm == bcm


@pytest.mark.parametrize(("name", "bcm"), [("SDA1", 2), ("GPIO_GCLK", 4), ("TXD1", 14)])
def test_name_when_the_kernels_is_that_line(name: str, bcm: int) -> None:
    pin = board().resolve(PinRef("name", name))
    assert (pin.bcm, pin.kernel_name) == (bcm, name)


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        (PinRef("bcm", 0), "PIN_RESERVED"),
        (PinRef("bcm", 1), "PIN_RESERVED"),
        (PinRef("header", 27), "PIN_RESERVED"),
        (PinRef("header", 28), "PIN_RESERVED"),
        (PinRef("name", "ID_SDA"), "PIN_RESERVED"),
        (PinRef("name", "J8:28"), "PIN_RESERVED"),
        (PinRef("bcm", 28), "PIN_UNKNOWN"),
        (PinRef("bcm", -1), "PIN_UNKNOWN"),
        (PinRef("header", 0), "PIN_UNKNOWN"),
        (PinRef("header", 41), "PIN_UNKNOWN"),
        (PinRef("name", "GPIO017"), "PIN_UNKNOWN"),
        (PinRef("name", "GPIO40"), "PIN_UNKNOWN"),
        (PinRef("name", "17"), "PIN_UNKNOWN"),
        (PinRef("name", "sda1"), "PIN_UNKNOWN"),
        (PinRef("name", "NC"), "PIN_UNKNOWN"),
        (PinRef("name", "GPIO17 "), "PIN_UNKNOWN"),
        *((PinRef("header", position), "PIN_POWER") for position in header.SUPPLY_AT),
        (PinRef("name", "BOARD1"), "PIN_POWER"),
    ],
)
def test_abuse_71_line_when_nobody_may_have_it_is_refused(ref: PinRef, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        board().resolve(ref)
    assert caught.value.reason == reason


def test_abuse_71_number_when_read_as_the_other_numbering_is_another_line() -> None:
    assert board().resolve(PinRef("bcm", 17)).header == 11
    with pytest.raises(InvalidArgument, match="position 17 of the header is 3V3"):
        board().resolve(PinRef("header", 17))


def test_line_when_the_board_uses_it_resolves_and_is_not_free() -> None:
    reserved = {2: "I2C1 in use"}
    on = board(reserved)
    pin = on.resolve(PinRef("bcm", 2))
    with pytest.raises(FailedPrecondition, match=r"GPIO2 \(position 3\) is reserved: I2C1 in use"):
        on.check_free(pin)
    reserved.clear()
    on.check_free(pin)
