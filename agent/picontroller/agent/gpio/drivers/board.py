"""A simulated board: the lines as a ``PinBank``, and the side that hardware has not.

``drive`` puts levels on pins from outside, ``claim`` lets somebody else hold a line, ``fail`` makes operations fail, ``drop_edges`` loses
edges as a kernel does. To be used on the event loop only.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence

from picontroller.agent.gpio.drivers import CONSUMER, Direction, EdgeListener, Feature, LineEdge, LineInfo, LineSettings
from picontroller.agent.gpio.drivers.simulation import Simulation, Wiring
from picontroller.agent.gpio.pins import Bias, Drive, Edge, Level
from picontroller.core.clock import Clock
from picontroller.core.errors import Error, FailedPrecondition, Unavailable, Unsupported
from picontroller.core.header import POSITION_OF, name_of
from picontroller.core.tasks import cancel_and_wait

NANOSECONDS = 1_000_000_000


class SimBoard:
    """The lines of a board that exists in software only. ``operations`` counts what was done with them, each line of a batch by itself."""

    def __init__(self, simulation: Simulation, clock: Clock) -> None:
        self.operations = 0
        self.listener: EdgeListener = _nobody
        self._simulation = simulation
        self._clock = clock
        self._wiring = Wiring(simulation)
        self._claimed = dict(simulation.claimed)
        self._seen: dict[int, bool] = {}
        self._lost: dict[int, int] = {}
        self._settling: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._failures: dict[int, Error] = {}

    # The lines.

    def info(self, bcm: int) -> LineInfo:
        """Return what is known of a line."""
        consumer = CONSUMER if bcm in self._wiring.held else self._claimed.get(bcm, "")
        return LineInfo(bcm, name_of(bcm), consumer, self._wiring.direction(bcm))

    def request(self, bcm: int, settings: LineSettings) -> None:
        """Take a line."""
        self._step()
        if bcm not in POSITION_OF:
            raise Unavailable(f"the header has no line {bcm}", reason="HARDWARE_ERROR")
        if holder := self.info(bcm).consumer:
            raise FailedPrecondition(f"{name_of(bcm)} is held by {holder}", reason="LINE_BUSY", metadata={"consumer": holder})
        self._check_features(bcm, settings)
        self._hold(bcm, settings)

    def reconfigure(self, bcm: int, settings: LineSettings) -> None:
        """Change a line."""
        self._step()
        self._held(bcm)
        self._check_features(bcm, settings)
        self._hold(bcm, settings)

    def set(self, levels: Mapping[int, Level]) -> None:
        """Drive outputs, one after the other."""
        for bcm, level in levels.items():
            self._step()
            settings = self._held(bcm)
            if settings.direction is not Direction.OUTPUT:
                raise Unavailable(f"{name_of(bcm)} is not an output", reason="HARDWARE_ERROR")
            if level is not settings.level:
                settings = settings.at(level)
            self._hold(bcm, settings)

    def get(self, bcms: Iterable[int]) -> dict[int, Level]:
        """Return levels at the pins."""
        found = {}
        for bcm in bcms:
            self._step()
            found[bcm] = _logical(self._wiring.high(bcm), self._held(bcm))
        return found

    def release(self, bcm: int) -> None:
        """Let a line go."""
        self._wiring.let_go(bcm)
        self._seen.pop(bcm, None)
        self._lost.pop(bcm, None)

    # The side that hardware has not.

    @property
    def held(self) -> frozenset[int]:
        """The lines that we hold."""
        return frozenset(self._wiring.held)

    def level(self, bcm: int) -> Level:
        """Return the physical level at a pin, as a voltmeter would see it; for lines that nobody requested too."""
        return Level.HIGH if self._wiring.high(bcm) else Level.LOW

    def direction(self, bcm: int) -> Direction:
        """Return which way a line works, requested or not."""
        return self._wiring.direction(bcm)

    def drive(self, bcm: int, level: Level | None) -> None:
        """Put a physical level on a pin from outside, None to take it away. It bounces first when the simulation says so."""
        if bcm not in POSITION_OF:
            raise ValueError(f"the header has no BCM line {bcm}")
        if self._simulation.bounces and level is not None:
            self._start(("bounce", bcm), self._bounce(bcm, level))
        else:
            self._connect(bcm, level)

    def claim(self, bcm: int, consumer: str | None) -> None:
        """Let somebody else hold a line, None to have it free again."""
        if consumer is None:
            self._claimed.pop(bcm, None)
        else:
            self._claimed[bcm] = consumer

    def fail(self, nth: int = 1, error: Error | None = None) -> None:
        """Let the ``nth`` operation from now fail. Each line that a ``set`` or ``get`` touches counts as one."""
        self._failures[self.operations + nth] = error or Unavailable("the simulated hardware failed", reason="HARDWARE_ERROR")

    def mend(self) -> None:
        """Forget failures that have not happened yet."""
        self._failures.clear()

    def drop_edges(self, bcm: int, count: int) -> None:
        """Let a line that we hold lose so many edges, as a kernel does when nobody reads in time."""
        self._lost[bcm] = self._lost.get(bcm, 0) + count

    async def close(self) -> None:
        """Let all lines go and end what is still settling."""
        for bcm in self.held:
            self.release(bcm)
        await cancel_and_wait(*self._settling.values())
        self._settling.clear()

    def _step(self) -> None:
        self.operations += 1
        if failure := self._failures.pop(self.operations, None):
            raise failure

    def _check_features(self, bcm: int, settings: LineSettings) -> None:
        wanted = {
            Feature.EDGES: settings.edge is not Edge.NONE,
            Feature.DEBOUNCE: settings.debounce_us > 0,
            Feature.BIAS: settings.bias is not Bias.AS_IS,
            Feature.OPEN_DRAIN: settings.drive is Drive.OPEN_DRAIN,
            Feature.OPEN_SOURCE: settings.drive is Drive.OPEN_SOURCE,
        }
        if missing := [feature.value for feature, needed in wanted.items() if needed and feature not in self._simulation.features]:
            raise Unsupported(f"{name_of(bcm)}: the board can't do {', '.join(missing)}", reason="FEATURE_MISSING")

    def _held(self, bcm: int) -> LineSettings:
        settings = self._wiring.held.get(bcm)
        if settings is None:
            raise Unavailable(f"{name_of(bcm)} is not requested", reason="HARDWARE_ERROR")
        return settings

    def _hold(self, bcm: int, settings: LineSettings) -> None:
        self._wiring.hold(bcm, settings)
        self._seen[bcm] = self._wiring.high(bcm)
        self._look_around(bcm)

    def _connect(self, bcm: int, level: Level | None) -> None:
        self._wiring.connect(bcm, None if level is None else level is Level.HIGH)
        self._look_around(bcm)

    async def _bounce(self, bcm: int, level: Level) -> None:
        opposite = Level.LOW if level is Level.HIGH else Level.HIGH
        for _ in range(self._simulation.bounces):
            self._connect(bcm, level)
            await self._clock.sleep(self._simulation.bounce_seconds)
            self._connect(bcm, opposite)
            await self._clock.sleep(self._simulation.bounce_seconds)
        self._connect(bcm, level)

    def _look_around(self, bcm: int) -> None:
        """Report what changed on a net to the inputs that watch it."""
        for pin in self._wiring.net(bcm):
            settings = self._wiring.held.get(pin)
            if settings is None or settings.edge is Edge.NONE or self._wiring.high(pin) == self._seen[pin]:
                self._stop(("settle", pin))
            elif settings.debounce_us:
                self._start(("settle", pin), self._settle(pin, settings))
            else:
                self._notice(pin, settings)

    async def _settle(self, bcm: int, settings: LineSettings) -> None:
        await self._clock.sleep(settings.debounce_us / 1_000_000)
        if self._wiring.held.get(bcm) == settings:
            self._notice(bcm, settings)

    def _notice(self, bcm: int, settings: LineSettings) -> None:
        high = self._seen[bcm] = self._wiring.high(bcm)
        level = _logical(high, settings)
        if settings.edge is Edge.BOTH or (settings.edge is Edge.RISING) == (level is Level.HIGH):
            time_ns = int(self._clock.now().timestamp() * NANOSECONDS)
            self.listener((LineEdge(bcm, level, time_ns, self._lost.pop(bcm, 0)),))

    def _start(self, key: tuple[str, int], work: Coroutine[object, None, None]) -> None:
        """Run what takes time, in place of what was under way for the same pin."""
        self._stop(key)
        task = self._settling[key] = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda ended: self._settling.pop(key, None) if self._settling.get(key) is ended else None)

    def _stop(self, key: tuple[str, int]) -> None:
        running = self._settling.pop(key, None)
        if running is not None:
            running.cancel()


def _nobody(edges: Sequence[LineEdge]) -> None:
    """Listen to edges until somebody does."""


def _logical(high: bool, settings: LineSettings) -> Level:
    return Level.HIGH if high != settings.active_low else Level.LOW
