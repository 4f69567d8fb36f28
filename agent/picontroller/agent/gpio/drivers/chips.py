"""Finding the chip that the 40-pin header hangs on, among all that a board has.

Never by number: the same Pi 5 had it as gpiochip4, gpiochip0 and gpiochip11 under three kernels. A chip is known by what the device tree
says it is, else by its label; when none fits, or several do, there is no guess.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from picontroller.agent.gpio.drivers import Chip
from picontroller.core.errors import FailedPrecondition

COMPATIBLE = frozenset({"raspberrypi,rp1-gpio", "brcm,bcm2711-gpio", "brcm,bcm2835-gpio"})
LABELS = frozenset({"pinctrl-rp1", "pinctrl-bcm2711", "pinctrl-bcm2835"})

Describe = Callable[[Path], tuple[str, int]]
"""Returns label and number of lines of the chip behind a device file. Raises OSError."""


@dataclass(frozen=True, slots=True)
class FoundChip:
    """A chip with its device file."""

    path: Path
    chip: Chip


def find(describe: Describe, root: Path = Path("/"), wanted: str | None = None) -> tuple[FoundChip, tuple[Chip, ...]]:
    """Return the header's chip and all chips that may be opened. With ``wanted``, the header's chip is the one with that label.

    Raises FailedPrecondition: GPIO_CHIP_MISSING, GPIO_CHIP_AMBIGUOUS, or GPIO_NOT_PERMITTED with what to do about it.
    """
    found: list[FoundChip] = []
    refused: list[Path] = []
    for path in sorted((root / "dev").glob("gpiochip*")):
        if path.is_symlink():  # Raspberry Pi OS links old names to new ones
            continue
        try:
            label, lines = describe(path)
        except PermissionError:
            refused.append(path)
        except OSError:
            continue
        else:
            is_header = _is_header(label, path, root) if wanted is None else label == wanted
            found.append(FoundChip(path, Chip(label, lines, header=is_header)))
    return _only(found, refused), tuple(entry.chip for entry in found)


def _only(found: Sequence[FoundChip], refused: Sequence[Path]) -> FoundChip:
    headers = [entry for entry in found if entry.chip.header]
    if len(headers) == 1:
        return headers[0]
    if headers:
        names = ", ".join(f"{entry.path} ({entry.chip.label})" for entry in headers)
        raise FailedPrecondition(f"several GPIO chips look like the header's: {names}", reason="GPIO_CHIP_AMBIGUOUS")
    if refused:
        raise FailedPrecondition(
            f"{refused[0]} may not be opened by this user; add it to the group gpio (sudo usermod -aG gpio $USER) and log in again,"
            " or install the udev rule 60-pi-controller-gpio.rules",
            reason="GPIO_NOT_PERMITTED",
        )
    seen = ", ".join(entry.chip.label for entry in found) or "none"
    raise FailedPrecondition(
        f"no GPIO chip of a Raspberry Pi's header was found (chips: {seen}); use the sim backend to try without hardware",
        reason="GPIO_CHIP_MISSING",
    )


def _is_header(label: str, path: Path, root: Path) -> bool:
    """Return whether the device tree, or where there is none the label, says so."""
    try:
        raw = (root / "sys/bus/gpio/devices" / path.name / "of_node/compatible").read_bytes()
    except OSError:
        return label in LABELS
    return not COMPATIBLE.isdisjoint(raw.decode(errors="replace").split("\0"))
