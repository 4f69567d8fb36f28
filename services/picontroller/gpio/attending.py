"""Which nodes are attended to: those that are online and have resources, or lines that are still to be released.

Each has its own tasks, so that a node that hangs keeps nobody else waiting.
"""

import asyncio
import logging
from typing import Protocol

from picontroller.core.clock import Clock
from picontroller.core.tasks import cancel_and_wait, keep_running
from picontroller.gpio.boards import Nodes
from picontroller.gpio.following import Following
from picontroller.gpio.reconciling import Reconciling

log = logging.getLogger(__name__)


class Interests(Protocol):
    """Which nodes matter to us. See ``store.ResourceStore``."""

    async def nodes_in_use(self) -> set[str]:
        """Return the nodes that have resources, or lines that are still to be released."""
        ...


class Attending:
    """Begins and ends the tasks of nodes as nodes and resources come and go."""

    def __init__(self, interests: Interests, nodes: Nodes, following: Following, reconciling: Reconciling, clock: Clock) -> None:
        self._interests = interests
        self._nodes = nodes
        self._following = following
        self._reconciling = reconciling
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
            tasks.create_task(keep_running(f"gpio: events of {node_id}", lambda: self._following.follow(node_id), self._clock))
            tasks.create_task(keep_running(f"gpio: health of {node_id}", lambda: self._reconciling.attend(node_id), self._clock))
