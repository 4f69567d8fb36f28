"""The lines in use: batches of operations on them, their fencing epochs, and their safe states.

The table belongs to the driver's place of work: it is read and changed only within ``PinDriver.perform``, so that a batch sees no other
half way and needs no lock. A known output is on disk before it is first driven, and takes its safe state before anything else when the
agent starts.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from picontroller.agent.gpio.applying import Applying, Outcome
from picontroller.agent.gpio.drivers import CONSUMER, PinBank, PinDriver
from picontroller.agent.gpio.events import Events, Happening
from picontroller.agent.gpio.header import Header
from picontroller.agent.gpio.operations import Epoch, Operation, Result
from picontroller.agent.gpio.pins import Cause, Mode, ResolvedPin, SafeState
from picontroller.agent.gpio.planning import Plan, Planner
from picontroller.agent.gpio.table import Line, Remembered
from picontroller.core.clock import Clock
from picontroller.core.errors import DataLoss, Error, Unavailable
from picontroller.core.header import name_of

log = logging.getLogger(__name__)


class Memory(Protocol):
    """What outlives the agent."""

    def load(self) -> Remembered:
        """Return what was saved, nothing at first. Raises DataLoss when it is damaged; the next load finds nothing then."""
        ...

    def save(self, remembered: Remembered) -> None:
        """Replace what was saved, wholly or not at all. Raises our errors."""
        ...


class Lines:
    """The lines of one board."""

    def __init__(self, driver: PinDriver, header: Header, events: Events, memory: Memory, clock: Clock) -> None:
        self._driver = driver
        self._header = header
        self._events = events
        self._memory = memory
        self._clock = clock
        self._planner = Planner(header, driver.features)
        self._table: dict[int, Line] = {}
        self._epochs: dict[int, Epoch] = {}
        self._saved = Remembered({}, {})
        self._damage = ""
        self._stopped = False

    @property
    def atomicity(self) -> str:
        """How nearly at once the lines of a batch move."""
        return self._driver.atomicity

    @property
    def in_use(self) -> int:
        """How many lines are in use."""
        return len(self._table)

    def uncontrolled(self) -> list[Line]:
        """Return the outputs that we know and do not hold, so that nobody keeps them safe."""
        return [line for line in list(self._table.values()) if not line.held]

    def problems(self) -> list[str]:
        """Return what is wrong, one line each, beginning with a word in capitals."""
        names = [name_of(line.pin.bcm) for line in self.uncontrolled()]
        lost = [f"LINE_NOT_HELD: {', '.join(names)}: outputs whose safe state can't be kept; see the log"] if names else []
        return [*lost, *([self._damage] if self._damage else []), *self._driver.problems()]

    async def start(self) -> None:
        """Bring all known outputs to their safe states. To be called once, before anything else."""
        self._driver.listen(lambda edges: self._events.publish_edges(self._header, edges))
        await self._driver.perform(self._start)

    async def control(self, operations: Sequence[Operation]) -> list[Result]:
        """Carry out a batch in its order, wholly or not at all, and return a result for each operation.

        Raises InvalidArgument (PIN_UNKNOWN, PIN_POWER, PIN_RESERVED, EPOCH_MISSING, SETTINGS_CONTRADICT), Conflict (EPOCH_STALE),
        FailedPrecondition (LINE_NOT_CONFIGURED, NOT_AN_OUTPUT, LINE_BUSY, PIN_RESERVED), Unsupported (FEATURE_MISSING), Unavailable
        (HARDWARE_ERROR, STATE_NOT_WRITABLE, STOPPING) and QuotaExceeded (STATE_NOT_WRITABLE). Epochs of a batch that was right stay
        in force when the hardware then fails.
        """
        return await self._driver.perform(lambda bank: self._control(bank, operations))

    async def make_safe(self, reason: str) -> int:
        """Bring all outputs to their safe states, each for itself, and return how many moved. Lines that fail are in ``problems``."""
        return await self._driver.perform(lambda bank: self._make_safe(bank, reason))

    async def reclaim(self) -> None:
        """Try again to get outputs that we do not hold, and bring them to their safe states."""
        await self._driver.perform(lambda bank: self._take_known(bank))

    async def stop(self) -> None:
        """Bring all outputs to their safe states for good: batches that come later are refused. Lines stay held until the driver closes."""
        self._stopped = True
        await self.make_safe("the agent stops")

    async def survey(self) -> list[tuple[ResolvedPin, str]]:
        """Return all lines of the header with what stands in the way of using them, empty for nothing."""
        return await self._driver.perform(self._survey)

    def _start(self, bank: PinBank) -> None:
        try:
            self._saved = self._memory.load()
        except DataLoss as error:
            log.error("the remembered lines are damaged", extra={"error": error.message})
            self._damage = f"LINES_DAMAGED: {error.message}"
            self._saved = self._memory.load()
        self._epochs = dict(self._saved.epochs)
        self._table = {bcm: replace(line, held=False) for bcm, line in self._saved.outputs.items()}
        self._take_known(bank)

    def _take_known(self, bank: PinBank) -> None:
        happenings: list[Happening] = []
        for line in self.uncontrolled():
            bcm, safe = line.pin.bcm, replace(line.at_safe(), held=True)
            if safe.safe is SafeState.HOLD:
                safe = replace(safe, level=None, as_is=True)
            try:
                bank.request(bcm, safe.settings())
                self._table[bcm] = safe
                happenings.append(Happening(line.pin, bank.get([bcm])[bcm], Cause.SAFE, self._clock.now()))
            except Error as error:
                log.warning("a known output can't be taken", extra={"bcm": bcm, "reason": error.reason, "error": error.message})
        self._events.publish(happenings)

    def _control(self, bank: PinBank, operations: Sequence[Operation]) -> list[Result]:
        if self._stopped:
            raise Unavailable("the agent stops", reason="STOPPING")
        plan = self._planner.plan(operations, self._table, self._epochs)
        if plan.lasting:
            self._remember_before(plan)
        applying = Applying(bank, self._clock)
        try:
            outcome = applying.run(plan.steps)
        except Exception:
            self._settle(applying.outcome)
            raise
        for bcm, line in plan.lines.items():
            if line is None:
                self._table.pop(bcm, None)
            else:
                self._table[bcm] = line
        if plan.lasting:
            self._remember_after()
        self._events.publish(outcome.happenings)
        return outcome.results

    def _remember_before(self, plan: Plan) -> None:
        """Save what must be on disk before the plan begins: epochs, and outputs as they will be; those to be given up still."""
        epochs = {**self._epochs, **plan.epochs} if plan.epochs else self._epochs
        outputs = _outputs(self._table)
        for bcm, line in plan.lines.items():
            if line is not None and line.mode is Mode.OUTPUT:
                outputs[bcm] = _bare(line)
        self._save(Remembered(outputs, epochs))
        self._epochs = epochs

    def _remember_after(self) -> None:
        """Save what holds now. A failure is no reason to fail what was done: the file then knows an output too many, which is harmless."""
        try:
            self._save(Remembered(_outputs(self._table), self._epochs))
        except Error as error:
            log.warning("lines could not be saved", extra={"reason": error.reason, "error": error.message})

    def _save(self, wanted: Remembered) -> None:
        if wanted != self._saved:
            self._memory.save(wanted)
            self._saved = wanted

    def _settle(self, outcome: Outcome) -> None:
        """Take over what could not be put back after a failure."""
        self._table.update(outcome.unsettled)
        self._remember_after()
        self._events.publish(outcome.happenings)

    def _make_safe(self, bank: PinBank, reason: str) -> int:
        happenings: list[Happening] = []
        for line in list(self._table.values()):
            safe = line.at_safe()
            if safe == line or not line.held:
                continue
            bcm = line.pin.bcm
            try:
                bank.reconfigure(bcm, safe.settings())
                self._table[bcm] = safe
                happenings.append(Happening(line.pin, bank.get([bcm])[bcm], Cause.SAFE, self._clock.now()))
            except Error as error:
                log.error("an output can't be made safe", extra={"bcm": bcm, "reason": error.reason, "error": error.message})
                bank.release(bcm)
                self._table[bcm] = replace(safe, held=False)
        self._take_known(bank)
        if happenings:
            log.warning("outputs were brought to their safe states", extra={"cause": reason, "lines": len(happenings)})
        self._events.publish(happenings)
        return len(happenings)

    def _survey(self, bank: PinBank) -> list[tuple[ResolvedPin, str]]:
        found = []
        for pin in self._header.pins():
            consumer = bank.info(pin.bcm).consumer
            claimed = f"claimed by {consumer}" if consumer and consumer != CONSUMER else ""
            found.append((pin, self._header.use_of(pin.bcm) or claimed))
        return found


def _outputs(table: Mapping[int, Line]) -> dict[int, Line]:
    return {bcm: _bare(line) for bcm, line in table.items() if line.mode is Mode.OUTPUT}


def _bare(line: Line) -> Line:
    """Return what is remembered of an output."""
    return Line(line.pin, Mode.OUTPUT, safe=line.safe, bias=line.bias, drive=line.drive, active_low=line.active_low, held=False)
