"""What every ``PinDriver`` must do: see the contract in ``picontroller.agent.gpio.drivers``.

Needs nothing but the standard library and the agent, so that it runs inside an emulated Pi: ``python -m tests.contract.pin_driver``. A case
is a coroutine over a ``Rig``; cases that need what a rig has not (edges, pulls, levels from outside) say so and are counted as left out.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from picontroller.agent.gpio.drivers import Direction, Feature, LineEdge, LineSettings, PinBank, PinDriver
from picontroller.agent.gpio.pins import Edge, Level
from picontroller.core.errors import Error

LOW, HIGH = Level.LOW, Level.HIGH
FREE = (5, 6, 12, 13, 16, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27)
"""Lines that no board and no kernel uses by itself."""
PATIENCE_SECONDS = 5.0

INPUTS, PULLS, EDGES, LOSSES, VOLTMETER = "inputs", "pulls", "edges", "losses", "voltmeter"


class Rig(Protocol):
    """A board to try a driver on. ``capabilities`` are those of the constants above that it has."""

    capabilities: frozenset[str]

    async def open(self) -> PinDriver:
        """Return a fresh driver for the board."""
        ...

    def hold_elsewhere(self, bcm: int) -> None:
        """Let another program called ``somebody`` hold a line."""
        ...

    def free_elsewhere(self, bcm: int) -> None:
        """Let the other program give the line up."""
        ...

    def drive(self, bcm: int, level: Level) -> None:
        """Put a physical level on a pin from outside (INPUTS)."""
        ...

    def level(self, bcm: int) -> Level:
        """Return the physical level at a pin, measured past the driver (VOLTMETER)."""
        ...

    def lose(self, bcm: int, count: int) -> None:
        """Let so many edges of a line be dropped before they are read (LOSSES)."""
        ...


Case = Callable[[Rig], Awaitable[None]]


@dataclass(frozen=True)
class Registered:
    """A case with what it needs."""

    name: str
    run: Case
    needs: frozenset[str]


CASES: list[Registered] = []


def case(*needs: str) -> Callable[[Callable[[Rig, PinDriver], Awaitable[None]]], Callable[[Rig, PinDriver], Awaitable[None]]]:
    """Register a case that gets a driver of its own, closed afterwards."""

    def register(body: Callable[[Rig, PinDriver], Awaitable[None]]) -> Callable[[Rig, PinDriver], Awaitable[None]]:
        async def run(rig: Rig) -> None:
            driver = await rig.open()
            try:
                await body(rig, driver)
            finally:
                await driver.close()

        CASES.append(Registered(body.__name__, run, frozenset(needs)))
        return body

    return register


def output(level: Level = LOW, **more: object) -> LineSettings:
    return LineSettings(Direction.OUTPUT, level, **more)  # type: ignore[arg-type]  # spelled out at each call


def reading(edge: Edge = Edge.NONE, **more: object) -> LineSettings:
    return LineSettings(Direction.INPUT, edge=edge, **more)  # type: ignore[arg-type]  # spelled out at each call


async def take(driver: PinDriver, lines: dict[int, LineSettings]) -> None:
    """Request lines."""

    def work(bank: PinBank) -> None:
        for bcm, settings in lines.items():
            bank.request(bcm, settings)

    await driver.perform(work)


async def levels(driver: PinDriver, *bcms: int) -> dict[int, Level]:
    return await driver.perform(lambda bank: bank.get(bcms))


async def put(driver: PinDriver, wanted: dict[int, Level]) -> None:
    await driver.perform(lambda bank: bank.set(wanted))


async def change(driver: PinDriver, bcm: int, settings: LineSettings) -> None:
    await driver.perform(lambda bank: bank.reconfigure(bcm, settings))


async def consumer(driver: PinDriver, bcm: int) -> str:
    return (await driver.perform(lambda bank: bank.info(bcm))).consumer


async def direction(driver: PinDriver, bcm: int) -> Direction:
    return (await driver.perform(lambda bank: bank.info(bcm))).direction


async def refusal(work: Awaitable[object]) -> Error:
    """Return the error that ``work`` raises; it must raise one of ours."""
    try:
        await work
    except Error as error:
        return error
    raise AssertionError("nothing was refused")


def has(driver: PinDriver, feature: Feature) -> bool:
    return feature in driver.features


class Ear:
    """Takes down edges and waits for a number of them."""

    def __init__(self, driver: PinDriver) -> None:
        self.edges: list[LineEdge] = []
        driver.listen(self.edges.extend)

    async def hear(self, count: int) -> list[LineEdge]:
        """Return all edges once there are ``count``. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.edges) < count:
                await asyncio.sleep(0.001)
        return self.edges
