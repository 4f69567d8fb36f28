"""The pin drivers' contract on a chip of gpio-sim: `python3 /simguest/rig.py CHIP`, one JSON object out; no pytest.

Where the emulated Pi has nothing to put on its pins, this chip has it all: pulls from outside make edges, and levels are seen at the pins.
Losses are left out: the kernel drops an edge only when a thousand wait, which is more than the suite's case lets come.
"""

import asyncio
import json
import sys
from pathlib import Path

import simchip

from picontroller.agent.gpio.pins import Level
from tests.contract.pin_driver import running
from tests.contract.pin_driver.__main__ import KernelRig
from tests.contract.pin_driver.suite import EDGES, INPUTS, PULLS, VOLTMETER


class SimChipRig(KernelRig):
    """A board whose header is a chip of gpio-sim."""

    def __init__(self, chip: simchip.Chip) -> None:
        super().__init__(Path("/"))
        assert str(self._chip.path) == chip.device, f"the header's chip is {self._chip.path}"
        self.capabilities = frozenset({INPUTS, PULLS, EDGES, VOLTMETER})
        self._sim = chip

    def drive(self, bcm: int, level: Level) -> None:
        self._sim.pull(bcm, level is Level.HIGH)

    def level(self, bcm: int) -> Level:
        return Level.HIGH if self._sim.value(bcm) else Level.LOW


if __name__ == "__main__":
    report = asyncio.run(running.run(SimChipRig(simchip.find(sys.argv[1]))))
    print(json.dumps({**report.counts(), "failures": report.failed, "left out for want of": report.left_out}))
