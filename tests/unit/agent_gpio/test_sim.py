"""The simulated board beyond the drivers' contract: how it is built, how contacts bounce, what injected failures do."""

import asyncio
from dataclasses import replace

import pytest

from picontroller.agent.gpio.drivers import Direction, LineEdge, LineSettings
from picontroller.agent.gpio.drivers.board import SimBoard
from picontroller.agent.gpio.drivers.sim import SimDriver
from picontroller.agent.gpio.drivers.simulation import MODELS, Simulation
from picontroller.agent.gpio.pins import Bias, Drive, Edge, Level
from picontroller.core.errors import DataLoss, Unavailable
from picontroller.core.tasks import cancel_and_wait
from tests.fakes.clock import FakeClock, settle

HIGH, LOW = Level.HIGH, Level.LOW
WATCHED = LineSettings(Direction.INPUT, edge=Edge.BOTH)


def listening(simulation: Simulation, clock: FakeClock) -> tuple[SimBoard, list[LineEdge]]:
    board, edges = SimBoard(simulation, clock), list[LineEdge]()
    board.listener = edges.extend
    return board, edges


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"model": "Arduino"}, "can't be simulated; known are Raspberry Pi Zero 2 W"),
        ({"claimed": {28: "w1"}}, "no BCM line 28"),
        ({"claimed": {4: ""}}, "name of its holder"),
        ({"levels": {-1: HIGH}}, "no BCM line -1"),
        ({"nets": ((5,),)}, "two pins or more"),
        ({"nets": ((5, 6), (6, 12))}, "one net only"),
        ({"life_pins": (40,)}, "no BCM line 40"),
        ({"bounces": -1}, "between 0 and 100"),
        ({"bounce_seconds": 0}, "longer than nothing"),
        ({"life_seconds": 0}, "longer than nothing"),
    ],
)
def test_simulation_when_it_can_not_be_says_why(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Simulation(**settings)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("model", [*MODELS, "Raspberry Pi 5 Model B Rev 1.0"])
def test_model_when_simulated_has_the_headers_chip(model: str) -> None:
    driver = SimDriver(Simulation(model=model), FakeClock())
    assert driver.label in {"pinctrl-bcm2835", "pinctrl-bcm2711", "pinctrl-rp1"}
    assert (driver.label == "pinctrl-rp1") == model.startswith("Raspberry Pi 5")


def test_pins_when_nothing_is_connected_follow_the_boards_pulls() -> None:
    board = SimBoard(Simulation(levels={17: HIGH}), FakeClock())
    assert [board.level(bcm) for bcm in (2, 8, 9, 27, 17)] == [HIGH, HIGH, LOW, LOW, HIGH]


async def test_contact_when_it_bounces_reports_every_edge() -> None:
    clock = FakeClock()
    board, edges = listening(Simulation(bounces=3, bounce_seconds=0.001, levels={5: LOW}), clock)
    board.request(5, WATCHED)
    board.drive(5, HIGH)
    await settle()
    await clock.advance(0.1)
    assert [edge.level for edge in edges] == [HIGH, LOW, HIGH, LOW, HIGH, LOW, HIGH]
    assert [edge.time_ns - edges[0].time_ns for edge in edges] == pytest.approx([n * 1_000_000 for n in range(7)], abs=1000)
    await board.close()


async def test_contact_when_debounced_reports_one_edge_once_it_holds_still() -> None:
    clock = FakeClock()
    board, edges = listening(Simulation(bounces=3, bounce_seconds=0.001, levels={5: LOW}), clock)
    board.request(5, replace(WATCHED, debounce_us=10_000))
    board.drive(5, HIGH)
    await settle()
    await clock.advance(0.0159)
    assert edges == []
    await clock.advance(0.0002)
    assert [(edge.level, edge.lost) for edge in edges] == [(HIGH, 0)]
    await board.close()


async def test_glitch_when_shorter_than_the_debounce_is_not_reported() -> None:
    clock = FakeClock()
    board, edges = listening(Simulation(levels={5: LOW}), clock)
    board.request(5, replace(WATCHED, debounce_us=10_000))
    board.drive(5, HIGH)
    await clock.advance(0.005)
    board.drive(5, LOW)
    await clock.advance(1)
    assert edges == []
    await board.close()


def test_net_when_one_end_drives_is_seen_at_the_other_with_an_edge() -> None:
    board, edges = listening(Simulation(nets=((5, 6),)), FakeClock())
    board.request(6, WATCHED)
    board.request(5, LineSettings(Direction.OUTPUT, LOW))
    board.set({5: HIGH})
    assert board.get([6]) == {6: HIGH}
    assert [(edge.bcm, edge.level) for edge in edges] == [(6, LOW), (6, HIGH)]


@pytest.mark.parametrize(
    ("drive", "level", "outside", "seen"),
    [
        (Drive.OPEN_DRAIN, HIGH, LOW, LOW),
        (Drive.OPEN_DRAIN, HIGH, None, HIGH),
        (Drive.OPEN_DRAIN, LOW, HIGH, LOW),
        (Drive.OPEN_SOURCE, LOW, HIGH, HIGH),
        (Drive.OPEN_SOURCE, HIGH, LOW, HIGH),
        (Drive.PUSH_PULL, HIGH, LOW, HIGH),
    ],
)
def test_output_when_it_drives_one_level_only_leaves_the_other_to_the_wire(
    drive: Drive, level: Level, outside: Level | None, seen: Level
) -> None:
    board = SimBoard(Simulation(), FakeClock())
    board.drive(5, outside)
    board.request(5, LineSettings(Direction.OUTPUT, level, drive=drive, bias=Bias.PULL_UP))
    assert board.get([5]) == {5: seen}


def test_line_when_released_goes_on_driving() -> None:
    board = SimBoard(Simulation(), FakeClock())
    board.request(12, LineSettings(Direction.OUTPUT, HIGH))
    board.release(12)
    assert board.level(12) is HIGH
    board.request(12, LineSettings(Direction.INPUT))
    assert board.level(12) is LOW


def test_failure_when_injected_hits_the_nth_operation_once() -> None:
    board = SimBoard(Simulation(), FakeClock())
    board.request(5, LineSettings(Direction.OUTPUT, LOW))
    board.request(6, LineSettings(Direction.OUTPUT, LOW))
    board.fail(2, DataLoss("of the test's own"))
    with pytest.raises(DataLoss):
        board.set({5: HIGH, 6: HIGH})
    assert board.get([5, 6]) == {5: HIGH, 6: LOW}
    board.fail(1)
    board.mend()
    board.set({6: HIGH})


async def test_work_when_slow_begins_late() -> None:
    clock = FakeClock()
    driver = SimDriver(Simulation(), clock)
    driver.slow(2.0)
    work = asyncio.ensure_future(driver.perform(lambda bank: bank.info(5).bcm))
    await clock.until_sleeping()
    await clock.advance(1.9)
    assert not work.done()
    await clock.advance(0.1)
    assert await work == 5
    await driver.close()


async def test_life_when_wished_toggles_inputs_only() -> None:
    clock = FakeClock()
    driver = SimDriver(Simulation(life_seconds=2.0, life_pins=(4, 5), levels={4: LOW}), clock)
    driver.board.request(5, LineSettings(Direction.OUTPUT, LOW))
    life = asyncio.create_task(driver.live())
    seen = []
    for _ in range(4):
        await clock.advance(2.0)
        seen.append(driver.board.level(4))
    assert seen == [HIGH, LOW, HIGH, LOW]
    assert driver.board.level(5) is LOW
    await cancel_and_wait(life)
    await driver.close()


async def test_life_when_not_wished_ends_at_once() -> None:
    await SimDriver(Simulation(), FakeClock()).live()


async def test_driver_when_closed_refuses_work() -> None:
    driver = SimDriver(Simulation(), FakeClock())
    await driver.close()
    with pytest.raises(Unavailable):
        await driver.perform(lambda bank: 1)


def test_pin_when_not_on_the_header_can_not_be_driven() -> None:
    with pytest.raises(ValueError, match="no BCM line 28"):
        SimBoard(Simulation(), FakeClock()).drive(28, HIGH)
