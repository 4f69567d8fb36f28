"""Presenting this node to the control plane, and giving signs of life.

The first word is a registration; after that only signs of life, until something about the node changes or the control plane says that it
does not know the node. A control plane that is away, or that does not work with agents of our version, costs nothing but these: lines go on
as they are.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from picontroller.agent.capabilities import Presentation
from picontroller.core.clock import Clock
from picontroller.core.errors import FailedPrecondition, Unauthenticated

log = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS = 60.0
SHUT_OUT = frozenset({"PROOF_REVOKED", "NODE_REVOKED", "ROOT_DROPPED", "ROOT_MISMATCH"})
SHUT_OUT_SECONDS = 60.0
SHUT_OUT_REMEDY = "pictl leave; then join again with a fresh token"
TURNED_AWAY_SECONDS = 60.0
VERSION_SKEW = "VERSION_SKEW"


class ControlPlane(Protocol):
    """What reporting needs of the gateway. Both raise our errors."""

    async def register(self, presentation: Presentation) -> None:
        """Present this node."""
        ...

    async def report_health(self, problems: Sequence[str]) -> bool:
        """Give a sign of life; return whether the node has to present itself again."""
        ...


class Reporting:
    """Reports for as long as ``run`` runs.

    ``present`` finds out what the node is (it may take a while, and is asked once a minute); ``problems`` says what is wrong with it;
    ``ready`` returns when reporting makes sense (the clock is set).
    """

    def __init__(
        self,
        control_plane: ControlPlane,
        present: Callable[[], Awaitable[Presentation]],
        problems: Callable[[], Sequence[str]],
        ready: Callable[[], Awaitable[None]],
        clock: Clock,
        seconds: float,
    ) -> None:
        self._control_plane = control_plane
        self._present = present
        self._problems = problems
        self._ready = ready
        self._clock = clock
        self._seconds = seconds
        self._registered: Presentation | None = None
        self._looked = float("-inf")

    async def run(self) -> None:
        """Report until cancelled. Raises our errors when the control plane refuses or is away; run it again then."""
        while True:
            await self._ready()
            try:
                await self._report()
            except FailedPrecondition as error:
                if error.reason != VERSION_SKEW:
                    raise
                log.warning("the control plane does not work with this version of the agent", extra={"error": error.message})
                self._registered = None
                await self._clock.sleep(TURNED_AWAY_SECONDS)
                continue
            except Unauthenticated as error:
                if error.reason not in SHUT_OUT:
                    raise
                # Lines go on as they are: whoever took the node out may still need them.
                fields = {"reason": error.reason, "error": error.message, "try": error.metadata.get("try", SHUT_OUT_REMEDY)}
                log.error("the control plane has shut this node out", extra=fields)
                await self._clock.sleep(SHUT_OUT_SECONDS)
                continue
            await self._clock.sleep(self._seconds)

    async def _report(self) -> None:
        await self._register_if_needed()
        if await self._control_plane.report_health(self._problems()):
            log.info("the control plane asks this node to present itself")
            self._registered = None
            await self._register_if_needed()

    async def _register_if_needed(self) -> None:
        now = self._clock.monotonic()
        if self._registered is not None and now - self._looked < LOOK_AGAIN_SECONDS:
            return
        presentation = await self._present()
        self._looked = now
        if presentation == self._registered:
            return
        await self._control_plane.register(presentation)
        if self._registered is None:
            log.info("presented to the control plane", extra={"address": presentation.agent_address, "hostname": presentation.hostname})
        else:
            log.info("presented again because something changed", extra={"address": presentation.agent_address})
        self._registered = presentation
