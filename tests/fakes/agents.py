"""Agents in memory, as the GPIO manager sees them, with boards that tests restart, silence, cut off and drive from outside.

Passes ``tests/contract/gpio/test_agents.py`` with the real agent behind the real adapter.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from picontroller.core.clock import Clock
from picontroller.core.errors import Conflict, DeadlineExceeded, Error, FailedPrecondition, OutOfRange
from picontroller.core.header import POSITION_OF
from picontroller.gpio import boards
from picontroller.gpio.boards import Batch, Cause, Configure, Health, LineEvent, Node, Operation, Outcome, Position, Read, Release, Write
from picontroller.gpio.resources import Edge, Epoch, Level, Mode, Observation, Resolved, Safe


@dataclass(frozen=True, slots=True)
class FakeLine:
    """A line in use. ``driven`` is the level it drives, None while it does not."""

    config: Configure
    driven: Level | None


@dataclass
class FakeBoard:
    """One Pi. ``refusals`` fail operations on a line with an error; ``unheard`` lets work be done and the answer be lost."""

    clock: Clock
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    reachable: bool = True
    unheard: bool = False
    safe_by_silence: bool = False
    gate: asyncio.Event | None = None
    refusals: dict[int, Error] = field(default_factory=dict)
    lines: dict[int, FakeLine] = field(default_factory=dict)
    epochs: dict[int, Epoch] = field(default_factory=dict)
    outside: dict[int, Level] = field(default_factory=dict)
    events: list[LineEvent] = field(default_factory=list)
    forgotten: int = 0
    newest: int = 0
    waiting_at_gate: int = 0
    watchers: int = 0
    signs_of_life: list[float] = field(default_factory=list)
    batches: list[list[Operation]] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def level(self, bcm: int) -> Level:
        """Return what is on a line: what drives it, LOW when nothing does."""
        line = self.lines.get(bcm)
        return (line.driven if line else None) or self.outside.get(bcm, Level.LOW)

    async def drive(self, bcm: int, level: Level) -> None:
        """Put a level on an input from outside."""
        before, self.outside[bcm] = self.level(bcm), level
        line = self.lines.get(bcm)
        if line and line.config.edge not in (None, Edge.NONE) and before is not level:
            await self.tell(bcm, "edge")

    async def tell(self, bcm: int, cause: Cause, time: datetime | None = None) -> None:
        """Tell of an event on a line."""
        self.newest += 1
        self.events.append(LineEvent(self.newest, bcm, POSITION_OF[bcm], self.level(bcm), cause, time or self.clock.now()))
        async with self.news:
            self.news.notify_all()

    async def forget_events(self, count: int) -> None:
        """Drop the oldest events."""
        self.forgotten = self.events[count - 1].sequence
        del self.events[:count]

    async def restart(self) -> None:
        """Begin a new run: streams break, inputs are forgotten, known outputs take their safe states."""
        self.run_id, self.events, self.newest, self.forgotten = str(uuid.uuid4()), [], 0, 0
        self.lines = {bcm: line for bcm, line in self.lines.items() if line.config.mode is Mode.OUTPUT}
        async with self.news:
            self.news.notify_all()
        await self.make_safe()

    async def fall_silent(self) -> None:
        """Bring outputs to safety because the manager stayed away."""
        await self.make_safe()
        self.safe_by_silence = True

    async def make_safe(self) -> None:
        """Bring all outputs to their safe states."""
        for bcm, line in list(self.lines.items()):
            if line.config.mode is Mode.OUTPUT:
                self.lines[bcm] = replace(line, driven=safe_level(line))
                await self.tell(bcm, "safe")


def safe_level(line: FakeLine) -> Level | None:
    """Return what a line drives in its safe state."""
    return {Safe.LOW: Level.LOW, Safe.HIGH: Level.HIGH, Safe.HOLD: line.driven}.get(line.config.safe or Safe.INPUT)


class FakeAgents:
    """A ``gpio.boards.Agents``."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.boards: dict[str, FakeBoard] = {}

    def add(self, node_id: str) -> FakeBoard:
        """Add a board."""
        self.boards[node_id] = FakeBoard(self._clock)
        return self.boards[node_id]

    async def control(self, node: Node, operations: Sequence[Operation], seconds: float) -> list[Outcome]:
        board = self._board(node)
        if board.gate is not None:
            board.waiting_at_gate += 1
            await board.gate.wait()
            board.waiting_at_gate -= 1
        board.batches.append(list(operations))
        lines, epochs, causes, outcomes = dict(board.lines), dict(board.epochs), [], []
        try:
            for operation in operations:
                causes.append(self._apply(board, operation))
                bcm = operation.bcm
                where = Resolved(bcm, POSITION_OF[bcm], "fake", bcm, f"GPIO{bcm}")
                seen = None if isinstance(operation.action, Release) else Observation(board.level(bcm), self._clock.now())
                outcomes.append(Outcome(where, seen))
        except Error:
            board.lines, board.epochs = lines, epochs
            raise
        for operation, cause in zip(operations, causes, strict=True):
            if cause:
                await board.tell(operation.bcm, cause)
        if any(causes):
            board.safe_by_silence = False
        if board.unheard:
            raise DeadlineExceeded("no answer", reason="NODE_SILENT")
        return outcomes

    async def health(self, node: Node, manager_ttl_seconds: float) -> Health:
        board = self._board(node)
        board.signs_of_life.append(manager_ttl_seconds)
        return Health(board.run_id, board.safe_by_silence)

    async def events(self, node: Node, after: Position | None) -> AsyncGenerator[Batch, None]:
        board = self._board(node)
        run_id = board.run_id
        sequence, lost = board.newest, 0
        if after is not None:
            same = after.run_id == run_id
            if same and after.sequence > board.newest:
                raise OutOfRange("that sequence is not reached", reason="SEQUENCE_UNKNOWN")
            sequence = max(after.sequence if same else 0, board.forgotten)
            lost = sequence - after.sequence if same else sequence
        board.watchers += 1
        try:
            yield Batch((), lost, Position(run_id, sequence))
            while True:
                self._board(node)
                if board.run_id != run_id:
                    raise boards.offline(node.id, "the agent was restarted")
                events = tuple(event for event in board.events if event.sequence > sequence)
                if events:
                    sequence = events[-1].sequence
                    yield Batch(events, 0, Position(run_id, sequence))
                    continue
                async with board.news:
                    await board.news.wait()
        finally:
            board.watchers -= 1

    def _board(self, node: Node) -> FakeBoard:
        board = self.boards.get(node.id)
        if board is None or not board.reachable:
            raise boards.offline(node.id, "connection refused")
        return board

    def _apply(self, board: FakeBoard, operation: Operation) -> Cause | None:
        """Do one operation and return what it is to be told as."""
        bcm, action = operation.bcm, operation.action
        if bcm in board.refusals:
            raise board.refusals[bcm]
        if isinstance(action, Read):
            if bcm not in board.lines:
                raise FailedPrecondition(f"GPIO{bcm} is not in use", reason="LINE_NOT_CONFIGURED")
            return None
        assert operation.epoch is not None
        if operation.epoch < board.epochs.get(bcm, Epoch(0, 0)):
            raise Conflict(f"GPIO{bcm} has a newer owner", reason="EPOCH_STALE")
        board.epochs[bcm] = operation.epoch
        if isinstance(action, Configure):
            line = FakeLine(action, None)
            board.lines[bcm] = replace(line, driven=action.value or safe_level(line)) if action.mode is Mode.OUTPUT else line
            return "configure"
        if isinstance(action, Release):
            line_before = board.lines.pop(bcm, None)
            return "safe" if line_before and line_before.driven else None
        return self._write(board, bcm, action)

    def _write(self, board: FakeBoard, bcm: int, action: Write) -> Cause | None:
        if bcm not in board.lines:
            raise FailedPrecondition(f"GPIO{bcm} is not in use", reason="LINE_NOT_CONFIGURED")
        line = board.lines[bcm]
        if line.config.mode is not Mode.OUTPUT:
            raise FailedPrecondition(f"GPIO{bcm} is not an output", reason="NOT_AN_OUTPUT")
        board.lines[bcm] = replace(line, driven=action.value)
        return "write" if line.driven is not action.value else None
