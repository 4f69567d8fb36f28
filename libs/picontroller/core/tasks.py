"""Background work that somebody owns.

A loop that fails is logged and run again after a growing pause; it never dies in silence and never takes its process with it.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from picontroller.core.clock import Clock
from picontroller.core.errors import Error, Unavailable

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
STEADY_SECONDS = 30.0


def next_pause(failures: int) -> float:
    """Return the seconds to wait after so many failures in a row: doubling with jitter, so that many clients don't come back at once."""
    ceiling = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(failures, 16))
    return random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter, not a secret


async def keep_running(name: str, work: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Run ``work`` until it returns; run it again whenever it fails.

    A peer that is away is reported at the first failure and every tenth one; anything else is reported with its traceback each time.
    """
    failures = 0
    while True:
        started = clock.monotonic()
        try:
            await work()
            return
        except asyncio.CancelledError:
            raise
        except Unavailable as error:
            failures = 0 if clock.monotonic() - started > STEADY_SECONDS else failures
            if failures % 10 == 0:
                log.info("background work waits for a peer", extra={"task": name, "error": error.message})
        except Error as error:
            log.warning("background work failed", extra={"task": name, "reason": error.reason, "error": error.message})
        except Exception:
            log.exception("background work failed unexpectedly", extra={"task": name})
        failures += 1
        await clock.sleep(next_pause(failures))


async def cancel_and_wait(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait until they are gone; what they raise on the way out is logged."""
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            log.warning("a task failed while it was stopped", exc_info=outcome)
