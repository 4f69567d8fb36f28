"""First things first: identities for the members on this machine, made before any of them serves."""

from collections.abc import Sequence
from typing import Any

from picontroller.core.clock import Clock
from picontroller.host.layout import Layout
from picontroller.identity import local
from picontroller.identity.wiring import opened


async def enrol(layout: Layout, sections: dict[str, Any], clock: Clock, *, gateway_names: Sequence[str], keep_names: bool = False) -> str:
    """Make what is missing or worn of the members' identities and the admin credential; return the root's fingerprint.

    ``keep_names`` leaves a gateway that runs in a process of its own the names that it asked for.
    """
    settings = sections["identity"]
    async with opened(layout.member("identity"), settings, clock) as registry:
        done = await local.provision(
            registry, layout.root, settings.local_members, clock, gateway_names=gateway_names, keep_names=keep_names
        )
    return done.fingerprint
