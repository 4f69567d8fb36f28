"""Reading and writing many lines: one call to each node, all nodes at once.

What goes to one node happens wholly or not at all, because its agent sees to it. With one node its error is the call's error; with several
each resource answers for itself. A read that can't reach its node answers what was seen last, as stale.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from picontroller.core import ids
from picontroller.core.errors import Error, InvalidArgument, NotFound, Violation
from picontroller.core.store.requests import RequestKey
from picontroller.gpio import boards, resources, rows
from picontroller.gpio.boards import Agents, Nodes, Operation, Outcome, Read, Write
from picontroller.gpio.controlling import request_turn, with_observation
from picontroller.gpio.resources import Level, Mode, Observation, Resource
from picontroller.gpio.rows import Answer
from picontroller.gpio.settings import Settings
from picontroller.gpio.turns import Turns

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WantedLevel:
    """One resource's new level."""

    id: str
    level: Level


class Shelf(Protocol):
    """Where resources are safe, as far as batches need it. See ``store.ResourceStore``."""

    async def some(self, ids: Sequence[str]) -> dict[str, Resource]:
        """Return those of ``ids`` that are READY."""
        ...

    async def page(self, size: int, token: str, node_id: str, namespace: str) -> tuple[list[Resource], str]:
        """Return a page of READY resources with the token of the next."""
        ...

    async def recalled(self, key: RequestKey) -> str | None:
        """Return the answer to an earlier request with this key."""
        ...

    async def wrote(self, written: Sequence[Resource], key: RequestKey, reply: str) -> None:
        """Note wanted and seen levels, with the answer to the request."""
        ...


class Batches:
    """Levels in and out. What reads have seen is remembered in memory, for the time when the node does not answer."""

    def __init__(self, shelf: Shelf, nodes: Nodes, agents: Agents, turns: Turns, settings: Settings) -> None:
        self._shelf = shelf
        self._nodes = nodes
        self._agents = agents
        self._turns = turns
        self._settings = settings
        self._seen: dict[str, Observation] = {}

    async def get(self, resource_id: str) -> Resource:
        """Return a resource with its level read from the hardware, or the last known one as stale. Raises NotFound."""
        resource = (await self._existing([resource_id]))[resource_id]
        outcomes = await self._ask(resource.node_id, [Operation(resource.resolved.bcm, Read())], self._settings.read_seconds)
        if isinstance(outcomes, Error):
            return self._last_known(resource)
        return self._fresh(resource, outcomes[0])

    async def page(self, size: int, token: str, node_id: str, namespace: str) -> tuple[list[Resource], str]:
        """Return a page of resources by id, each with the last known level, stale where the node is offline."""
        found, following = await self._shelf.page(size, token, node_id, namespace)
        known = self._nodes.known()
        online = {node.id for node in known.values() if node.online}
        return [self._last_known(resource, stale=resource.node_id not in online) for resource in found], following

    async def read(self, ids: Sequence[str]) -> list[Answer]:
        """Return what is seen on each of ``ids``. Raises NotFound naming one that does not exist."""
        found = await self._existing(ids)
        outcomes = await self._ask_all({id_: Operation(found[id_].resolved.bcm, Read()) for id_ in ids}, found, self._settings.read_seconds)
        answers: list[Answer] = []
        for id_, outcome in outcomes.items():
            if isinstance(outcome, Outcome):
                answers.append(Answer(id_, self._fresh(found[id_], outcome).observed))
            elif boards.silent(outcome) and (last := self._last_known(found[id_]).observed):
                answers.append(Answer(id_, last))
            else:
                answers.append(Answer(id_, None, outcome))
        _raise_when_alone(answers, found)
        return answers

    async def write(self, wanted: Sequence[WantedLevel], key: RequestKey) -> list[Answer]:
        """Drive outputs and return what was read back.

        Raises InvalidArgument (DUPLICATE_ID), NotFound, FailedPrecondition (NOT_AN_OUTPUT) before anything moves.
        """
        first: dict[str, int] = {}
        for index, write in enumerate(wanted):
            if write.id in first:
                fault = Violation(f"writes[{index}].id", f"is the same as writes[{first[write.id]}].id")
                raise InvalidArgument(f"{write.id} stands twice in the batch", reason="DUPLICATE_ID", violations=[fault])
            first[write.id] = index
        return await self._turns.finish(self._write({write.id: write.level for write in wanted}, key))

    async def _write(self, levels: Mapping[str, Level], key: RequestKey) -> list[Answer]:
        async with self._turns.of([request_turn(key)]):
            if (reply := await self._shelf.recalled(key)) is not None:
                return rows.answers_from_json(reply)
            async with self._turns.of(levels):
                found = await self._existing(list(levels))
                for resource in found.values():
                    if resource.mode is not Mode.OUTPUT:
                        raise resources.not_an_output(resource, "writing")
                operations = {id_: Operation(found[id_].resolved.bcm, Write(level), found[id_].epoch) for id_, level in levels.items()}
                outcomes = await self._ask_all(operations, found, self._settings.control_seconds)
                answers = [_answer(id_, outcome) for id_, outcome in outcomes.items()]
                _raise_when_alone(answers, found)
                written = [_written(found[id_], levels[id_], outcome) for id_, outcome in outcomes.items() if isinstance(outcome, Outcome)]
                if written:
                    await self._shelf.wrote(written, key, rows.answers_to_json(answers))
                return answers

    async def check(self, ids: Sequence[str]) -> None:
        """Raise NotFound naming one of ``ids`` that does not exist."""
        await self._existing(ids)

    async def _existing(self, ids: Sequence[str]) -> dict[str, Resource]:
        found = await self._shelf.some(ids)
        for id_ in ids:
            if id_ not in found:
                raise resources.unknown(id_)
        return found

    async def _ask_all(
        self, operations: Mapping[str, Operation], found: Mapping[str, Resource], seconds: float
    ) -> dict[str, Outcome | Error]:
        """Return each resource's outcome or its node's error, in the order of ``operations``."""
        by_node: dict[str, list[str]] = {}
        for id_ in operations:
            by_node.setdefault(found[id_].node_id, []).append(id_)
        asked = (self._ask(node_id, [operations[id_] for id_ in wanted], seconds) for node_id, wanted in by_node.items())
        outcomes: dict[str, Outcome | Error] = {}
        for wanted, answered in zip(by_node.values(), await asyncio.gather(*asked), strict=True):
            for index, id_ in enumerate(wanted):
                outcomes[id_] = answered if isinstance(answered, Error) else answered[index]
        return {id_: outcomes[id_] for id_ in operations}

    async def _ask(self, node_id: str, operations: Sequence[Operation], seconds: float) -> list[Outcome] | Error:
        try:
            node = await self._nodes.find(node_id)
        except NotFound:
            return boards.offline(node_id, "it is not known any more")
        except Error as error:
            return error
        if not node.online:
            return boards.offline(node_id)
        try:
            return await self._agents.control(node, operations, seconds)
        except Error as error:
            return error

    def _fresh(self, resource: Resource, outcome: Outcome) -> Resource:
        if outcome.observed is not None:
            self._seen[resource.id] = outcome.observed
        return with_observation(resource, outcome.observed, stale=False)

    def _last_known(self, resource: Resource, *, stale: bool = True) -> Resource:
        seen = self._seen.get(resource.id)
        if seen is not None and resource.observed is not None and resource.observed.time > seen.time:
            del self._seen[resource.id]  # the disk knows better
            seen = None
        return with_observation(resource, seen, stale=stale)

    def forget(self, resource_id: str) -> None:
        """Forget what was seen of a resource that is no more."""
        self._seen.pop(resource_id, None)


def _answer(id_: str, outcome: Outcome | Error) -> Answer:
    return Answer(id_, outcome.observed) if isinstance(outcome, Outcome) else Answer(id_, None, outcome)


def _written(resource: Resource, level: Level, outcome: Outcome) -> Resource:
    etag = resource.etag if resource.value is level else ids.new_etag()
    return dataclasses.replace(resource, value=level, observed=outcome.observed, etag=etag)


def _raise_when_alone(answers: Sequence[Answer], found: Mapping[str, Resource]) -> None:
    """Raise a node's error when the whole batch went to that node."""
    if len({found[answer.id].node_id for answer in answers}) == 1 and (error := answers[0].error):
        raise error
