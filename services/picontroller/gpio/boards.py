"""Pis as the GPIO manager sees them: where their agents are, what can be asked of them, what they tell.

An agent's answer is one of three: it did it, it refused and did nothing, or nobody knows (it did not answer in time, or the connection
broke). ``in_doubt`` tells the last apart; whoever moves lines must treat it as both.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from picontroller.core.errors import DataLoss, DeadlineExceeded, Error, Internal, Unavailable
from picontroller.gpio.resources import Bias, Drive, Edge, Epoch, Level, Mode, Observation, Resolved, Resource, Safe


@dataclass(frozen=True, slots=True)
class Node:
    """A Pi. ``online`` is False while it is lost or nobody knows its address; ``kernel_names`` are (name, BCM) of its header's lines."""

    id: str
    address: str
    online: bool
    kernel_names: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Configure:
    """Take a line into use, or change how it is used. An output without ``value`` goes to its safe state."""

    mode: Mode
    value: Level | None
    safe: Safe | None
    bias: Bias | None
    drive: Drive | None
    active_low: bool
    edge: Edge | None
    debounce: int


@dataclass(frozen=True, slots=True)
class Write:
    """Drive a line."""

    value: Level


@dataclass(frozen=True, slots=True)
class Read:
    """Look at a line."""


@dataclass(frozen=True, slots=True)
class Release:
    """Bring a line to its safe state and give it up."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing to do with one line. ``epoch`` is None for reading only."""

    bcm: int
    action: Configure | Write | Read | Release
    epoch: Epoch | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a line is after an operation; ``observed`` is None after a release."""

    resolved: Resolved
    observed: Observation | None


@dataclass(frozen=True, slots=True)
class Health:
    """How an agent is. ``run_id`` names its start; ``safe_by_silence`` when its outputs are safe because we had been silent."""

    run_id: str
    safe_by_silence: bool


Cause = Literal["edge", "write", "safe", "configure"]


@dataclass(frozen=True, slots=True)
class LineEvent:
    """One change of a line, as its agent tells it. ``sequence`` rises by one over all lines of one run of the agent."""

    sequence: int
    bcm: int
    header: int
    level: Level | None
    cause: Cause
    time: datetime


@dataclass(frozen=True, slots=True)
class Position:
    """How far an agent's events have been taken: the newest ``sequence`` of run ``run_id``."""

    run_id: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Events with the position after them, and how many were ``lost`` since the batch before."""

    events: tuple[LineEvent, ...]
    lost: int
    position: Position


class Agents(Protocol):
    """What can be asked of agents. Everything raises the agent's own errors, Unavailable (NODE_OFFLINE) when it can't be reached."""

    async def control(self, node: Node, operations: Sequence[Operation], seconds: float) -> list[Outcome]:
        """Do all operations, or none when one is refused; answer each in order."""
        ...

    async def health(self, node: Node, manager_ttl_seconds: float) -> Health:
        """Give a sign of life and ask how the agent is."""
        ...

    def events(self, node: Node, after: Position | None) -> AsyncGenerator[Batch, None]:
        """Yield what happens after a position, from now on when None. The first batch comes at once and tells the position."""
        ...


class Nodes(Protocol):
    """Which nodes there are."""

    async def find(self, node_id: str) -> Node:
        """Return a node. Raises NotFound (NODE_UNKNOWN), Unavailable when the list of nodes can't be had."""
        ...

    def known(self) -> Mapping[str, Node]:
        """Return the nodes as last heard, by id; nothing before the first word."""
        ...

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever ``known`` answers something else."""
        ...


def configuration(resource: Resource, value: Level | None) -> Configure:
    """Return how to configure a resource's line, with ``value`` as its level (None: its safe state)."""
    return Configure(
        resource.mode, value, resource.safe, resource.bias, resource.drive, resource.active_low, resource.edge, resource.debounce
    )


def offline(node_id: str, why: str = "it has not been heard of") -> Unavailable:
    """Return the error for a node that can't be asked."""
    return Unavailable(f"node {node_id} is offline: {why}", reason="NODE_OFFLINE", metadata={"node_id": node_id}, retry_after=5.0)


def silent(error: Error) -> bool:
    """Return whether a call failed because nobody answered it, other than because the agent refused it or its hardware failed."""
    return isinstance(error, DeadlineExceeded) or error.reason in ("NODE_OFFLINE", "NODES_UNAVAILABLE")


def in_doubt(error: Error) -> bool:
    """Return whether the agent may have done what it was asked to although the call failed."""
    return silent(error) or isinstance(error, Internal | DataLoss)
