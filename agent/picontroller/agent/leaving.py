"""Leaving a control plane: known outputs safe, the control plane told, the identity removed, in this order.

An agent that was killed left its outputs as they were, and without an identity none will run here that could make them safe: whoever
leaves does it, or is told why it can't be done.
"""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from picontroller.agent.admission import membership
from picontroller.agent.admission.membership import Membership
from picontroller.agent.board import backends
from picontroller.agent.board.backends import OpenDriver
from picontroller.agent.gpio import panel as gpio
from picontroller.agent.gpio.memory import may_know_outputs
from picontroller.agent.settings import Settings
from picontroller.core.clock import Clock
from picontroller.core.errors import Error, FailedPrecondition, NotFound, Unauthenticated

log = logging.getLogger(__name__)

Unregister = Callable[[Membership], Awaitable[None]]
"""Tells the control plane that this node is gone for good."""


async def leave(
    folder: Path, unregister: Unregister, make_safe: Callable[[], Awaitable[None]], *, force: bool = False
) -> Membership | None:
    """Bring outputs to safety, tell the control plane, remove the identity, and return what the membership was.

    With ``force`` each step is taken whatever became of the one before; None is then returned for a membership that can't be read. Raises
    FailedPrecondition: NOT_JOINED, FOLDER_IN_USE, and without ``force`` JOIN_DAMAGED, OUTPUTS_NOT_SAFE, NOT_UNREGISTERED. Nothing is
    removed then.
    """
    known = _known(folder, force=force)
    with membership.held(folder):
        try:
            await make_safe()
        except FailedPrecondition as error:
            if not force:
                raise
            log.warning("left with outputs that may not be safe", extra={"error": error.message})
        if known is not None:
            await _tell(unregister, known, force=force)
        membership.forget(folder)
    return known


async def make_outputs_safe(folder: Path, settings: Settings, clock: Clock, open_driver: OpenDriver = backends.open_driver) -> None:
    """Bring the outputs remembered in ``folder`` to their safe states. The hardware is left alone when none is.

    Raises FailedPrecondition OUTPUTS_NOT_SAFE with the next step.
    """
    if not may_know_outputs(folder / "lines.json"):
        return
    try:
        driver, _ = await open_driver(settings, clock)
        async with gpio.opened(driver, folder, clock) as panel:
            problems = panel.lines.problems()
    except (Error, OSError) as error:
        raise _not_safe(str(error)) from error
    if problems:
        raise _not_safe("; ".join(problems))


def _known(folder: Path, *, force: bool) -> Membership | None:
    try:
        return membership.load(folder)
    except FailedPrecondition as error:
        if not force or error.reason == "NOT_JOINED":
            raise
        log.warning("left a control plane that is not known any more", extra={"error": error.message})
        return None


async def _tell(unregister: Unregister, known: Membership, *, force: bool) -> None:
    try:
        await unregister(known)
    except NotFound:
        pass  # forgotten there already
    except (Error, OSError) as error:
        if isinstance(error, Unauthenticated) and error.reason == "PROOF_REVOKED":
            return  # it was deleted there: nobody waits for a farewell
        if not force:
            raise FailedPrecondition(
                f"the control plane could not be told: {error}; with --force this machine forgets it anyway,"
                " and `pictl node delete` makes it forget this machine",
                reason="NOT_UNREGISTERED",
            ) from error
        log.warning("left without telling the control plane", extra={"error": str(error)})


def _not_safe(why: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"outputs that the agent drove could not be made safe: {why}; leave as the user that the agent runs as, with --simulate if its"
        " board was simulated, or with --force after looking at what hangs on the pins",
        reason="OUTPUTS_NOT_SAFE",
    )
