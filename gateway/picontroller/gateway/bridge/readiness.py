"""Whether the control plane can serve: the health of every service behind the gateway, as each says it of itself."""

import asyncio
from collections.abc import Iterable

from picontroller.core.clock import Clock
from picontroller.core.errors import Error
from picontroller.core.rpc import hosting
from picontroller.core.rpc.mesh import Mesh

ANSWER_SECONDS = 2.0
# Strangers may ask, so that what they cost is bounded: services are asked once in this time, however many ask here.
KEPT_SECONDS = 0.5


class Readiness:
    """Asks services for their health under the gateway's own identity, and remembers the answers for half a second."""

    def __init__(self, mesh: Mesh, services: Iterable[str], clock: Clock) -> None:
        self._mesh = mesh
        self._services = tuple(sorted(services))
        self._clock = clock
        self._mutex = asyncio.Lock()
        self._known: tuple[float, dict[str, bool]] = (float("-inf"), {})

    async def services(self) -> dict[str, bool]:
        """Return for each service whether it says SERVING."""
        async with self._mutex:
            asked, states = self._known
            if self._clock.monotonic() - asked >= KEPT_SECONDS:
                answers = await asyncio.gather(*(self._serves(name) for name in self._services))
                states = dict(zip(self._services, answers, strict=True))
                self._known = (self._clock.monotonic(), states)
            return states

    async def _serves(self, name: str) -> bool:
        try:
            return await hosting.healthy(self._mesh.service(name), ANSWER_SECONDS)
        except Error:
            return False
