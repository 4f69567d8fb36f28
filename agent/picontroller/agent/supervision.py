"""Telling systemd that the agent is up, stops, and lives. Without systemd all of this does nothing.

A sign of life is given only after the event loop and the GPIO driver have both done something: an agent whose driver hangs is started
again, and a starting agent brings its outputs to their safe states first of all.
"""

import logging
import os
import socket
from collections.abc import Awaitable, Callable

from picontroller.core.clock import Clock

log = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Send ``READY=1``, ``STOPPING=1`` or ``WATCHDOG=1``. Never fails, never waits: a deaf supervisor is no reason to stop."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as telling:
            telling.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            telling.sendall(state.encode())
    except OSError as error:
        log.debug("the supervisor could not be told", extra={"state": state, "error": str(error)})


def watchdog_seconds() -> float | None:
    """Return how often systemd wants a sign of life; None when it wants none, or not from this process."""
    wanted, process = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not wanted.isdigit() or int(wanted) == 0 or (process and process != str(os.getpid())):
        return None
    return int(wanted) / 1_000_000


async def signs_of_life(check: Callable[[], Awaitable[object]], clock: Clock) -> None:
    """Give signs of life, each after ``check`` has returned, at a third of the time that systemd allows. Returns when it wants none."""
    seconds = watchdog_seconds()
    if seconds is None:
        return
    while True:
        await check()
        notify("WATCHDOG=1")
        await clock.sleep(seconds / 3)
