"""Resolving what somebody called a line to the one line that it is, or saying why nobody may have it.

On every chip that a 40-pin header hangs on, a line's offset is its BCM number, so that resolving needs the chip's label and nothing else.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from picontroller.agent.gpio.drivers import LineInfo
from picontroller.agent.gpio.pins import PinRef, ResolvedPin
from picontroller.core import header
from picontroller.core.errors import FailedPrecondition, InvalidArgument


class Header:
    """The header of this board. ``reserved`` answers what the board uses lines for itself (``I2C1 in use``), by BCM number."""

    def __init__(self, chip: str, infos: Iterable[LineInfo], reserved: Callable[[], Mapping[int, str]]) -> None:
        self._pins = {info.bcm: ResolvedPin(info.bcm, header.POSITION_OF[info.bcm], chip, info.bcm, info.kernel_name) for info in infos}
        names = Counter(pin.kernel_name for pin in self._pins.values())
        self._by_kernel_name = {pin.kernel_name: bcm for bcm, pin in self._pins.items() if pin.kernel_name and names[pin.kernel_name] == 1}
        self._reserved = reserved
        self._known: dict[PinRef, ResolvedPin] = {}

    def pins(self) -> tuple[ResolvedPin, ...]:
        """Return all lines of the header, by BCM number."""
        return tuple(self._pins[bcm] for bcm in sorted(self._pins))

    def pin(self, bcm: int) -> ResolvedPin:
        """Return the line with a BCM number that is on the header."""
        return self._pins[bcm]

    def resolve(self, ref: PinRef) -> ResolvedPin:
        """Return the line that ``ref`` names, in use or not.

        Raises InvalidArgument with reason PIN_UNKNOWN, PIN_POWER or PIN_RESERVED (the ID EEPROM's lines).
        """
        found = self._known.get(ref)
        if found is None:
            found = self._pins.get(self._bcm(ref))
            if found is None:
                raise InvalidArgument(f"this board has no line {ref.value}", reason="PIN_UNKNOWN")
            self._known[ref] = found
        return found

    def check_free(self, pin: ResolvedPin) -> None:
        """Raise FailedPrecondition PIN_RESERVED when the board uses the line itself."""
        use = self.use_of(pin.bcm)
        if use:
            raise FailedPrecondition(
                f"{header.name_of(pin.bcm)} (position {pin.header}) is reserved: {use}", reason="PIN_RESERVED", metadata={"use": use}
            )

    def use_of(self, bcm: int) -> str:
        """Return what the board uses a line for; empty when nothing."""
        return "ID EEPROM" if bcm in header.ID_EEPROM else self._reserved().get(bcm, "")

    def _bcm(self, ref: PinRef) -> int:
        if ref.kind == "bcm":
            return header.bcm_from_number(int(ref.value))
        if ref.kind == "header":
            return header.bcm_from_position(int(ref.value))
        name = str(ref.value)
        bcm = header.bcm_from_name(name)
        if bcm is not None:
            return bcm
        if name not in self._by_kernel_name:
            raise InvalidArgument(f"there is no line called {name}; write GPIO17, BCM17, J8:11 or BOARD11", reason="PIN_UNKNOWN")
        return header.bcm_from_number(self._by_kernel_name[name])
