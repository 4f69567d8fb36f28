"""Checking a batch of operations against the lines in use, before anything moves.

A plan is made of the table alone: it touches no hardware, and a batch with one wrong operation leaves no trace.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from picontroller.agent.gpio.drivers import Feature
from picontroller.agent.gpio.header import Header
from picontroller.agent.gpio.operations import Action, Configure, Epoch, Operation, Read, Release, Write
from picontroller.agent.gpio.pins import Bias, Drive, Edge, Mode, ResolvedPin
from picontroller.agent.gpio.table import Line, configured
from picontroller.core.errors import Conflict, Error, FailedPrecondition, InvalidArgument, Unsupported, Violation
from picontroller.core.header import name_of


@dataclass(frozen=True, slots=True)
class Step:
    """What one operation makes of its line: ``before`` and ``after``, None where the line is not in use."""

    pin: ResolvedPin
    action: Action
    before: Line | None
    after: Line | None


@dataclass(frozen=True, slots=True)
class Plan:
    """A batch that may be carried out. ``lines`` holds the lines that it changes as they will be, None for those given up.

    ``epochs`` holds those that are higher than what was seen before. ``lasting`` is True when it changes what outlives the agent.
    """

    steps: tuple[Step, ...]
    lines: Mapping[int, Line | None]
    epochs: Mapping[int, Epoch]
    lasting: bool


class Planner:
    """Makes plans for one board."""

    def __init__(self, header: Header, features: Collection[Feature]) -> None:
        self._header = header
        self._features = features

    def plan(self, operations: Sequence[Operation], table: Mapping[int, Line], epochs: Mapping[int, Epoch]) -> Plan:
        """Return the plan of a batch. Each operation sees what those before it did. Raises our errors, naming the operation at fault."""
        steps: list[Step] = []
        lines: dict[int, Line | None] = {}
        raised: dict[int, Epoch] = {}
        for index, operation in enumerate(operations):
            try:
                pin = self._header.resolve(operation.pin)
                if not isinstance(operation.action, Read):
                    _fence(operation, pin, epochs, raised)
                before = lines[pin.bcm] if pin.bcm in lines else table.get(pin.bcm)
                after = self._after(operation.action, pin, before)
            except Error as error:
                raise _located(error, index, len(operations)) from None
            steps.append(Step(pin, operation.action, before, after))
            if not isinstance(operation.action, Read):
                lines[pin.bcm] = after
        lasting = bool(raised) or any(isinstance(step.action, Configure | Release) for step in steps)
        return Plan(tuple(steps), lines, raised, lasting)

    def _after(self, action: Action, pin: ResolvedPin, before: Line | None) -> Line | None:
        if isinstance(action, Release):
            return None
        if isinstance(action, Configure):
            self._header.check_free(pin)
            self._check(action, pin)
            return configured(pin, action, before)
        if before is None:
            raise FailedPrecondition(f"{name_of(pin.bcm)} is not in use; configure it first", reason="LINE_NOT_CONFIGURED")
        if isinstance(action, Write):
            if before.mode is not Mode.OUTPUT:
                raise FailedPrecondition(f"{name_of(pin.bcm)} is an input", reason="NOT_AN_OUTPUT")
            return before.driving(action.value)
        if not before.held:
            raise FailedPrecondition(f"{name_of(pin.bcm)} is not under our control", reason="LINE_NOT_HELD")
        return before

    def _check(self, wanted: Configure, pin: ResolvedPin) -> None:
        """Refuse settings that contradict each other, and what the board can't do."""
        name = name_of(pin.bcm)
        if wanted.mode is Mode.INPUT and wanted.value is not None:
            raise _contradiction(f"{name}: an input has no value to drive", "configure.value")
        if wanted.mode is Mode.INPUT and wanted.drive is not Drive.PUSH_PULL:
            raise _contradiction(f"{name}: an input does not drive", "configure.drive")
        if wanted.mode is Mode.OUTPUT and wanted.edge is not Edge.NONE:
            raise _contradiction(f"{name}: an output has no edges to report", "configure.edge")
        if wanted.mode is Mode.OUTPUT and wanted.debounce_us:
            raise _contradiction(f"{name}: an output is not debounced", "configure.debounce")
        for feature, needed in (
            (Feature.EDGES, wanted.edge is not Edge.NONE),
            (Feature.DEBOUNCE, wanted.debounce_us > 0),
            (Feature.BIAS, wanted.bias is not Bias.AS_IS),
            (Feature.OPEN_DRAIN, wanted.drive is Drive.OPEN_DRAIN),
            (Feature.OPEN_SOURCE, wanted.drive is Drive.OPEN_SOURCE),
        ):
            if needed and feature not in self._features:
                raise Unsupported(f"{name}: this board can't do {feature}", reason="FEATURE_MISSING", metadata={"feature": feature})


def _fence(operation: Operation, pin: ResolvedPin, epochs: Mapping[int, Epoch], raised: dict[int, Epoch]) -> None:
    """Refuse an epoch lower than the highest seen for the line, and take down a higher one."""
    epoch, name = operation.epoch, name_of(pin.bcm)
    if epoch is None:
        raise InvalidArgument(f"{name}: this needs an epoch", reason="EPOCH_MISSING", violations=[Violation("epoch", "is missing")])
    highest = raised.get(pin.bcm) or epochs.get(pin.bcm)
    if highest is not None and epoch < highest:
        raise Conflict(
            f"{name}: epoch {epoch} is over, {highest} has come",
            reason="EPOCH_STALE",
            metadata={"epoch": str(highest), "bcm": str(pin.bcm)},
        )
    if epoch != highest:
        raised[pin.bcm] = epoch


def _contradiction(text: str, field: str) -> InvalidArgument:
    return InvalidArgument(text, reason="SETTINGS_CONTRADICT", violations=[Violation(field, text)])


def _located(error: Error, index: int, count: int) -> Error:
    """Return an error that says which operation of the batch is at fault."""
    violations = [Violation(f"operations[{index}].{violation.field}", violation.description) for violation in error.violations]
    if not violations and isinstance(error, InvalidArgument):
        violations = [Violation(f"operations[{index}].pin", error.message)]
    text = error.message if count == 1 else f"operation {index}: {error.message}"
    return type(error)(text, reason=error.reason, violations=violations, metadata={**error.metadata, "operation": str(index)})
