"""``python -m tests.contract.pin_driver [--root /]``: the suite on this machine's own header, one JSON object out. For emulated Pis.

Needs gpiod, the agent's package and these files; no pytest. Exit status 1 when a case failed.
"""

import argparse
import asyncio
import json
import re
import sys
from pathlib import Path

import gpiod
from gpiod.line import Direction

from picontroller.agent.gpio.drivers import PinDriver
from picontroller.agent.gpio.drivers.chips import find
from picontroller.agent.gpio.drivers.gpiod import open_driver
from picontroller.agent.gpio.pins import Level
from tests.contract.pin_driver import running
from tests.contract.pin_driver.suite import VOLTMETER


class KernelRig:
    """The header of this machine. Nothing can be put on its pins from outside; levels are measured where debugfs shows the registers."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._registers = next(iter(root.glob("sys/kernel/debug/pinctrl/*gpio*/pins")), None)
        self.capabilities = frozenset({VOLTMETER} if self._registers else ())
        self._chip, _ = find(self._describe, root)
        self._elsewhere: dict[int, gpiod.LineRequest] = {}

    async def open(self) -> PinDriver:
        return await open_driver(self._root)

    def hold_elsewhere(self, bcm: int) -> None:
        settings = gpiod.LineSettings(direction=Direction.INPUT)
        self._elsewhere[bcm] = gpiod.request_lines(str(self._chip.path), {bcm: settings}, consumer="somebody")

    def free_elsewhere(self, bcm: int) -> None:
        self._elsewhere.pop(bcm).release()

    def drive(self, bcm: int, level: Level) -> None:
        raise NotImplementedError

    def level(self, bcm: int) -> Level:
        assert self._registers is not None
        found = re.search(rf"^pin {bcm} \(.*?\).*? in (hi|lo);", self._registers.read_text(), re.MULTILINE)
        assert found is not None
        return Level.HIGH if found[1] == "hi" else Level.LOW

    def lose(self, bcm: int, count: int) -> None:
        raise NotImplementedError

    @staticmethod
    def _describe(path: Path) -> tuple[str, int]:
        with gpiod.Chip(str(path)) as chip:
            info = chip.get_info()
            return info.label, info.num_lines


def main() -> int:
    """Run, print, answer the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.contract.pin_driver")
    parser.add_argument("--root", type=Path, default=Path("/"), help="where dev and sys are")
    report = asyncio.run(running.run(KernelRig(parser.parse_args().root)))
    json.dump({**report.counts(), "failures": report.failed, "left out for want of": report.left_out}, sys.stdout, indent=1)
    print()
    return 1 if report.failed or not report.passed else 0


if __name__ == "__main__":
    sys.exit(main())
