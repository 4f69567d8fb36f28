"""Cases about what happens outside of the board: levels measured and put on pins, pulls, edges and their losses. Not every rig has that."""

from picontroller.agent.gpio.drivers import PinDriver
from picontroller.agent.gpio.pins import Bias, Edge
from tests.contract.pin_driver.suite import (
    EDGES,
    FREE,
    HIGH,
    INPUTS,
    LOSSES,
    LOW,
    PULLS,
    VOLTMETER,
    Ear,
    Rig,
    case,
    change,
    levels,
    output,
    put,
    reading,
    take,
)

A, B = FREE[:2]


@case(VOLTMETER)
async def output_moves_the_pin(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output(LOW)})
    for level in (HIGH, LOW, HIGH):
        await put(driver, {A: level})
        assert rig.level(A) is level


@case(VOLTMETER)
async def output_requested_moves_the_pin(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output(HIGH), B: output(LOW)})
    assert (rig.level(A), rig.level(B)) == (HIGH, LOW)


@case(VOLTMETER)
async def output_set_moves_no_other_pin(rig: Rig, driver: PinDriver) -> None:
    others = [bcm for bcm in FREE if bcm != A]
    await take(driver, {A: output(LOW)})
    before = [rig.level(bcm) for bcm in others]
    await put(driver, {A: HIGH})
    assert [rig.level(bcm) for bcm in others] == before


@case(VOLTMETER)
async def active_low_output_drives_the_opposite(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output(HIGH, active_low=True)})
    assert rig.level(A) is LOW
    await put(driver, {A: LOW})
    assert rig.level(A) is HIGH


@case(VOLTMETER)
async def active_low_output_reconfigured_drives_the_opposite(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output(HIGH)})
    await change(driver, A, output(HIGH, active_low=True))
    assert rig.level(A) is LOW


@case(INPUTS)
async def input_follows_the_level_outside(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: reading()})
    for level in (HIGH, LOW, HIGH):
        rig.drive(A, level)
        assert await levels(driver, A) == {A: level}


@case(INPUTS)
async def active_low_input_reads_the_opposite(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: reading(active_low=True)})
    rig.drive(A, HIGH)
    assert await levels(driver, A) == {A: LOW}
    rig.drive(A, LOW)
    assert await levels(driver, A) == {A: HIGH}


@case(PULLS)
async def pull_decides_where_nothing_is_connected(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: reading(bias=Bias.PULL_UP), B: reading(bias=Bias.PULL_DOWN)})
    assert await levels(driver, A, B) == {A: HIGH, B: LOW}


@case(PULLS)
async def pull_can_be_changed(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: reading(bias=Bias.PULL_UP)})
    await change(driver, A, reading(bias=Bias.PULL_DOWN))
    assert await levels(driver, A) == {A: LOW}


@case(EDGES, INPUTS)
async def both_edges_are_reported_in_order(rig: Rig, driver: PinDriver) -> None:
    rig.drive(A, LOW)
    ear = Ear(driver)
    await take(driver, {A: reading(Edge.BOTH)})
    for level in (HIGH, LOW, HIGH):
        rig.drive(A, level)
    assert [(edge.bcm, edge.level, edge.lost) for edge in await ear.hear(3)] == [(A, HIGH, 0), (A, LOW, 0), (A, HIGH, 0)]


@case(EDGES, INPUTS)
async def times_of_edges_never_go_back(rig: Rig, driver: PinDriver) -> None:
    rig.drive(A, LOW)
    ear = Ear(driver)
    await take(driver, {A: reading(Edge.BOTH)})
    for turn in range(10):
        rig.drive(A, LOW if turn % 2 else HIGH)
    times = [edge.time_ns for edge in await ear.hear(10)]
    assert times == sorted(times)
    assert times[0] > 1_500_000_000 * 10**9


@case(EDGES, INPUTS)
async def only_the_edges_asked_for_are_reported(rig: Rig, driver: PinDriver) -> None:
    rig.drive(A, LOW)
    rig.drive(B, LOW)
    ear = Ear(driver)
    await take(driver, {A: reading(Edge.RISING), B: reading(Edge.FALLING)})
    for level in (HIGH, LOW):
        rig.drive(A, level)
        rig.drive(B, level)
    assert {(edge.bcm, edge.level) for edge in await ear.hear(2)} == {(A, HIGH), (B, LOW)}
    assert len(ear.edges) == 2


@case(EDGES, INPUTS)
async def active_low_edges_are_logical(rig: Rig, driver: PinDriver) -> None:
    rig.drive(A, LOW)
    ear = Ear(driver)
    await take(driver, {A: reading(Edge.FALLING, active_low=True)})
    rig.drive(A, HIGH)
    assert [(edge.bcm, edge.level) for edge in await ear.hear(1)] == [(A, LOW)]


@case(EDGES, INPUTS)
async def edges_stop_with_reconfiguration_and_release(rig: Rig, driver: PinDriver) -> None:
    rig.drive(A, LOW)
    rig.drive(B, LOW)
    ear = Ear(driver)
    await take(driver, {A: reading(Edge.BOTH), B: reading(Edge.BOTH)})
    await change(driver, A, reading())
    rig.drive(A, HIGH)
    rig.drive(B, HIGH)
    await driver.perform(lambda bank: bank.release(B))
    rig.drive(B, LOW)
    await take(driver, {B: reading(Edge.BOTH)})
    rig.drive(B, HIGH)
    edges = await ear.hear(1)
    assert {edge.bcm for edge in edges} == {B}
    assert edges[-1].level is HIGH


@case(EDGES, INPUTS)
async def line_requested_again_begins_without_losses(rig: Rig, driver: PinDriver) -> None:
    ear = Ear(driver)
    for heard in (1, 2, 3):
        rig.drive(A, LOW)
        await take(driver, {A: reading(Edge.RISING)})
        rig.drive(A, HIGH)
        assert (await ear.hear(heard))[-1].lost == 0
        await driver.perform(lambda bank: bank.release(A))


@case(EDGES, INPUTS, LOSSES)
async def dropped_edges_are_counted_exactly(rig: Rig, driver: PinDriver) -> None:
    rig.drive(A, LOW)
    ear = Ear(driver)
    await take(driver, {A: reading(Edge.RISING)})
    rig.drive(A, HIGH)
    await ear.hear(1)
    rig.drive(A, LOW)
    rig.lose(A, 37)
    rig.drive(A, HIGH)
    assert [edge.lost for edge in await ear.hear(2)] == [0, 37]


@case(EDGES, INPUTS)
async def output_reports_no_edges(rig: Rig, driver: PinDriver) -> None:
    rig.drive(B, LOW)
    ear = Ear(driver)
    await take(driver, {A: output(LOW), B: reading(Edge.RISING)})
    await driver.perform(lambda bank: bank.set({A: HIGH}))
    rig.drive(B, HIGH)
    assert [edge.bcm for edge in await ear.hear(1)] == [B]
