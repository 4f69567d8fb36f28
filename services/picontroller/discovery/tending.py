"""What has to be done about nodes as time goes by. Each function runs for ever as background work of its own."""

import logging

from picontroller.core.clock import Clock
from picontroller.discovery.liveness import Liveness
from picontroller.discovery.registry import Registry

log = logging.getLogger(__name__)

SHORTEST_WAIT_SECONDS = 0.1
HELD_UP_SECONDS = 2.0


async def lose_silent(registry: Registry, liveness: Liveness, clock: Clock) -> None:
    """Declare nodes lost as soon as they have been silent for too long.

    When this process itself was held up (stopped, swapped out, a blocked loop), reports may be waiting unread, so nobody is judged then and
    all get a full grace period.
    """
    while True:
        wait = max(SHORTEST_WAIT_SECONDS, registry.seconds_until_silent())
        due = clock.monotonic() + wait
        await clock.sleep(wait)
        late = clock.monotonic() - due
        if late > HELD_UP_SECONDS:
            log.warning("nodes get a new grace period because this process was held up", extra={"seconds": round(late, 1)})
            liveness.grant_grace()
        await registry.lose_silent()


async def flush(registry: Registry, clock: Clock, seconds: float) -> None:
    """Write down last signs of life every so many ``seconds``."""
    while True:
        await clock.sleep(seconds)
        await registry.flush()


async def notice_problems(registry: Registry) -> None:
    """Look at all nodes at the beginning and whenever one has changed."""
    while True:
        await registry.notice_problems()
        await registry.until_changed()
