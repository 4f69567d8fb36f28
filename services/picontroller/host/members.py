"""Bringing one service up: identity from its folder, peers, store, server, renewal. The same whether it is alone or one of many."""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from picontroller.core.clock import Clock
from picontroller.core.errors import FailedPrecondition
from picontroller.core.rpc import renewal, trust
from picontroller.core.rpc.forwarding import ForwardedProofs
from picontroller.core.rpc.hosting import Manners, Running, serving
from picontroller.core.rpc.limits import LimitSettings
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.rpc.validation import default_validator
from picontroller.core.rpc.wiring import Surroundings
from picontroller.core.tls.identity import IdentityFolder
from picontroller.host.layout import Layout
from picontroller.host.services import SERVICES

log = logging.getLogger(__name__)


async def identity_in(layout: Layout, name: str, clock: Clock, *, patience_seconds: float = 0) -> IdentityFolder:
    """Return a member's identity, waiting for the identity service on this machine to write it.

    Raises FailedPrecondition with the next step when it does not come.
    """
    return await identity_at(layout.identity(name), name, clock, patience_seconds=patience_seconds)


async def identity_at(path: Path, name: str, clock: Clock, *, patience_seconds: float = 0) -> IdentityFolder:
    """Return the identity in the folder ``path`` of the member ``name``, waiting like ``identity_in``."""
    folder = IdentityFolder(path)
    deadline = clock.monotonic() + patience_seconds
    told = False
    while not folder.exists():
        if clock.monotonic() >= deadline:
            raise FailedPrecondition(
                f"{name} has no identity in {folder.path}; start `pictl serve identity` on this machine with the same --data-dir",
                reason="IDENTITY_MISSING",
            )
        if not told:
            log.info("waiting for an identity", extra={"service": name, "folder": str(folder.path)})
            told = True
        await clock.sleep(0.1)
    folder.load()
    if folder.expired():
        log.warning("the certificate has expired", extra={"service": name, "expired": str(folder.credentials.not_after)})
    return folder


@asynccontextmanager
async def running_service(
    name: str,
    layout: Layout,
    settings: Any,
    addresses: Mapping[str, str],
    listen: Sequence[str],
    clock: Clock,
    *,
    grace_seconds: float,
    limits: LimitSettings,
    patience_seconds: float = 0,
) -> AsyncIterator[Running]:
    """Run one service until the block is left. ``addresses`` says where its peers are, ``listen`` where it serves."""
    identity = await identity_in(layout, name, clock, patience_seconds=patience_seconds)
    mesh = Mesh(identity, addresses)
    proofs = ForwardedProofs(lambda: identity.trust, lambda: clock.now().timestamp())
    manners = Manners(default_validator(), clock, proofs, grace_seconds, limits)
    surroundings = Surroundings(name, layout.member(name), settings, identity, mesh, clock)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(mesh.close)
        service = await stack.enter_async_context(SERVICES[name].build()(surroundings))
        renewing = renewal.for_service(mesh, clock)
        trusting = trust.for_service(mesh, renewing, clock)
        further = {"certificate renewal": renewing.run, "trust": trusting.run}
        complete = replace(service, background={**service.background, **further})
        yield await stack.enter_async_context(serving(complete, identity, listen, manners))
