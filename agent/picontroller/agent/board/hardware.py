"""What the board is: model, chip, revision, memory, buses, and what stands in the way of using them.

Everything is read below a root path, as plain files and without privileges; a file that is missing costs one fact, never the agent.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from picontroller.agent.board import buses, permissions
from picontroller.agent.board.devicetree import DeviceTree
from picontroller.agent.board.permissions import Allowed

_OLD_PREFIXES = {"bcm2708": "bcm2835", "bcm2709": "bcm2836", "bcm2710": "bcm2837"}
"""Names of processor families that Raspberry Pi's own kernels used, by the chip that is meant."""

SMALLEST_NEW_STYLE = 1 << 23
PROCESSORS = ("bcm2835", "bcm2836", "bcm2837", "bcm2711", "bcm2712")
"""By bits 12-15 of a new-style revision."""


@dataclass(frozen=True, slots=True)
class Board:
    """What was found. Empty text and 0 mean that the machine does not say; ``reserved`` tells by BCM number why a line can't be used."""

    model: str
    soc: str = ""
    revision: str = ""
    memory_bytes: int = 0
    i2c_buses: tuple[str, ...] = ()
    spi_devices: tuple[str, ...] = ()
    pwm_channels: tuple[str, ...] = ()
    permission_problems: tuple[str, ...] = ()
    reserved: Mapping[int, str] = field(default_factory=dict)
    simulated: bool = False

    @property
    def raspberry_pi(self) -> bool:
        """Whether the board is a Raspberry Pi."""
        return self.model.startswith("Raspberry Pi")


def detect(root: Path = Path("/"), allowed: Allowed = permissions.may_use) -> Board:
    """Return what the machine below ``root`` is. Never raises; ``allowed`` says whether a device file may be opened."""
    tree = DeviceTree(root)
    revision = _revision(tree, root)
    return Board(
        model=tree.text("model") or f"unrecognised board ({os.uname().machine})",
        soc=_soc(tree.texts("compatible"), revision),
        revision=f"{revision:x}" if revision else "",
        memory_bytes=_memory_bytes(root),
        i2c_buses=buses.i2c_buses(root),
        spi_devices=buses.spi_devices(root),
        pwm_channels=buses.pwm_channels(root),
        permission_problems=permissions.problems(root, allowed),
        reserved=buses.reserved_lines(root, tree),
    )


def _soc(compatible: list[str], revision: int) -> str:
    for entry in reversed(compatible):
        vendor, _, name = entry.partition(",")
        if vendor == "brcm" and name.startswith("bcm"):
            return _OLD_PREFIXES.get(name, name)
    if revision >= SMALLEST_NEW_STYLE:
        number = revision >> 12 & 0xF
        return PROCESSORS[number] if number < len(PROCESSORS) else ""
    return ""


def _revision(tree: DeviceTree, root: Path) -> int:
    """Return the revision word: the firmware's, else what the kernel prints; 0 when neither is there (as in QEMU)."""
    word = tree.word("system/linux,revision")
    if word is not None:
        return word
    match = re.search(r"^Revision\s*:\s*([0-9a-fA-F]{1,8})\s*$", _text(root / "proc/cpuinfo"), re.MULTILINE)
    return int(match[1], 16) if match else 0


def _memory_bytes(root: Path) -> int:
    match = re.search(r"^MemTotal:\s*(\d+) kB$", _text(root / "proc/meminfo"), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
