"""Buses of the board (I2C, SPI, PWM) as the kernel offers them, and the header lines that they take.

A line in use by a bus can still be requested on BCM283x, and the bus then fails without a word: hence such lines count as reserved here.
"""

import re
from pathlib import Path

from picontroller.agent.board.devicetree import DeviceTree

LINES_OF_BUS = {"i2c1": ("I2C1 in use", (2, 3)), "spi0": ("SPI0 in use", (7, 8, 9, 10, 11)), "spi1": ("SPI1 in use", (18, 19, 20, 21))}
"""By alias in the device tree: why the lines are reserved, and which they are (BCM). I2C0 is the ID EEPROM's, reserved whatever it does."""

FURTHER_SELECTS = {"spidev1.1": 17, "spidev1.2": 16}
"""Chip selects that only some set-ups of SPI1 use (BCM)."""

CONSOLE_LINES = (14, 15)
HEADER_CONSOLES = frozenset({"serial0", "ttyAMA0", "ttyS0", "ttyS1"})
"""Consoles that may be on the header. A Pi 5 has its own connector for ``ttyAMA10``. One that is not there after all costs two lines."""

FAN_CONTROLLER = "1f0009c000.pwm"
"""The Pi 5's fan hangs on this one; whoever drives it by mistake stops the fan."""


def i2c_buses(root: Path) -> tuple[str, ...]:
    """Return names such as ``i2c-1``, by number."""
    return _devices(root, re.compile(r"i2c-\d+"))


def spi_devices(root: Path) -> tuple[str, ...]:
    """Return names such as ``spidev0.0``, by number."""
    return _devices(root, re.compile(r"spidev\d+\.\d+"))


def gpio_chips(root: Path) -> tuple[str, ...]:
    """Return names such as ``gpiochip0``. Numbers mean nothing: they differ between kernels. Links to other chips are left out."""
    return tuple(name for name in _devices(root, re.compile(r"gpiochip\d+")) if not (root / "dev" / name).is_symlink())


def pwm_channels(root: Path) -> tuple[str, ...]:
    """Return names such as ``pwmchip0/1``, without the fan's."""
    found: list[str] = []
    for chip in pwm_chips(root):
        try:
            count = int((root / "sys/class/pwm" / chip / "npwm").read_text())
        except (OSError, ValueError):
            continue
        found += [f"{chip}/{channel}" for channel in range(min(count, 64))]
    return tuple(found)


def pwm_chips(root: Path) -> tuple[str, ...]:
    """Return names such as ``pwmchip0``, without the fan's."""
    folder = root / "sys/class/pwm"
    chips = [chip.name for chip in _listed(folder) if re.fullmatch(r"pwmchip\d+", chip.name)]
    return tuple(chip for chip in sorted(chips, key=_by_number) if FAN_CONTROLLER not in str((folder / chip / "device").resolve()))


def reserved_lines(root: Path, tree: DeviceTree) -> dict[int, str]:
    """Return why lines (BCM) can't be used: a bus that is switched on, or the console."""
    reserved: dict[int, str] = {}
    devices = spi_devices(root)
    for alias, (reason, lines) in LINES_OF_BUS.items():
        prefix = f"spidev{alias.removeprefix('spi')}."
        if tree.enabled(alias) or any(device.startswith(prefix) for device in devices):
            reserved |= dict.fromkeys(lines, reason)
    reserved |= {line: LINES_OF_BUS["spi1"][0] for device, line in FURTHER_SELECTS.items() if device in devices}
    if _consoles(root) & HEADER_CONSOLES:
        reserved |= dict.fromkeys(CONSOLE_LINES, "serial console in use")
    return reserved


def _consoles(root: Path) -> set[str]:
    try:
        words = (root / "proc/cmdline").read_text().split()
    except OSError:
        return set()
    return {word.removeprefix("console=").partition(",")[0] for word in words if word.startswith("console=")}


def _devices(root: Path, pattern: re.Pattern[str]) -> tuple[str, ...]:
    names = [entry.name for entry in _listed(root / "dev") if pattern.fullmatch(entry.name)]
    return tuple(sorted(names, key=_by_number))


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _by_number(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]
