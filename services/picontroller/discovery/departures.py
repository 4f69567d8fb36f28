"""Nodes that have gone, until the identity service knows: what they proved themselves with must be refused from then on.

A departure is written in the transaction that forgets the node and worked off afterwards, again and again until it succeeds, so that a
crash or an identity service that is away delays it and loses nothing. A node that was deleted may not come back under its id; one that left
by itself may, with a fresh join token, perhaps before its departure was worked off: what it got since is left alone.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from picontroller.core.errors import Error, NotFound, Unauthenticated
from picontroller.core.ids import NodeId

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Departure:
    """A node that has gone, when; for good when ``lasting``. ``time`` is None for one noted by a release that noted no times."""

    node_id: NodeId
    lasting: bool
    time: datetime | None = None


class NodeDeleted(Unauthenticated):
    """Somebody who was deleted wants to be a node again."""

    default_reason = "NODE_REVOKED"

    def __init__(self, node_id: NodeId) -> None:
        super().__init__(f"node {node_id} was deleted and stays out; join again as a new node", metadata={"id": node_id})


class DepartureStore(Protocol):
    """Where departures are safe."""

    async def departures(self) -> Sequence[Departure]:
        """Return those that the identity service does not know of yet."""
        ...

    async def settle(self, departure: Departure) -> None:
        """Note that the identity service knows of a departure."""
        ...


class Identities(Protocol):
    """Makes worthless what a node has."""

    async def revoke(self, departure: Departure) -> None:
        """Have everybody refuse the node. Raises NotFound for one that never had anything."""
        ...


class Departures:
    """Works departures off. Call ``wake`` when there may be new ones."""

    def __init__(self, store: DepartureStore, identities: Identities) -> None:
        self._store = store
        self._identities = identities
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Have ``run`` look again."""
        self._woken.set()

    async def run(self) -> None:
        """Work off what there is and what comes. Ends by cancellation or with the first error, after trying all; run it again then."""
        while True:
            self._woken.clear()
            failure: Error | None = None
            for departure in await self._store.departures():
                try:
                    await self._work_off(departure)
                except Error as error:
                    failure = failure or error
            if failure is not None:
                raise failure
            await self._woken.wait()

    async def _work_off(self, departure: Departure) -> None:
        try:
            await self._identities.revoke(departure)
        except NotFound:
            log.debug("a node that has gone never had a certificate", extra={"node_id": departure.node_id})
        await self._store.settle(departure)
        log.info("a node that has gone is refused from now on", extra={"node_id": departure.node_id, "lasting": departure.lasting})
