"""The 40-pin header that every Raspberry Pi since the B+ has: Broadcom (BCM) numbers, positions, names.

A bare number is ambiguous (BCM 17 is position 11, position 17 is a supply), so nothing here takes one without being told which it is. The
table knows the header only; which lines a board uses itself is known to its agent.
"""

import re
from collections.abc import Mapping

from picontroller.core.errors import InvalidArgument

POSITION_OF: Mapping[int, int] = {
    0: 27, 1: 28, 2: 3, 3: 5, 4: 7, 5: 29, 6: 31, 7: 26, 8: 24, 9: 21, 10: 19, 11: 23, 12: 32, 13: 33,
    14: 8, 15: 10, 16: 36, 17: 11, 18: 12, 19: 35, 20: 38, 21: 40, 22: 15, 23: 16, 24: 18, 25: 22, 26: 37, 27: 13,
}  # fmt: skip
"""Position on the header by BCM number."""

BCM_AT: Mapping[int, int] = {position: bcm for bcm, position in POSITION_OF.items()}
"""BCM number by position on the header."""

SUPPLY_AT: Mapping[int, str] = {
    1: "3V3", 17: "3V3", 2: "5V", 4: "5V",
    6: "GND", 9: "GND", 14: "GND", 20: "GND", 25: "GND", 30: "GND", 34: "GND", 39: "GND",
}  # fmt: skip
"""What the positions without a line carry."""

ID_EEPROM: Mapping[int, str] = {0: "ID_SD", 1: "ID_SC"}
"""Lines that the firmware probes at boot to find the board's add-on. Driving them can corrupt its EEPROM, so nobody may."""

_NAME = re.compile(r"(?:(GPIO|BCM)|(J8:|BOARD))(0|[1-9][0-9]?)", re.IGNORECASE)


def name_of(bcm: int) -> str:
    """Return how a line is called for people: ``GPIO17``."""
    return f"GPIO{bcm}"


def bcm_from_number(bcm: int) -> int:
    """Return a BCM number that may be used. Raises InvalidArgument (PIN_UNKNOWN, PIN_RESERVED)."""
    if bcm not in POSITION_OF:
        raise InvalidArgument(f"there is no BCM line {bcm} on the header; it has 0 to 27", reason="PIN_UNKNOWN")
    if bcm in ID_EEPROM:
        position = POSITION_OF[bcm]
        raise InvalidArgument(
            f"{name_of(bcm)} (position {position}) is {ID_EEPROM[bcm]}, reserved for the ID EEPROM of add-on boards", reason="PIN_RESERVED"
        )
    return bcm


def bcm_from_position(position: int) -> int:
    """Return the BCM number at a position. Raises InvalidArgument (PIN_UNKNOWN, PIN_POWER, PIN_RESERVED)."""
    if position in SUPPLY_AT:
        raise InvalidArgument(f"position {position} of the header is {SUPPLY_AT[position]}, not a line", reason="PIN_POWER")
    if position not in BCM_AT:
        raise InvalidArgument(f"there is no position {position} on the header; it has 1 to 40", reason="PIN_UNKNOWN")
    return bcm_from_number(BCM_AT[position])


def bcm_from_name(name: str) -> int | None:
    """Return the BCM number that ``GPIO17``, ``BCM17``, ``J8:11`` or ``BOARD11`` names, in either case of letters.

    None for a name of another form, which may be the kernel's name of a line: only the node's agent knows those.
    Raises InvalidArgument (PIN_UNKNOWN, PIN_POWER, PIN_RESERVED) for a number that the header has not, or that can't be used.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    number = int(match[3])
    return bcm_from_number(number) if match[1] else bcm_from_position(number)
