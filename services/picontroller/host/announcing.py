"""Events of a host itself (configuration read again, or refused), which belong to no service's data and so to no outbox."""

import logging
from collections.abc import Mapping
from typing import Self

from picontroller.core import ids
from picontroller.core.errors import Error
from picontroller.core.events import Event
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.rpc.publishing import EventBus
from picontroller.core.tls.identity import IdentityFolder

log = logging.getLogger(__name__)


class Announcer:
    """Publishes a host's own events directly, under an epoch of this process. One that can't be published is logged and lost."""

    def __init__(self, identity: IdentityFolder, addresses: Mapping[str, str]) -> None:
        self._mesh = Mesh(identity, addresses)
        self._bus = EventBus(self._mesh, "host")
        self._epoch = f"host-{ids.new_uuid()}"
        self._sequence = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._mesh.close()

    async def announce(self, event: Event) -> None:
        """Publish ``event``."""
        self._sequence += 1
        try:
            await self._bus.publish(self._epoch, self._sequence, [event])
        except Error as error:
            log.warning("an event could not be published", extra={"type": event.type, "error": error.message})
