"""The gpiod driver beyond the contract: finding the chip, what the kernel's errors become, buffers that overflow."""

import asyncio
import errno
import threading
from pathlib import Path

import pytest

from picontroller.agent.gpio import panel as gpio
from picontroller.agent.gpio.drivers import Direction, LineEdge, LineSettings, PinBank
from picontroller.agent.gpio.drivers.gpiod import EVENT_BUFFER, open_driver
from picontroller.agent.gpio.pins import Edge, Level
from picontroller.core import errors
from picontroller.core.clock import SystemClock
from tests.fakes.gpiochip import FakeKernel

HIGH, LOW = Level.HIGH, Level.LOW
PI_3 = {"gpiochip0": ("pinctrl-bcm2835", 54), "gpiochip1": ("raspberrypi-exp-gpio", 8)}
PI_5 = {
    "gpiochip11": ("gpio-brcmstb@107d508500", 32),
    "gpiochip12": ("gpio-brcmstb@107d508520", 4),
    "gpiochip13": ("gpio-brcmstb@107d517c00", 17),
    "gpiochip14": ("gpio-brcmstb@107d517c20", 6),
    "gpiochip15": ("pinctrl-rp1", 54),
}
PI_5_OLD = {"gpiochip4": ("pinctrl-rp1", 54), "gpiochip0": ("gpio-brcmstb@107d508500", 32)}


def compatible(root: Path, chip: str, *names: str) -> None:
    """Say in the device tree what a chip is."""
    node = root / "sys/bus/gpio/devices" / chip / "of_node"
    node.mkdir(parents=True)
    (node / "compatible").write_bytes(b"".join(name.encode() + b"\0" for name in names))


@pytest.mark.parametrize(("chips", "label", "path"), [(PI_3, "pinctrl-bcm2835", 2), (PI_5, "pinctrl-rp1", 5), (PI_5_OLD, "pinctrl-rp1", 2)])
async def test_chip_when_numbered_in_any_way_is_found_by_its_label(
    tmp_path: Path, chips: dict[str, tuple[str, int]], label: str, path: int
) -> None:
    driver = await open_driver(tmp_path, chips=FakeKernel(tmp_path, chips).chip)
    assert (driver.label, len(driver.chips)) == (label, path)
    await driver.close()


async def test_chip_when_its_label_is_new_is_found_by_the_device_tree(tmp_path: Path) -> None:
    compatible(tmp_path, "gpiochip7", "brcm,bcm2711-gpio")
    compatible(tmp_path, "gpiochip8", "brcm,brcmstb-gpio")
    kernel = FakeKernel(tmp_path, {"gpiochip7": ("pinctrl-of-tomorrow", 58), "gpiochip8": ("gpio-brcmstb", 32)})
    driver = await open_driver(tmp_path, chips=kernel.chip)
    assert driver.label == "pinctrl-of-tomorrow"
    await driver.close()


async def test_chip_when_an_old_name_links_to_it_is_found_once(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path, PI_5)
    (tmp_path / "dev/gpiochip4").symlink_to("gpiochip15")
    driver = await open_driver(tmp_path, chips=kernel.chip)
    assert len(driver.chips) == 5
    await driver.close()


async def test_chip_when_named_in_the_settings_is_that_one(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path, {"gpiochip0": ("pinctrl-bcm2835", 54), "gpiochip1": ("gpio-sim", 54)})
    driver = await open_driver(tmp_path, "gpio-sim", kernel.chip)
    assert driver.label == "gpio-sim"
    await driver.close()


@pytest.mark.parametrize(
    ("chips", "label", "refused", "reason", "text"),
    [
        ({}, None, set(), "GPIO_CHIP_MISSING", "chips: none"),
        ({"gpiochip0": ("INT34C5:00", 463)}, None, set(), "GPIO_CHIP_MISSING", "INT34C5:00"),
        (PI_3, "pinctrl-rp1", set(), "GPIO_CHIP_MISSING", "pinctrl-bcm2835"),
        (PI_3 | {"gpiochip2": ("pinctrl-bcm2835", 54)}, None, set(), "GPIO_CHIP_AMBIGUOUS", "gpiochip2"),
        (PI_3, None, {"gpiochip0"}, "GPIO_NOT_PERMITTED", "usermod -aG gpio"),
    ],
)
async def test_chip_when_it_can_not_be_told_fails_closed(
    tmp_path: Path, chips: dict[str, tuple[str, int]], label: str | None, refused: set[str], reason: str, text: str
) -> None:
    kernel = FakeKernel(tmp_path, chips)
    kernel.refused = refused
    before = threading.active_count()
    with pytest.raises(errors.FailedPrecondition, match=text) as caught:
        await open_driver(tmp_path, label, kernel.chip)
    assert caught.value.reason == reason
    assert threading.active_count() <= before + 1  # the executor's thread that joined ours may stay


@pytest.mark.parametrize(
    ("number", "kind", "reason"),
    [
        (errno.EIO, errors.Unavailable, "HARDWARE_ERROR"),
        (errno.ENODEV, errors.Unavailable, "HARDWARE_ERROR"),
        (errno.EPERM, errors.Unavailable, "HARDWARE_ERROR"),
        (errno.EINVAL, errors.Unavailable, "HARDWARE_ERROR"),
        (errno.EOPNOTSUPP, errors.Unsupported, "FEATURE_MISSING"),
        (errno.ENXIO, errors.Unsupported, "FEATURE_MISSING"),
        (524, errors.Unsupported, "FEATURE_MISSING"),
        (errno.EBUSY, errors.FailedPrecondition, "LINE_BUSY"),
    ],
)
async def test_error_when_the_kernels_becomes_one_of_ours(tmp_path: Path, number: int, kind: type[errors.Error], reason: str) -> None:
    kernel = FakeKernel(tmp_path, PI_3)
    driver = await open_driver(tmp_path, chips=kernel.chip)
    await driver.perform(lambda bank: bank.request(5, LineSettings(Direction.OUTPUT, LOW)))

    def works(bank: PinBank) -> list[errors.Error]:
        found = []
        for work in (
            lambda: bank.request(6, LineSettings(Direction.INPUT)),
            lambda: bank.reconfigure(5, LineSettings(Direction.INPUT)),
            lambda: bank.set({5: HIGH}),
            lambda: bank.get([5]),
        ):
            with pytest.raises(errors.Error) as caught:
                work()
            found.append(caught.value)
        return found

    kernel.broken = number
    found = await driver.perform(works)
    assert {(type(error), error.reason) for error in found} == {(kind, reason)}
    kernel.broken = None
    assert await driver.perform(lambda bank: bank.get([5])) == {5: LOW}
    await driver.close()


async def test_edges_when_nobody_reads_in_time_overflow_and_are_counted(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path, PI_3)
    driver = await open_driver(tmp_path, chips=kernel.chip)
    edges: list[LineEdge] = []
    driver.listen(edges.extend)
    await driver.perform(lambda bank: bank.request(12, LineSettings(Direction.INPUT, edge=Edge.BOTH)))
    busy, go_on = threading.Event(), threading.Event()

    def work(bank: PinBank) -> None:
        busy.set()
        assert go_on.wait(10)

    working = asyncio.ensure_future(driver.perform(work))
    assert await asyncio.get_running_loop().run_in_executor(None, busy.wait, 10)
    for turn in range(EVENT_BUFFER + 76):
        kernel.drive(12, LOW if turn % 2 else HIGH)
    go_on.set()
    await working
    async with asyncio.timeout(10):
        while len(edges) < EVENT_BUFFER:
            await asyncio.sleep(0.001)
    assert (len(edges), edges[0].lost, sum(edge.lost for edge in edges)) == (EVENT_BUFFER, 76, 76)
    await driver.close()


async def test_reading_when_it_fails_ends_for_that_line_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kernel = FakeKernel(tmp_path, PI_3)
    driver = await open_driver(tmp_path, chips=kernel.chip)
    edges: list[LineEdge] = []
    driver.listen(edges.extend)

    def work(bank: PinBank) -> None:
        for bcm in (12, 13):
            bank.request(bcm, LineSettings(Direction.INPUT, edge=Edge.BOTH))

    await driver.perform(work)
    kernel.requests[12].read_edge_events = lambda max_events: 1 / 0  # type: ignore[method-assign,assignment,return-value]  # broken on purpose
    kernel.drive(12, HIGH)
    kernel.drive(13, HIGH)
    async with asyncio.timeout(10):
        while not edges:
            await asyncio.sleep(0.001)
    assert [edge.bcm for edge in edges] == [13]
    assert "can't be read any more" in caplog.text
    assert driver.problems() == ["EDGES_NOT_READ: GPIO12: its edges are not read any more (division by zero); configure the line again"]
    await driver.close()


@pytest.mark.parametrize("again", ["reconfigure", "release and request"])
async def test_reading_when_it_failed_begins_again_with_the_lines_next_configuration(tmp_path: Path, again: str) -> None:
    kernel = FakeKernel(tmp_path, PI_3)
    driver = await open_driver(tmp_path, chips=kernel.chip)
    edges: list[LineEdge] = []
    driver.listen(edges.extend)
    both = LineSettings(Direction.INPUT, edge=Edge.BOTH)
    await driver.perform(lambda bank: bank.request(12, both))
    read = kernel.requests[12].read_edge_events
    kernel.requests[12].read_edge_events = lambda max_events: 1 / 0  # type: ignore[method-assign,assignment,return-value]  # broken on purpose
    kernel.drive(12, HIGH)
    async with asyncio.timeout(10):
        while not driver.problems():
            await asyncio.sleep(0.001)
    assert edges == []

    def configure(bank: PinBank) -> None:
        if again == "reconfigure":
            kernel.requests[12].read_edge_events = read  # type: ignore[method-assign]  # mended
            bank.reconfigure(12, both)
        else:
            bank.release(12)
            bank.request(12, both)

    await driver.perform(configure)
    assert driver.problems() == []
    kernel.drive(12, LOW)
    async with asyncio.timeout(10):
        while not edges or edges[-1].level is not LOW:
            await asyncio.sleep(0.001)
    assert driver.problems() == []
    await driver.close()


async def test_reading_when_it_failed_is_a_problem_of_the_agents(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path, PI_3)
    driver = await open_driver(tmp_path, chips=kernel.chip)
    async with gpio.opened(driver, tmp_path, SystemClock()) as panel:
        await driver.perform(lambda bank: bank.request(12, LineSettings(Direction.INPUT, edge=Edge.BOTH)))
        assert panel.problems() == []
        kernel.requests[12].read_edge_events = lambda max_events: 1 / 0  # type: ignore[method-assign,assignment,return-value]  # broken on purpose
        kernel.drive(12, HIGH)
        async with asyncio.timeout(10):
            while not panel.problems():
                await asyncio.sleep(0.001)
        assert [problem.partition(":")[0] for problem in panel.problems()] == ["EDGES_NOT_READ"]


async def test_work_when_its_caller_left_before_its_turn_is_dropped(tmp_path: Path) -> None:
    driver = await open_driver(tmp_path, chips=FakeKernel(tmp_path, PI_3).chip)
    busy, go_on, done = threading.Event(), threading.Event(), list[int]()

    def first(bank: PinBank) -> None:
        busy.set()
        assert go_on.wait(10)
        done.append(1)

    begun = asyncio.ensure_future(driver.perform(first))
    assert await asyncio.get_running_loop().run_in_executor(None, busy.wait, 10)
    waiting = asyncio.ensure_future(driver.perform(lambda bank: done.append(2)))
    await asyncio.sleep(0)
    begun.cancel()
    waiting.cancel()
    await asyncio.wait([begun, waiting])
    go_on.set()
    await driver.perform(lambda bank: done.append(3))
    assert done == [1, 3]
    await driver.close()
