"""A simulated board on the bench: driver, lines and events, put together without disk."""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from picontroller.agent.gpio.drivers import Direction
from picontroller.agent.gpio.drivers.board import SimBoard
from picontroller.agent.gpio.drivers.sim import SimDriver
from picontroller.agent.gpio.drivers.simulation import Simulation
from picontroller.agent.gpio.events import Events, Happening
from picontroller.agent.gpio.header import Header
from picontroller.agent.gpio.lines import Lines
from picontroller.agent.gpio.operations import Action, Configure, Epoch, Operation, Read, Release, Write
from picontroller.agent.gpio.pins import Level, Mode, PinRef
from tests.fakes.clock import FakeClock
from tests.fakes.lines_memory import FakeMemory

HIGH, LOW = Level.HIGH, Level.LOW
FIRST = Epoch(1, 1)


@dataclass
class Bench:
    """Everything within reach."""

    clock: FakeClock
    driver: SimDriver
    header: Header
    events: Events
    memory: FakeMemory
    lines: Lines

    @property
    def board(self) -> SimBoard:
        return self.driver.board

    async def do(self, *operations: Operation) -> list[Level | None]:
        """Carry out a batch and return the levels read back."""
        return [result.level for result in await self.lines.control(operations)]

    def state(self) -> dict[int, tuple[Direction, Level]]:
        """Return direction and level at all pins that are held."""
        return {bcm: (self.board.direction(bcm), self.board.level(bcm)) for bcm in sorted(self.board.held)}

    async def happened(self) -> list[Happening]:
        """Return all that happened since the start."""
        found: list[Happening] = []
        async with aclosing(self.events.subscribe(run_id=self.events.run_id)) as stream:
            async for batch in stream:
                found.extend(event.happening for event in batch.events)
                if batch.sequence == self.events.newest:
                    break
        return found


@asynccontextmanager
async def bench(
    simulation: Simulation | None = None,
    *,
    memory: FakeMemory | None = None,
    driver: SimDriver | None = None,
    reserved: Mapping[int, str] | None = None,
    start: bool = True,
) -> AsyncIterator[Bench]:
    """Put a board on the bench. A second one with the first's ``memory`` and ``driver`` is the agent after a restart."""
    clock = FakeClock()
    driver = driver or SimDriver(simulation or Simulation(), clock)
    memory = memory or FakeMemory()
    infos = await driver.perform(lambda bank: [bank.info(bcm) for bcm in range(28)])
    header = Header(driver.label, infos, lambda: reserved or {})
    events = Events(clock)
    lines = Lines(driver, header, events, memory, clock)
    made = Bench(clock, driver, header, events, memory, lines)
    if start:
        await lines.start()
    try:
        yield made
    finally:
        await driver.close()


def crash(driver: SimDriver) -> None:
    """Let the agent die: the kernel takes its lines away, and they go on driving."""
    for bcm in driver.board.held:
        driver.board.release(bcm)


def on(bcm: int, action: Action, epoch: Epoch | None = FIRST) -> Operation:
    return Operation(PinRef("bcm", bcm), action, epoch)


def out(bcm: int, value: Level | None = None, *, epoch: Epoch = FIRST, **more: object) -> Operation:
    return on(bcm, Configure(Mode.OUTPUT, value, **more), epoch)  # type: ignore[arg-type]  # spelled out at each call


def inp(bcm: int, *, epoch: Epoch = FIRST, **more: object) -> Operation:
    return on(bcm, Configure(Mode.INPUT, **more), epoch)  # type: ignore[arg-type]  # spelled out at each call


def write(bcm: int, value: Level, epoch: Epoch = FIRST) -> Operation:
    return on(bcm, Write(value), epoch)


def read(bcm: int) -> Operation:
    return on(bcm, Read(), None)


def release(bcm: int, epoch: Epoch = FIRST) -> Operation:
    return on(bcm, Release(), epoch)
