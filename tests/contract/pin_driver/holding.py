"""Cases about taking lines, letting them go, and who has them."""

from picontroller.agent.gpio.drivers import CONSUMER, Direction, PinDriver
from picontroller.core.errors import FailedPrecondition, Unavailable
from tests.contract.pin_driver.suite import FREE, HIGH, LOW, Rig, case, change, direction, levels, output, put, refusal, take

A, B = FREE[:2]


@case()
async def all_free_lines_can_be_held_at_once(rig: Rig, driver: PinDriver) -> None:
    await take(driver, dict.fromkeys(FREE, output(HIGH)))
    assert await levels(driver, *FREE) == dict.fromkeys(FREE, HIGH)


@case()
async def line_of_ours_requested_again_is_busy(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output()})
    error = await refusal(take(driver, {A: output()}))
    assert isinstance(error, FailedPrecondition)
    assert (error.reason, error.metadata["consumer"]) == ("LINE_BUSY", CONSUMER)


@case()
async def line_of_ours_requested_again_keeps_its_level(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output(HIGH)})
    await refusal(take(driver, {A: output(LOW)}))
    assert await levels(driver, A) == {A: HIGH}


@case()
async def line_held_elsewhere_is_busy(rig: Rig, driver: PinDriver) -> None:
    rig.hold_elsewhere(A)
    try:
        error = await refusal(take(driver, {A: output()}))
    finally:
        rig.free_elsewhere(A)
    assert isinstance(error, FailedPrecondition)
    assert (error.reason, error.metadata["consumer"]) == ("LINE_BUSY", "somebody")


@case()
async def line_given_up_elsewhere_can_be_taken(rig: Rig, driver: PinDriver) -> None:
    rig.hold_elsewhere(A)
    rig.free_elsewhere(A)
    await take(driver, {A: output(HIGH)})
    assert await levels(driver, A) == {A: HIGH}


@case()
async def line_whose_request_failed_is_not_held(rig: Rig, driver: PinDriver) -> None:
    rig.hold_elsewhere(A)
    try:
        await refusal(take(driver, {A: output()}))
        assert (await refusal(levels(driver, A))).reason == "HARDWARE_ERROR"
    finally:
        rig.free_elsewhere(A)


@case()
async def line_not_held_can_not_be_set(rig: Rig, driver: PinDriver) -> None:
    error = await refusal(put(driver, {A: HIGH}))
    assert isinstance(error, Unavailable)
    assert error.reason == "HARDWARE_ERROR"


@case()
async def line_not_held_can_not_be_read(rig: Rig, driver: PinDriver) -> None:
    assert (await refusal(levels(driver, A))).reason == "HARDWARE_ERROR"


@case()
async def line_not_held_can_not_be_reconfigured(rig: Rig, driver: PinDriver) -> None:
    assert (await refusal(change(driver, A, output()))).reason == "HARDWARE_ERROR"


@case()
async def line_not_held_can_be_released(rig: Rig, driver: PinDriver) -> None:
    await driver.perform(lambda bank: bank.release(A))
    await driver.perform(lambda bank: bank.release(A))


@case()
async def line_released_can_be_requested_again(rig: Rig, driver: PinDriver) -> None:
    for level in (HIGH, LOW, HIGH):
        await take(driver, {A: output(level)})
        assert await levels(driver, A) == {A: level}
        await driver.perform(lambda bank: bank.release(A))


@case()
async def releasing_one_leaves_the_others_driving(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output(HIGH), B: output(HIGH)})
    await driver.perform(lambda bank: bank.release(A))
    assert await levels(driver, B) == {B: HIGH}
    assert await direction(driver, B) is Direction.OUTPUT


@case()
async def refused_batch_keeps_what_was_taken_before(rig: Rig, driver: PinDriver) -> None:
    rig.hold_elsewhere(B)
    try:
        await refusal(take(driver, {A: output(HIGH), B: output(HIGH)}))
        assert await levels(driver, A) == {A: HIGH}
    finally:
        rig.free_elsewhere(B)
