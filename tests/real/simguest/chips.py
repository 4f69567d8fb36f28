"""Simulated chips of a guest, from outside: made, pulled and measured through the guest's channel."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tests.real.pi3b.faults import HarnessError
from tests.real.simguest.guest import SimGuest

HEADER_NAMES = {line: f"GPIO{line}" for line in range(28)}
"""Names of the 40-pin header's lines, as a Pi's kernel has them."""


@dataclass(frozen=True, slots=True)
class SimChip:
    """A chip of gpio-sim in a guest."""

    guest: SimGuest
    name: str
    device: str
    """Its device file, /dev/gpiochipN."""
    folder: str
    """Where its lines are in sysfs."""

    def pull(self, line: int, high: bool) -> None:
        """Connect a line to a level from outside: an edge for whoever listens, of no effect on who drives."""
        self._run(f"echo pull-{'up' if high else 'down'} > {self.folder}/sim_gpio{line}/pull")

    def value(self, line: int) -> int:
        """The level at the pin, 0 or 1, whoever makes it."""
        return int(self.guest.get(f"{self.folder}/sim_gpio{line}/value"))

    def _run(self, script: str) -> None:
        done = self.guest.run(script)
        if done.status:
            raise HarnessError(f"{script}: {done.output}")


def make(
    guest: SimGuest,
    name: str,
    label: str,
    lines: int,
    names: Mapping[int, str] | None = None,
    hogs: Mapping[int, tuple[str, str]] | None = None,
) -> SimChip:
    """Make a chip under a name of ours; `hogs` by offset as (consumer, input | output-high | output-low)."""
    wish = {"name": name, "label": label, "lines": lines, "names": dict(names or {}), "hogs": dict(hogs or {})}
    done = guest.run(["python3", "/simguest/simchip.py", json.dumps(wish)])
    if done.status:
        raise HarnessError(f"gpio-sim refused {wish}:\n{done.output}")
    made = json.loads(done.output)
    return SimChip(guest, made["name"], made["device"], made["folder"])


def i2c_stub(guest: SimGuest, *addresses: int) -> str:
    """Load i2c-stub with chips at addresses; the adapter's device file. At most ten; a second call replaces the first."""
    chips = ",".join(f"{address:#x}" for address in addresses)
    done = guest.run(f"rmmod i2c_stub 2>/dev/null; insmod /simguest/i2c-stub.ko chip_addr={chips}")
    if done.status:
        raise HarnessError(f"i2c-stub: {done.output}")
    device: str = guest.python("import json, smbus; print(json.dumps(smbus.stub()))")
    return device
