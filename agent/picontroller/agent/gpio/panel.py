"""GPIO as a whole: lines, events and the watch for the manager's silence, put together and taken apart in the right order.

Known outputs are safe before anybody can call, and again before the driver closes.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from picontroller.agent.gpio.drivers import LineInfo, PinBank, PinDriver
from picontroller.agent.gpio.events import Batch, Events
from picontroller.agent.gpio.header import Header
from picontroller.agent.gpio.lines import Lines
from picontroller.agent.gpio.memory import LinesFile
from picontroller.agent.gpio.operations import Operation, Read, Result
from picontroller.agent.gpio.pins import PinRef
from picontroller.agent.gpio.silence import Silence
from picontroller.core.clock import Clock
from picontroller.core.header import POSITION_OF


class Panel:
    """What the agent's servicer talks to. ``run`` has to run in the background for outputs to be safe from the manager's silence."""

    def __init__(self, header: Header, lines: Lines, events: Events, silence: Silence) -> None:
        self.lines = lines
        self.events = events
        self.silence = silence
        self._header = header

    async def control(self, operations: Sequence[Operation]) -> list[Result]:
        """Carry out a batch of the manager's; see ``Lines.control`` for errors."""
        self.silence.heard()
        results = await self.lines.control(operations)
        if not all(isinstance(operation.action, Read) for operation in operations):
            self.silence.written()
        return results

    def watch(self, refs: Sequence[PinRef], after: int, run_id: str) -> AsyncGenerator[Batch]:
        """Yield what happens on lines (all when ``refs`` is empty); see ``Events.subscribe``. Raises InvalidArgument for unknown lines."""
        bcms = frozenset(self._header.resolve(ref).bcm for ref in refs)
        return self.events.subscribe(bcms, after, run_id)

    def heard(self, ttl: float | None) -> None:
        """Take down a sign of life of the manager's; ``ttl`` in seconds, None to keep what holds."""
        self.silence.heard(ttl)

    def problems(self) -> list[str]:
        """Return what is wrong, one line each, beginning with a word in capitals."""
        silent = ["SAFE_BY_SILENCE: outputs went to their safe states because the GPIO manager stayed away"] if self.silence.safe else []
        return [*silent, *self.lines.problems()]

    async def run(self) -> None:
        """Watch for the manager's silence, for ever."""
        await self.silence.run()


@asynccontextmanager
async def opened(
    driver: PinDriver, folder: Path, clock: Clock, reserved: Callable[[], Mapping[int, str]] = dict[int, str]
) -> AsyncIterator[Panel]:
    """Put GPIO together over an open driver, with ``lines.json`` in ``folder``, and bring known outputs to their safe states.

    On the way out outputs become safe once more and the driver is closed.
    """
    try:
        header = Header(driver.label, await driver.perform(_infos), reserved)
        events = Events(clock)
        lines = Lines(driver, header, events, LinesFile(folder / "lines.json", header), clock)
        await lines.start()
        try:
            yield Panel(header, lines, events, Silence(lines, clock))
        finally:
            await lines.stop()
    finally:
        await driver.close()


def _infos(bank: PinBank) -> list[LineInfo]:
    return [bank.info(bcm) for bcm in POSITION_OF]
