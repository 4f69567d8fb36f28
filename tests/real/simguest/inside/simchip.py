"""Simulated gpiochips of the kernel's own gpio-sim, made by configfs and moved by sysfs. Standard library only; as root."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

CONFIG = Path("/sys/kernel/config/gpio-sim")
PULLS = {True: "pull-up", False: "pull-down"}


@dataclass(frozen=True)
class Chip:
    """One chip: its device file and the folder of sysfs where its lines are seen and pulled from outside."""

    name: str
    device: str
    folder: str

    def pull(self, line: int, high: bool) -> None:
        """Connect a line to a level through a resistor: an edge for whoever listens, of no effect on who drives."""
        Path(self.folder, f"sim_gpio{line}/pull").write_text(PULLS[high])

    def value(self, line: int) -> int:
        """The level at the pin, 0 or 1, whoever makes it."""
        return int(Path(self.folder, f"sim_gpio{line}/value").read_text())


def make(name: str, label: str, lines: int, names: dict[str, str] | None = None, hogs: dict[str, tuple[str, str]] | None = None) -> Chip:
    """Make a chip; `names` by offset, `hogs` by offset as (consumer, input | output-high | output-low). Raises OSError."""
    device = CONFIG / name
    bank = device / "bank0"
    bank.mkdir(parents=True)
    (bank / "num_lines").write_text(str(lines))
    (bank / "label").write_text(label)
    for offset, line_name in (names or {}).items():
        (bank / f"line{offset}").mkdir(exist_ok=True)
        (bank / f"line{offset}/name").write_text(line_name)
    for offset, (consumer, direction) in (hogs or {}).items():
        hog = bank / f"line{offset}/hog"
        hog.mkdir(parents=True)
        (hog / "name").write_text(consumer)
        (hog / "direction").write_text(direction)
    (device / "live").write_text("1")
    return find(name)


def find(name: str) -> Chip:
    """The live chip that was made under a name."""
    device = CONFIG / name
    chip = (device / "bank0/chip_name").read_text().strip()
    platform = (device / "dev_name").read_text().strip()
    return Chip(name, f"/dev/{chip}", f"/sys/devices/platform/{platform}/{chip}")


def remove(name: str) -> None:
    """Unplug a chip and forget it."""
    device = CONFIG / name
    (device / "live").write_text("0")
    for path in sorted(device.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
    device.rmdir()


if __name__ == "__main__":
    made = make(**json.loads(sys.argv[1]))
    print(json.dumps({"name": made.name, "device": made.device, "folder": made.folder}))
