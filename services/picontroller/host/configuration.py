"""Reading the configuration, and reading it again on SIGHUP: a broken file changes nothing, and either outcome is an event."""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from picontroller.core import config, logs
from picontroller.core.clock import Clock
from picontroller.core.config import ConfigurationError
from picontroller.core.events import Event
from picontroller.host.services import sections

log = logging.getLogger(__name__)


def read(path: Path | None) -> dict[str, Any]:
    """Return all sections, from ``path`` or the default file if that exists, and the environment. Raises ConfigurationError."""
    chosen = path
    if chosen is None and config.default_path().exists():
        chosen = config.default_path()
    return config.load(sections(), chosen, os.environ)


@contextmanager
def hangups() -> Iterator[asyncio.Event]:
    """Yield an event that SIGHUP sets. To be entered before anything else is started: unhandled, the signal ends the process."""
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, asked.set)
    try:
        yield asked
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


class Reloading:
    """Reads the configuration again on SIGHUP. The log's settings take effect at once; everything else waits for a restart."""

    def __init__(self, path: Path | None, current: dict[str, Any], announce: Callable[[Event], Awaitable[None]], clock: Clock) -> None:
        self._path = path
        self.current = current
        self._announce = announce
        self._clock = clock

    async def run(self, asked: asyncio.Event) -> None:
        """Act on each SIGHUP, which sets ``asked``, for as long as the task lives; one that came earlier counts."""
        while True:
            await asked.wait()
            asked.clear()
            await self.reload()

    async def reload(self) -> None:
        """Read the configuration now."""
        try:
            fresh = read(self._path)
        except ConfigurationError as error:
            log.error("the configuration is broken and was not applied", extra={"mistakes": error.message})
            mistakes = [f"{v.field}: {v.description}" for v in error.violations]
            await self._announce(Event("config.rejected", self._clock.now(), resource="config", data={"mistakes": mistakes}))
            return
        waiting = sorted(name for name in fresh if fresh[name] != self.current[name] and name != "log")
        logs.configure(fresh["log"].level, fresh["log"].style)
        self.current = fresh
        log.info("the configuration was read again", extra={"restart_needed_for": waiting})
        data = {"restart_needed_for": waiting}
        await self._announce(Event("config.reloaded", self._clock.now(), resource="config", data=data))
