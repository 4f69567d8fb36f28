"""Cases about driving, reading and reconfiguring lines that need nothing but the lines themselves."""

from picontroller.agent.gpio.drivers import CONSUMER, Direction, Feature, LineSettings, PinDriver
from picontroller.agent.gpio.pins import Bias, Drive, Edge
from tests.contract.pin_driver.suite import (
    FREE,
    HIGH,
    LOW,
    Rig,
    case,
    change,
    consumer,
    direction,
    has,
    levels,
    output,
    put,
    reading,
    refusal,
    take,
)

A, B, C = FREE[:3]
EIGHT = FREE[:8]


@case()
async def output_requested_low_reads_low(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output(LOW)})
    assert await levels(driver, A) == {A: LOW}


@case()
async def output_requested_high_reads_high(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output(HIGH)})
    assert await levels(driver, A) == {A: HIGH}


@case()
async def output_set_high_reads_high(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output(LOW)})
    await put(driver, {A: HIGH})
    assert await levels(driver, A) == {A: HIGH}


@case()
async def output_set_low_reads_low(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output(HIGH)})
    await put(driver, {A: LOW})
    assert await levels(driver, A) == {A: LOW}


@case()
async def output_set_again_keeps_its_level(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output(HIGH)})
    await put(driver, {A: HIGH})
    assert await levels(driver, A) == {A: HIGH}


@case()
async def output_toggled_often_is_read_back_each_time(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output(LOW)})
    for turn in range(40):
        level = HIGH if turn % 2 else LOW
        await put(driver, {A: level})
        assert await levels(driver, A) == {A: level}


@case()
async def several_set_at_once_all_move(rig: Rig, driver: PinDriver) -> None:
    await take(driver, dict.fromkeys(EIGHT, output(LOW)))
    await put(driver, dict.fromkeys(EIGHT, HIGH))
    assert await levels(driver, *EIGHT) == dict.fromkeys(EIGHT, HIGH)


@case()
async def pattern_and_its_opposite_are_read_back(rig: Rig, driver: PinDriver) -> None:
    await take(driver, dict.fromkeys(EIGHT, output(LOW)))
    pattern = {bcm: HIGH if index % 2 else LOW for index, bcm in enumerate(EIGHT)}
    for wanted in (pattern, {bcm: LOW if level is HIGH else HIGH for bcm, level in pattern.items()}):
        await put(driver, wanted)
        assert await levels(driver, *EIGHT) == wanted


@case()
async def walking_one_touches_no_other_line(rig: Rig, driver: PinDriver) -> None:
    await take(driver, dict.fromkeys(EIGHT, output(LOW)))
    for walker in EIGHT:
        await put(driver, {walker: HIGH})
        assert await levels(driver, *EIGHT) == {bcm: HIGH if bcm == walker else LOW for bcm in EIGHT}
        await put(driver, {walker: LOW})


@case()
async def setting_one_leaves_the_others(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output(HIGH), B: output(LOW), C: output(HIGH)})
    await put(driver, {B: HIGH})
    assert await levels(driver, A, B, C) == {A: HIGH, B: HIGH, C: HIGH}


@case()
async def setting_nothing_does_nothing(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output(HIGH)})
    await put(driver, {})
    assert await levels(driver, A) == {A: HIGH}


@case()
async def getting_nothing_answers_nothing(rig: Rig, driver: PinDriver) -> None:
    assert await levels(driver) == {}


@case()
async def input_can_not_be_set(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: reading()})
    assert (await refusal(put(driver, {A: HIGH}))).reason == "HARDWARE_ERROR"


@case()
async def input_can_be_read(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: reading()})
    assert (await levels(driver, A))[A] in (LOW, HIGH)


@case()
async def output_reconfigured_as_input_no_longer_drives(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output(HIGH)})
    await change(driver, A, reading())
    assert await direction(driver, A) is Direction.INPUT
    assert (await refusal(put(driver, {A: HIGH}))).reason == "HARDWARE_ERROR"


@case()
async def input_reconfigured_as_output_drives_its_level(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: reading()})
    for level in (HIGH, LOW):
        await change(driver, A, output(level))
        assert await direction(driver, A) is Direction.OUTPUT
        assert await levels(driver, A) == {A: level}
        await change(driver, A, reading())


@case()
async def output_reconfigured_takes_the_level_given(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output(HIGH)})
    await change(driver, A, output(LOW))
    assert await levels(driver, A) == {A: LOW}


@case()
async def reconfiguring_keeps_the_line_ours(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output(HIGH)})
    await change(driver, A, reading())
    assert await consumer(driver, A) == CONSUMER


@case()
async def reconfiguring_one_leaves_the_others(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output(HIGH), B: output(HIGH)})
    await change(driver, A, reading())
    assert await levels(driver, B) == {B: HIGH}
    assert await direction(driver, B) is Direction.OUTPUT


@case()
async def active_low_output_reads_as_it_was_set(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output(HIGH, active_low=True)})
    assert await levels(driver, A) == {A: HIGH}
    await put(driver, {A: LOW})
    assert await levels(driver, A) == {A: LOW}


@case()
async def line_taken_as_it_is_becomes_ours(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: LineSettings(Direction.AS_IS)})
    assert await consumer(driver, A) == CONSUMER
    assert (await levels(driver, A))[A] in (LOW, HIGH)


@case()
async def output_reconfigured_as_it_is_keeps_driving(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output(HIGH)})
    await change(driver, A, LineSettings(Direction.AS_IS))
    assert await direction(driver, A) is Direction.OUTPUT
    assert await levels(driver, A) == {A: HIGH}


@case()
async def pulls_are_accepted_or_said_to_be_missing(rig: Rig, driver: PinDriver) -> None:
    for bias in (Bias.PULL_UP, Bias.PULL_DOWN, Bias.DISABLED):
        if has(driver, Feature.BIAS):
            await take(driver, {A: reading(bias=bias)})
            await driver.perform(lambda bank: bank.release(A))
        else:
            assert (await refusal(take(driver, {A: reading(bias=bias)}))).reason == "FEATURE_MISSING"


@case()
async def open_drain_drives_low(rig: Rig, driver: PinDriver) -> None:
    if has(driver, Feature.OPEN_DRAIN):
        await take(driver, {A: output(LOW, drive=Drive.OPEN_DRAIN)})
        assert await levels(driver, A) == {A: LOW}


@case()
async def open_source_drives_high(rig: Rig, driver: PinDriver) -> None:
    if has(driver, Feature.OPEN_SOURCE):
        await take(driver, {A: output(HIGH, drive=Drive.OPEN_SOURCE)})
        assert await levels(driver, A) == {A: HIGH}


@case()
async def edges_are_accepted_or_said_to_be_missing(rig: Rig, driver: PinDriver) -> None:
    for edge in (Edge.RISING, Edge.FALLING, Edge.BOTH):
        if has(driver, Feature.EDGES):
            await take(driver, {A: reading(edge)})
            await driver.perform(lambda bank: bank.release(A))
        else:
            assert (await refusal(take(driver, {A: reading(edge)}))).reason == "FEATURE_MISSING"
