"""The suite on the simulated board, and on gpiod over a fake kernel. The emulated Pi's run is among the real tests."""

import asyncio
import errno
from pathlib import Path

import pytest

from picontroller.agent.gpio.drivers import PinDriver
from picontroller.agent.gpio.drivers.gpiod import open_driver
from picontroller.agent.gpio.drivers.sim import SimDriver
from picontroller.agent.gpio.drivers.simulation import Simulation
from picontroller.agent.gpio.pins import Level
from picontroller.core.clock import SystemClock
from tests.contract.pin_driver import running
from tests.contract.pin_driver.suite import CASES, EDGES, INPUTS, LOSSES, PULLS, VOLTMETER, Registered, Rig
from tests.fakes.gpiochip import FakeKernel

LEAST_ANYWHERE = 40


class SimRig:
    """A simulated board, as it is delivered."""

    capabilities = frozenset({INPUTS, PULLS, EDGES, LOSSES, VOLTMETER})

    def __init__(self, folder: Path) -> None:
        self._drivers: list[SimDriver] = []

    async def open(self) -> PinDriver:
        self._drivers.append(SimDriver(Simulation(), SystemClock()))
        return self._drivers[-1]

    def hold_elsewhere(self, bcm: int) -> None:
        assert bcm not in self._drivers[-1].board.held
        self._drivers[-1].board.claim(bcm, "somebody")

    def free_elsewhere(self, bcm: int) -> None:
        self._drivers[-1].board.claim(bcm, None)

    def drive(self, bcm: int, level: Level) -> None:
        self._drivers[-1].board.drive(bcm, level)

    def level(self, bcm: int) -> Level:
        return self._drivers[-1].board.level(bcm)

    def lose(self, bcm: int, count: int) -> None:
        self._drivers[-1].board.drop_edges(bcm, count)


class FakeKernelRig:
    """The gpiod driver, whole, over a kernel that is not there."""

    capabilities = frozenset({INPUTS, PULLS, EDGES, LOSSES, VOLTMETER})

    def __init__(self, folder: Path) -> None:
        chips = {"gpiochip11": ("pinctrl-bcm2835", 54), "gpiochip12": ("raspberrypi-exp-gpio", 8)}
        self._root = folder
        self.kernel = FakeKernel(folder, chips)

    async def open(self) -> PinDriver:
        return await open_driver(self._root, chips=self.kernel.chip)

    def hold_elsewhere(self, bcm: int) -> None:
        if bcm in self.kernel.requests:
            raise OSError(errno.EBUSY, "Device or resource busy")
        self.kernel.elsewhere[bcm] = "somebody"

    def free_elsewhere(self, bcm: int) -> None:
        del self.kernel.elsewhere[bcm]

    def drive(self, bcm: int, level: Level) -> None:
        self.kernel.drive(bcm, level)

    def level(self, bcm: int) -> Level:
        return Level.HIGH if self.kernel.wiring.high(bcm) else Level.LOW

    def lose(self, bcm: int, count: int) -> None:
        self.kernel.requests[bcm].lose(count)


RIGS = {"sim": SimRig, "gpiod over a fake kernel": FakeKernelRig}


@pytest.mark.parametrize("rig", RIGS)
@pytest.mark.parametrize("registered", CASES, ids=lambda registered: registered.name)
async def test_driver(rig: str, registered: Registered, tmp_path: Path) -> None:
    made = RIGS[rig](tmp_path)
    assert running.fits(registered, made)
    async with asyncio.timeout(20):
        await registered.run(made)


def test_suite_when_nothing_comes_from_outside_still_has_forty_cases(capsys: pytest.CaptureFixture[str]) -> None:
    anywhere = [registered for registered in CASES if not registered.needs]
    with capsys.disabled():
        print(f"\npin driver contract: {len(CASES)} cases on each of {', '.join(RIGS)}; {len(anywhere)} of them on an emulated Pi")
    assert len(anywhere) >= LEAST_ANYWHERE
    assert len({registered.name for registered in CASES}) == len(CASES)


async def test_runner_when_a_case_fails_says_so_and_goes_on(tmp_path: Path) -> None:
    class Broken(SimRig):
        capabilities = frozenset()

        async def open(self) -> PinDriver:
            driver = await super().open()
            if len(self._drivers) == 5:
                raise OSError("the board fell off the table")
            return driver

    rig: Rig = Broken(tmp_path)
    report = await running.run(rig)
    needing = sum(1 for registered in CASES if registered.needs)
    assert report.counts() == {"passed": len(CASES) - needing - 1, "failed": 1, "left_out": needing, "all": len(CASES)}
    assert "fell off the table" in next(iter(report.failed.values()))
