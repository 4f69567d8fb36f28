"""Creating, changing and deleting resources: the disk decides who owns a line, the agent moves it, the disk keeps what came of it.

Nothing is acknowledged before the agent has read the line back and the result is on disk. When the agent refuses, nothing has changed. When
nobody knows whether it did what it was asked to, a new line is released again as soon as its node can be reached.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from picontroller.core.clock import Clock
from picontroller.core.errors import Error, NotFound
from picontroller.core.events import Event
from picontroller.core.store.requests import RequestKey
from picontroller.gpio import boards, resources, rows
from picontroller.gpio.boards import Agents, Node, Nodes, Operation, Position, Release, Write
from picontroller.gpio.resources import Change, Epoch, Mode, Observation, Resource, Stage, Wish
from picontroller.gpio.settings import Settings
from picontroller.gpio.turns import Turns

RECONFIGURING = frozenset({"safe", "bias", "edge", "debounce"})


@dataclass(frozen=True, slots=True)
class Pending:
    """A line that is still to be released under ``epoch``, because its node could not be reached."""

    bcm: int
    epoch: Epoch


class Holdings(Protocol):
    """Where resources are safe. See ``store.ResourceStore``, whose docstrings hold the particulars."""

    async def some(self, ids: Sequence[str]) -> dict[str, Resource]:
        """Return those of ``ids`` that are READY."""
        ...

    async def on_node(self, node_id: str) -> list[Resource]:
        """Return a node's resources in all stages."""
        ...

    async def recalled(self, key: RequestKey) -> str | None:
        """Return the answer to an earlier request with this key."""
        ...

    async def reserve(self, resource: Resource) -> Resource:
        """Reserve name and line; return the resource with its epoch."""
        ...

    async def abandon(self, resource: Resource, *, release: bool) -> None:
        """Take a reservation back."""
        ...

    async def keep(
        self, resource: Resource, event: Event | None, key: RequestKey, *, moved: bool, position: Position | None = None
    ) -> None:
        """Write a resource with its event and its answer."""
        ...

    async def delete(self, resource: Resource, event: Event, *, release: bool) -> None:
        """Forget a resource."""
        ...


def request_turn(key: RequestKey) -> str:
    """Return the name of the turn that repetitions of a request wait for; empty for a request without an id."""
    return f"request/{key.principal}/{key.request_id}" if key.request_id else ""


def node_turn(node_id: str) -> str:
    """Return the name of the turn under which lines of a node are taken into use, now or again."""
    return f"node/{node_id}"


def told(kind: str, resource: Resource, clock: Clock, **more: object) -> Event:
    """Return the event ``kind`` about a resource. ``data.pin`` is the BCM number and ``data.state`` the level seen, in lower case."""
    seen = resource.observed.level if resource.observed else None
    data: dict[str, object] = {
        "id": resource.id,
        "pin": resource.resolved.bcm,
        "header": resource.resolved.header,
        "mode": resource.mode.name.lower(),
        "state": seen.name.lower() if seen else "",
    }
    return Event(kind, clock.now(), resource.name, node_id=resource.node_id, namespace=resource.namespace, data=data | more)


class Controlling:
    """The life of resources. ``owners_changed`` is called when a node has got or lost a resource; ``look_at`` asks how an agent is."""

    def __init__(
        self,
        holdings: Holdings,
        nodes: Nodes,
        agents: Agents,
        turns: Turns,
        clock: Clock,
        settings: Settings,
        owners_changed: Callable[[], None],
        look_at: "Look",
    ) -> None:
        self._holdings = holdings
        self._nodes = nodes
        self._agents = agents
        self._turns = turns
        self._clock = clock
        self._settings = settings
        self._owners_changed = owners_changed
        self._look_at = look_at

    async def create(self, wish: Wish, key: RequestKey) -> Resource:
        """Take a line into use and return its resource.

        Raises InvalidArgument (PIN_UNKNOWN, PIN_POWER, PIN_RESERVED), NotFound (NODE_UNKNOWN), AlreadyExists (NAME_TAKEN, PIN_TAKEN),
        Unavailable (NODE_OFFLINE), and what the agent refuses it with.
        """
        return await self._turns.finish(self._create(wish, key))

    async def update(self, resource_id: str, change: Change, expected: frozenset[str] | None, key: RequestKey) -> Resource:
        """Change a resource and return it. Raises NotFound, Conflict (ETAG_STALE), Unavailable, and what ``resources.changed`` raises."""
        return await self._turns.finish(self._update(resource_id, change, expected, key))

    async def delete(self, resource_id: str, expected: frozenset[str] | None, *, force: bool) -> None:
        """Bring a line to safety and forget its resource. Raises NotFound, Conflict, and Unavailable unless forced."""
        await self._turns.finish(self._delete(resource_id, expected, force=force))

    async def _create(self, wish: Wish, key: RequestKey) -> Resource:
        async with self._turns.of([request_turn(key)]):
            if (reply := await self._holdings.recalled(key)) is not None:
                return rows.resource_from_json(reply)
            node = await self._nodes.find(wish.node_id)
            draft = resources.new_resource(wish, resources.bcm_of(wish.pin, node.kernel_names), self._clock.now())
            if not node.online:
                raise boards.offline(node.id)
            async with self._turns.of([draft.id]):
                reserved = await self._holdings.reserve(draft)
                async with self._turns.of([node_turn(node.id)]):
                    made = await self._take_into_use(node, reserved, key)
        self._owners_changed()
        return made

    async def _take_into_use(self, node: Node, reserved: Resource, key: RequestKey) -> Resource:
        release = False
        try:
            held = await self._holdings.on_node(node.id)
            first = not any(other.stage is Stage.READY for other in held)
            # Where the node's events begin must be known before the line moves, so that its first event can't be missed.
            position = await self._newest_position(node) if first else None
            health = await self._agents.health(node, self._settings.manager_ttl_seconds)
            configure = Operation(reserved.resolved.bcm, boards.configuration(reserved, reserved.value), reserved.epoch)
            release = True
            try:
                [outcome] = await self._agents.control(node, [configure], self._settings.control_seconds)
            except Error as error:
                release = boards.in_doubt(error)
                raise
            made = dataclasses.replace(
                reserved, resolved=outcome.resolved, observed=outcome.observed, stage=Stage.READY, run_id=health.run_id
            )
            await self._holdings.keep(made, told("gpio.created", made, self._clock), key, moved=True, position=position)
        except Exception:
            await self._holdings.abandon(reserved, release=release)
            self._owners_changed()
            raise
        return made

    async def _newest_position(self, node: Node) -> Position:
        try:
            async with asyncio.timeout(self._settings.control_seconds), aclosing(self._agents.events(node, None)) as batches:
                async for batch in batches:
                    return batch.position
        except TimeoutError:
            raise boards.offline(node.id, "its agent does not tell what happened") from None
        raise boards.offline(node.id, "its agent ended the stream of events")

    async def _update(self, resource_id: str, change: Change, expected: frozenset[str] | None, key: RequestKey) -> Resource:
        async with self._turns.of([request_turn(key)]):
            if (reply := await self._holdings.recalled(key)) is not None:
                return rows.resource_from_json(reply)
            before = await self._existing(resource_id)
            if change.fields & RECONFIGURING and before.mode is Mode.OUTPUT:
                # An output that went safe meanwhile must not be driven again by a change of something else.
                await self._look_at((await self._reachable(before)).id)
            async with self._turns.of([resource_id]):
                before = await self._existing(resource_id)
                resources.check_etag(before, expected)
                after = resources.changed(before, change)
                operations = _operations(after, change)
                if operations:
                    node = await self._reachable(before)
                    outcome = (await self._agents.control(node, operations, self._settings.control_seconds))[-1]
                    after = dataclasses.replace(after, observed=outcome.observed, applied=before.applied or "value" in change.fields)
                more = sorted(change.fields - {"value"})
                event = told("gpio.updated", after, self._clock, fields=more) if more else None
                await self._holdings.keep(after, event, key, moved=bool(operations))
                return after

    async def _delete(self, resource_id: str, expected: frozenset[str] | None, *, force: bool) -> None:
        async with self._turns.of([resource_id]):
            resource = await self._existing(resource_id)
            resources.check_etag(resource, expected)
            later = False
            try:
                node = await self._reachable(resource)
                seconds = self._settings.read_seconds if force else self._settings.control_seconds
                await self._agents.control(node, [Operation(resource.resolved.bcm, Release(), resource.epoch)], seconds)
            except Error:
                if not force:
                    raise
                later = True
            await self._holdings.delete(resource, told("gpio.deleted", resource, self._clock, forced=later), release=later)
        self._owners_changed()

    async def _existing(self, resource_id: str) -> Resource:
        found = await self._holdings.some([resource_id])
        if resource_id not in found:
            raise resources.unknown(resource_id)
        return found[resource_id]

    async def _reachable(self, resource: Resource) -> Node:
        """Return a resource's node. A node that was forgotten counts as offline: its lines may still be driven."""
        try:
            node = await self._nodes.find(resource.node_id)
        except NotFound:
            raise boards.offline(resource.node_id, "it is not known any more") from None
        if not node.online:
            raise boards.offline(node.id)
        return node


class Look(Protocol):
    """Asks how an agent is, and acts on what it says, before returning."""

    async def __call__(self, node_id: str) -> None:
        """Raise Unavailable when the node can't be asked."""
        ...


def _operations(after: Resource, change: Change) -> list[Operation]:
    """Return what the agent must do for a change that ``after`` has in it already."""
    bcm, epoch = after.resolved.bcm, after.epoch
    written = "value" in change.fields
    if change.fields & RECONFIGURING:
        value = after.value if written or after.applied else None
        return [Operation(bcm, boards.configuration(after, value), epoch)]
    return [Operation(bcm, Write(after.value), epoch)] if written and after.value else []


def with_observation(resource: Resource, seen: Observation | None, *, stale: bool) -> Resource:
    """Return a resource that shows what was ``seen``, or the last that is known, as stale or not."""
    newest = seen or resource.observed
    return dataclasses.replace(resource, observed=dataclasses.replace(newest, stale=stale) if newest else None)
