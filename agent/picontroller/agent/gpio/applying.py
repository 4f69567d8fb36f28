"""Carrying out a plan on the hardware, wholly or not at all.

Every move is noted before it is made, so that a failure half way can be taken back in the opposite order. Lines are let go last: that is
the one thing that can't be taken back.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from picontroller.agent.gpio.drivers import Direction, PinBank
from picontroller.agent.gpio.events import Happening
from picontroller.agent.gpio.operations import Configure, Release, Result, Write
from picontroller.agent.gpio.pins import Cause, Level, Mode
from picontroller.agent.gpio.planning import Step
from picontroller.agent.gpio.table import Line
from picontroller.core.clock import Clock
from picontroller.core.errors import Error

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcome:
    """What came of a plan: a result for each step, and what happened on the way.

    ``unsettled`` holds lines that could not be put back after a failure, as they are now: in their safe state, or no longer held.
    """

    results: list[Result] = field(default_factory=list)
    happenings: list[Happening] = field(default_factory=list)
    unsettled: dict[int, Line] = field(default_factory=dict)


class Applying:
    """One plan on its way. ``outcome`` is worth a look after a failure too."""

    def __init__(self, bank: PinBank, clock: Clock) -> None:
        self.outcome = Outcome()
        self._bank = bank
        self._clock = clock
        self._moved: list[tuple[Line | None, Line]] = []
        self._now: dict[int, Line] = {}
        self._leaving: dict[int, None] = {}

    def run(self, steps: Sequence[Step]) -> Outcome:
        """Carry out all steps; take back what was done, and raise, when one fails."""
        index = 0
        try:
            while index < len(steps):
                index += self._next(steps[index:] if index else steps)
        except Exception:
            self.outcome.happenings.clear()
            self._take_back()
            raise
        for bcm in self._leaving:
            self._bank.release(bcm)
        return self.outcome

    def _next(self, steps: Sequence[Step]) -> int:
        """Carry out the first step, together with the writes that can go with it; return how many that were."""
        first = steps[0]
        if isinstance(first.action, Write):
            group: dict[int, Step] = {}
            for step in steps:
                if not isinstance(step.action, Write) or step.pin.bcm in group:
                    break
                group[step.pin.bcm] = step
            self._write(group)
            self._observe(list(group.values()))
            return len(group)
        if isinstance(first.action, Release):
            self._leave(first)
            return 1
        if isinstance(first.action, Configure) and first.after is not None:
            self._move(first.before, first.after)
        self._observe([first])
        return 1

    def _write(self, group: dict[int, Step]) -> None:
        """Drive several outputs as nearly at once as can be. Those that are not driven yet need to become outputs first."""
        levels: dict[int, Level] = {}
        for bcm, step in group.items():
            before, after = self._current(step.before, bcm), step.after
            if after is None or after.level is None:
                continue  # no plan has this
            if before is None or before.level is None or before.as_is:
                self._move(step.before, after)
            else:
                self._moved.append((before, after))
                self._now[bcm] = after
                levels[bcm] = after.level
        if levels:
            self._bank.set(levels)

    def _current(self, before: Line | None, bcm: int) -> Line | None:
        """Return a line as the driver holds it at this point of the plan, None when it does not."""
        if bcm in self._now:
            return self._now[bcm]
        return before if before is not None and before.held else None

    def _move(self, before: Line | None, after: Line) -> None:
        """Bring a line from how it is to how it shall be."""
        bcm = after.pin.bcm
        current = self._current(before, bcm)
        if current is None:
            self._bank.request(bcm, after.settings())
        elif current.as_is and not after.as_is:
            current = self._as_found(current)
        self._moved.append((current, after))
        self._now[bcm] = after
        if current is not None:
            self._bank.reconfigure(bcm, after.settings())

    def _as_found(self, line: Line) -> Line:
        """Return a line that was left as it was with what that is, so that it can be put back."""
        bcm = line.pin.bcm
        driven = self._bank.info(bcm).direction is Direction.OUTPUT
        return replace(line, as_is=False, level=self._bank.get([bcm])[bcm] if driven else None)

    def _leave(self, step: Step) -> None:
        bcm = step.pin.bcm
        self.outcome.results.append(Result(step.pin))
        current = self._current(step.before, bcm)
        if current is None:
            return
        safe = current.at_safe()
        if safe != current:
            self._move(current, safe)
            self.outcome.happenings.append(Happening(step.pin, self._bank.get([bcm])[bcm], Cause.SAFE, self._clock.now()))
        self._now[bcm] = safe
        self._leaving[bcm] = None

    def _observe(self, steps: Sequence[Step]) -> None:
        """Read lines back, and tell what changed."""
        levels = self._bank.get([step.pin.bcm for step in steps])
        now = self._clock.now()
        for step in steps:
            level = levels[step.pin.bcm]
            self.outcome.results.append(Result(step.pin, level, now))
            if isinstance(step.action, Configure):
                self._leaving.pop(step.pin.bcm, None)
                self.outcome.happenings.append(Happening(step.pin, level, Cause.CONFIGURE, now))
            elif isinstance(step.action, Write) and (step.before is None or step.before.level is not step.action.value):
                self.outcome.happenings.append(Happening(step.pin, level, Cause.WRITE, now))

    def _take_back(self) -> None:
        for before, after in reversed(self._moved):
            bcm = after.pin.bcm
            if bcm in self.outcome.unsettled:
                continue
            try:
                if before is not None:
                    self._bank.reconfigure(bcm, before.settings())
                    continue
                if after.mode is Mode.OUTPUT:
                    self._bank.reconfigure(bcm, after.undriven().settings())
            except Error as error:
                log.error("a line could not be put back", extra={"bcm": bcm, "reason": error.reason, "error": error.message})
                self.outcome.unsettled[bcm] = self._secured((before or after).at_safe())
            else:
                self._bank.release(bcm)

    def _secured(self, safe: Line) -> Line:
        """Bring a line that could not be put back to its safe state, or let it go when even that fails, and return it."""
        bcm = safe.pin.bcm
        try:
            self._bank.reconfigure(bcm, safe.settings())
            level = self._bank.get([bcm])[bcm]
        except Error:
            self._bank.release(bcm)
            return replace(safe, held=False)
        self.outcome.happenings.append(Happening(safe.pin, level, Cause.SAFE, self._clock.now()))
        return replace(safe, held=True)
