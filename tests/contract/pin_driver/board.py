"""Cases about the board as a whole: what it is, where work on it happens, what closing does."""

import asyncio

from picontroller.agent.gpio.drivers import CONSUMER, Direction, Feature, PinBank, PinDriver
from picontroller.core.errors import Unavailable
from tests.contract.pin_driver.suite import FREE, HIGH, LOW, Rig, case, consumer, direction, levels, output, reading, refusal, take

A, B = FREE[:2]


@case()
async def name_is_known(rig: Rig, driver: PinDriver) -> None:
    assert driver.name in ("gpiod", "sim")


@case()
async def atomicity_is_known(rig: Rig, driver: PinDriver) -> None:
    assert driver.atomicity in ("SEQUENTIAL", "SIM")


@case()
async def exactly_one_chip_is_the_headers(rig: Rig, driver: PinDriver) -> None:
    assert [chip.label for chip in driver.chips if chip.header] == [driver.label]


@case()
async def chip_of_the_header_has_all_its_lines(rig: Rig, driver: PinDriver) -> None:
    assert next(chip.lines for chip in driver.chips if chip.header) >= 28


@case()
async def features_are_known(rig: Rig, driver: PinDriver) -> None:
    assert driver.features <= set(Feature)


@case()
async def every_line_of_the_header_has_info(rig: Rig, driver: PinDriver) -> None:
    infos = await driver.perform(lambda bank: [bank.info(bcm) for bcm in range(28)])
    assert [info.bcm for info in infos] == list(range(28))


@case()
async def lines_of_the_header_have_names_of_their_own(rig: Rig, driver: PinDriver) -> None:
    names = await driver.perform(lambda bank: [bank.info(bcm).kernel_name for bcm in range(28)])
    assert all(names)
    assert len(set(names)) == 28


@case()
async def info_of_a_free_line_names_no_consumer(rig: Rig, driver: PinDriver) -> None:
    assert await consumer(driver, A) == ""


@case()
async def info_of_our_line_names_us(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output()})
    assert await consumer(driver, A) == CONSUMER


@case()
async def info_of_a_released_line_names_no_consumer(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: reading()})
    await driver.perform(lambda bank: bank.release(A))
    assert await consumer(driver, A) == ""


@case()
async def info_of_a_line_held_elsewhere_names_the_holder(rig: Rig, driver: PinDriver) -> None:
    rig.hold_elsewhere(A)
    try:
        assert await consumer(driver, A) == "somebody"
    finally:
        rig.free_elsewhere(A)


@case()
async def info_tells_an_output(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output()})
    assert await direction(driver, A) is Direction.OUTPUT


@case()
async def info_tells_an_input(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: reading()})
    assert await direction(driver, A) is Direction.INPUT


@case()
async def perform_returns_what_the_work_returns(rig: Rig, driver: PinDriver) -> None:
    assert await driver.perform(lambda bank: 42) == 42


@case()
async def perform_raises_what_the_work_raises(rig: Rig, driver: PinDriver) -> None:
    def work(bank: PinBank) -> None:
        raise LookupError("of the work's own")

    caught = None
    try:
        await driver.perform(work)
    except LookupError as error:
        caught = error
    assert str(caught) == "of the work's own"


@case()
async def perform_goes_on_after_work_that_failed(rig: Rig, driver: PinDriver) -> None:
    assert (await refusal(levels(driver, A))).reason == "HARDWARE_ERROR"
    await take(driver, {A: output(HIGH)})
    assert await levels(driver, A) == {A: HIGH}


@case()
async def work_runs_one_after_the_other_in_order(rig: Rig, driver: PinDriver) -> None:
    order: list[int] = []

    def work(number: int) -> None:
        order.append(number)
        order.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(driver.perform(lambda bank, number=number: work(number)))
    assert order == [number for number in range(50) for _ in range(2)]


@case()
async def work_of_a_cancelled_caller_happens_wholly_or_not_at_all(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output(LOW), B: output(LOW)})

    def work(bank: PinBank) -> None:
        bank.set({A: HIGH})
        bank.set({B: HIGH})

    for turns in range(5):
        task = asyncio.get_running_loop().create_task(driver.perform(work))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        seen = await levels(driver, A, B)
        assert seen[A] is seen[B]
        await driver.perform(lambda bank: bank.set({A: LOW, B: LOW}))


@case()
async def work_after_close_is_refused(rig: Rig, driver: PinDriver) -> None:
    await driver.close()
    error = await refusal(driver.perform(lambda bank: bank.info(A)))
    assert isinstance(error, Unavailable)
    assert error.reason == "DRIVER_CLOSED"


@case()
async def close_may_be_repeated(rig: Rig, driver: PinDriver) -> None:
    await driver.close()
    await driver.close()


@case()
async def close_lets_all_lines_go(rig: Rig, driver: PinDriver) -> None:
    await take(driver, {A: output(), B: reading()})
    await driver.close()
    rig.hold_elsewhere(A)
    rig.hold_elsewhere(B)
    rig.free_elsewhere(A)
    rig.free_elsewhere(B)
