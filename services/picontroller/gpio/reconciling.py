"""Keeping agents informed and their lines as wanted: signs of life, restarts, silences, and lines that are still to be released.

After an agent's restart its lines are configured again under a fresh epoch, in their safe state; the wanted value follows only where the
resource says ``restore: DESIRED``. An output that somebody has written since is left alone: the newest word counts.
"""

import asyncio
import dataclasses
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Protocol

from picontroller.core import ids
from picontroller.core.clock import Clock
from picontroller.core.errors import Error
from picontroller.core.events import Event
from picontroller.core.store.requests import RequestKey
from picontroller.core.tasks import cancel_and_wait, keep_running
from picontroller.gpio import boards
from picontroller.gpio.boards import Agents, Node, Nodes, Operation, Position, Release, Write
from picontroller.gpio.controlling import Pending, node_turn, told
from picontroller.gpio.resources import Epoch, Mode, Resource, Restore, Stage
from picontroller.gpio.settings import Settings
from picontroller.gpio.turns import Turns

log = logging.getLogger(__name__)

NO_REQUEST = RequestKey("", "", b"")


class Ledger(Protocol):
    """Where resources are safe, as far as reconciling needs it. See ``store.ResourceStore``."""

    async def on_node(self, node_id: str) -> list[Resource]:
        """Return a node's resources in all stages."""
        ...

    async def some(self, ids: Sequence[str]) -> dict[str, Resource]:
        """Return those of ``ids`` that are READY."""
        ...

    async def next_epoch(self) -> Epoch:
        """Return an epoch that is higher than all before."""
        ...

    async def keep(self, resource: Resource, event: Event | None, key: RequestKey, *, moved: bool) -> None:
        """Write a resource with its event."""
        ...

    async def pending(self, node_id: str) -> list[Pending]:
        """Return the lines of a node that are still to be released."""
        ...

    async def released(self, node_id: str, done: Pending) -> None:
        """Forget that a line was still to be released."""
        ...


class Reconciling:
    """Looks after one node at a time."""

    def __init__(self, ledger: Ledger, nodes: Nodes, agents: Agents, turns: Turns, clock: Clock, settings: Settings) -> None:
        self._ledger = ledger
        self._nodes = nodes
        self._agents = agents
        self._turns = turns
        self._clock = clock
        self._settings = settings
        self._soon: dict[str, asyncio.Event] = {}
        self._silent: set[str] = set()
        self._failed: set[tuple[str, str]] = set()

    async def attend(self, node_id: str) -> None:
        """Look at a node again and again. Ends by cancellation or with an error; call it again then."""
        soon = self._soon.setdefault(node_id, asyncio.Event())
        while True:
            soon.clear()
            await self.look_at(node_id)
            await self._pause(soon)

    def look_soon(self, node_id: str) -> None:
        """Let the next look at a node happen at once."""
        if node_id in self._soon:
            self._soon[node_id].set()

    async def look_at(self, node_id: str) -> None:
        """Give a sign of life, and do what the answer calls for. Raises Unavailable when the node does not answer."""
        async with self._turns.of([node_turn(node_id)]):
            node = await self._nodes.find(node_id)
            if not node.online:
                raise boards.offline(node_id)
            health = await self._agents.health(node, self._settings.manager_ttl_seconds)
            for resource in await self._ledger.on_node(node_id):
                if resource.stage is Stage.READY and resource.run_id != health.run_id:
                    await self._configure_again(node, resource, health.run_id)
            newly_silent = health.safe_by_silence and node_id not in self._silent
            if newly_silent:
                log.warning("a node's outputs had gone safe because it had not heard of us", extra={"node_id": node_id})
            await self._apply_again(node, health.run_id, everything=newly_silent)
            (self._silent.add if health.safe_by_silence else self._silent.discard)(node_id)
            for pending in await self._ledger.pending(node_id):
                await self._release(node, pending)

    async def _configure_again(self, node: Node, known: Resource, run_id: str) -> None:
        """Configure one line as its resource says. A line that its agent refuses does not keep the others from theirs."""
        async with self._turns.of([known.id]):
            resource = (await self._ledger.some([known.id])).get(known.id)
            if resource is None or resource.run_id == run_id:
                return
            if await self._written_since(node, resource, run_id):
                await self._ledger.keep(dataclasses.replace(resource, run_id=run_id, applied=True), None, NO_REQUEST, moved=True)
                return
            # The epoch is on disk before the agent hears of it: were its answer lost, the agent would refuse whatever we still remember.
            epoch = await self._ledger.next_epoch()
            resource = dataclasses.replace(resource, epoch=epoch)
            await self._ledger.keep(resource, None, NO_REQUEST, moved=False)
            desired = resource.restore is Restore.DESIRED and resource.value is not None
            operations = [Operation(resource.resolved.bcm, boards.configuration(resource, None), epoch)]
            if desired and resource.value is not None:
                operations.append(Operation(resource.resolved.bcm, Write(resource.value), epoch))
            try:
                outcome = (await self._agents.control(node, operations, self._settings.control_seconds))[-1]
            except Error as error:
                if boards.in_doubt(error):
                    raise
                await self._refused(resource, run_id, error)
                return
            restored = dataclasses.replace(resource, etag=ids.new_etag(), run_id=run_id, applied=desired, observed=outcome.observed)
            event = told("gpio.restored", restored, self._clock, value_applied=desired)
            await self._ledger.keep(restored, event, NO_REQUEST, moved=True)
            self._failed.discard((resource.id, run_id))

    async def _written_since(self, node: Node, resource: Resource, run_id: str) -> bool:
        """Return whether an output was written in this run already: what was acknowledged then must not be undone.

        To be called in the resource's turn, so that nobody writes meanwhile.
        """
        if resource.mode is not Mode.OUTPUT:
            return False
        try:
            async with asyncio.timeout(self._settings.control_seconds):
                async with aclosing(self._agents.events(node, None)) as now:
                    newest = (await anext(now)).position
                if newest.run_id != run_id or newest.sequence == 0:
                    return False
                async with aclosing(self._agents.events(node, Position(run_id, 0))) as batches:
                    async for batch in batches:
                        if any(event.bcm == resource.resolved.bcm and event.cause == "write" for event in batch.events):
                            return True
                        if batch.position.sequence >= newest.sequence:
                            return False
        except TimeoutError:
            raise boards.offline(node.id, "its agent does not tell what happened") from None
        return False

    async def _apply_again(self, node: Node, run_id: str, *, everything: bool) -> None:
        """Write the wanted values of those outputs whose resources want them back. The others stay safe until somebody writes them.

        What went safe is known from the agent's events; with ``everything`` it is known that all did, whatever the events told so far.
        """
        for known in await self._ledger.on_node(node.id):
            if known.stage is not Stage.READY or known.restore is not Restore.DESIRED or known.value is None:
                continue
            if known.run_id != run_id or (known.applied and not everything):
                continue
            async with self._turns.of([known.id]):
                resource = (await self._ledger.some([known.id])).get(known.id)
                if resource is None or resource.value is None:
                    continue
                operation = Operation(resource.resolved.bcm, Write(resource.value), resource.epoch)
                try:
                    [outcome] = await self._agents.control(node, [operation], self._settings.control_seconds)
                except Error as error:
                    if boards.in_doubt(error):
                        raise
                    await self._refused(resource, resource.run_id, error)
                    continue
                restored = dataclasses.replace(resource, applied=True, observed=outcome.observed)
                await self._ledger.keep(restored, None, NO_REQUEST, moved=True)

    async def _refused(self, resource: Resource, run_id: str, error: Error) -> None:
        """Tell once for each start of the agent that a line could not be brought back; it is tried again at every look."""
        if (resource.id, run_id) in self._failed:
            return
        self._failed.add((resource.id, run_id))
        fields = {"node_id": resource.node_id, "resource": resource.full_name, "reason": error.reason, "error": error.message}
        log.warning("a line could not be brought back", extra=fields)
        event = told("gpio.restore.failed", resource, self._clock, reason=error.reason, message=error.message)
        await self._ledger.keep(resource, event, NO_REQUEST, moved=False)

    async def _release(self, node: Node, pending: Pending) -> None:
        try:
            await self._agents.control(node, [Operation(pending.bcm, Release(), pending.epoch)], self._settings.control_seconds)
        except Error as error:
            if boards.in_doubt(error):
                raise
            # A higher epoch, or a line that the agent does not know: somebody else has it or nobody, and it is not ours to release.
            log.info("a line was not ours to release any more", extra={"node_id": node.id, "pin": pending.bcm, "reason": error.reason})
        await self._ledger.released(node.id, pending)

    async def _pause(self, soon: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(soon.wait()), asyncio.ensure_future(self._clock.sleep(self._settings.health_seconds))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


class Interests(Protocol):
    """Which nodes matter to us. See ``store.ResourceStore``."""

    async def nodes_in_use(self) -> set[str]:
        """Return the nodes that have resources, or lines that are still to be released."""
        ...


class Attending:
    """Begins and ends the work for each node as nodes and resources come and go.

    Nodes are attended to while they are online and have resources, or lines that are still to be released. Each has its own tasks, one for
    each piece of ``work``, so that a node that hangs keeps nobody else waiting.
    """

    def __init__(self, interests: Interests, nodes: Nodes, work: Mapping[str, Callable[[str], Awaitable[None]]], clock: Clock) -> None:
        self._interests = interests
        self._nodes = nodes
        self._work = work
        self._clock = clock
        self._changed = asyncio.Event()
        nodes.on_change(self.look)

    def look(self) -> None:
        """Find out soon which nodes are to be attended to."""
        self._changed.set()

    async def run(self) -> None:
        """Attend to nodes until cancelled."""
        attended: dict[tuple[str, str], asyncio.Task[None]] = {}
        try:
            while True:
                self._changed.clear()
                in_use = await self._interests.nodes_in_use()
                known = self._nodes.known()
                wanted = {(id_, known[id_].address) for id_ in in_use if id_ in known and known[id_].online}
                gone = [attended.pop(one) for one in set(attended) - wanted]
                await cancel_and_wait(*gone)
                for node_id, address in wanted - set(attended):
                    log.debug("a node is attended to", extra={"node_id": node_id, "address": address})
                    attended[node_id, address] = asyncio.get_running_loop().create_task(self._attend(node_id))
                await self._changed.wait()
        finally:
            await cancel_and_wait(*attended.values())

    async def _attend(self, node_id: str) -> None:
        async with asyncio.TaskGroup() as tasks:
            for name, work in self._work.items():
                tasks.create_task(keep_running(f"gpio: {name} of {node_id}", functools.partial(work, node_id), self._clock))
