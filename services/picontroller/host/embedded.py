"""``pictl up``: all services in this process, over Unix sockets with mTLS like anywhere else, with Envoy as a child and simulated Pis.

Nothing is started before the configuration, the data folder and the port were found good; whatever was started is stopped again when
something fails on the way.
"""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from picontroller.core import contexts
from picontroller.core.clock import Clock, SystemClock
from picontroller.core.contexts import Context
from picontroller.core.errors import FailedPrecondition, Unavailable
from picontroller.core.files import write_atomically
from picontroller.core.rpc.hosting import healthy, settle, until_signalled
from picontroller.core.rpc.limits import LimitSettings
from picontroller.core.rpc.mesh import Mesh
from picontroller.gateway.settings import Settings as GatewaySettings
from picontroller.host import ports
from picontroller.host.announcing import Announcer
from picontroller.host.configuration import Reloading, hangups
from picontroller.host.edge import running_gateway
from picontroller.host.enrolment import enrol
from picontroller.host.layout import Layout, open_layout
from picontroller.host.members import identity_in, running_service
from picontroller.host.services import SERVICES
from picontroller.host.simulation import simulated_fleet

log = logging.getLogger(__name__)

HEALTHY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Up:
    """What the command line said."""

    listen: str
    data_dir: Path
    config_path: Path | None
    simulate: int
    ready_file: Path | None
    san: Sequence[str]


@dataclass(frozen=True, slots=True)
class Ready:
    """Where everything is, once all is healthy."""

    url: str
    layout: Layout
    fingerprint: str
    metrics_port: int
    join_address: str
    """Where a Pi joins, ``HOST:PORT``; empty when only this machine gets here."""

    def as_json(self) -> dict[str, object]:
        """Return what ``--ready-file`` receives."""
        admin = self.layout.admin.absolute()
        return {
            "url": self.url,
            "ca_file": str(admin / "ca.pem"),
            "client_cert_file": str(admin / "client.pem"),
            "client_key_file": str(admin / "client.key"),
            "token_file": str(admin / "token"),
            "pid": os.getpid(),
        }


async def up(said: Up, sections: dict[str, Any], told: Callable[[Ready], None]) -> None:
    """Run everything until a signal comes; call ``told`` once all is healthy."""
    clock = SystemClock()
    ports.refuse_taken(said.listen)
    async with until_signalled() as stopping, running(said, sections, clock) as ready:
        if said.ready_file:
            write_atomically(said.ready_file, json.dumps(ready.as_json()).encode())
        settle()
        told(ready)
        try:
            await stopping.wait()
        finally:
            if said.ready_file:
                said.ready_file.unlink(missing_ok=True)


@asynccontextmanager
async def running(said: Up, sections: dict[str, Any], clock: Clock) -> AsyncIterator[Ready]:
    """Run everything until the block is left; what is inside starts when all is healthy."""
    async with AsyncExitStack() as stack:
        asked = stack.enter_context(hangups())
        metrics_port = stack.enter_context(ports.serving_metrics(sections["mesh"].metrics))
        yield await stack.enter_async_context(_everything(said, sections, clock, metrics_port, asked))


@asynccontextmanager
async def _everything(said: Up, sections: dict[str, Any], clock: Clock, metrics_port: int, asked: asyncio.Event) -> AsyncIterator[Ready]:
    layout = open_layout(said.data_dir)
    fingerprint = await enrol(layout, sections, clock, gateway_names=[*said.san, said.listen.rpartition(":")[0].strip("[]")])
    sockets = layout.sockets()
    limits: LimitSettings = sections["limits"]
    front: GatewaySettings = sections["gateway"]
    # Simulated Pis all join from this one address, and at once.
    limits = replace(limits, joins_burst=limits.joins_burst + said.simulate)
    room = said.simulate + front.joins_burst_per_address
    front = replace(front, joins_per_second=front.joins_per_second + said.simulate, joins_burst_per_address=room)
    addresses = {name: f"unix:{sockets / name}.sock" for name in SERVICES}
    async with AsyncExitStack() as stack:
        for name in SERVICES:
            (sockets / f"{name}.sock").unlink(missing_ok=True)
            await stack.enter_async_context(
                running_service(
                    name,
                    layout,
                    sections[name],
                    addresses,
                    [addresses[name]],
                    clock,
                    grace_seconds=sections["mesh"].grace_seconds,
                    limits=limits,
                )
            )
        await _until_healthy(layout, addresses, clock)
        gateway = await stack.enter_async_context(
            running_gateway(layout, front, addresses, said.listen, clock, san=said.san, limits=limits)
        )
        if said.simulate:
            address = gateway.url.removeprefix("https://")
            await stack.enter_async_context(simulated_fleet(layout, sections["agent"], address, said.simulate, clock))
        announcer = await stack.enter_async_context(Announcer(await identity_in(layout, "identity", clock), addresses))
        reloading = asyncio.create_task(Reloading(said.config_path, sections, announcer.announce, clock).run(asked))
        stack.callback(reloading.cancel)
        ready = Ready(gateway.url, layout, fingerprint, metrics_port, ports.outward(said.listen, gateway.port, said.san))
        _remember_context(ready)
        yield ready


async def _until_healthy(layout: Layout, addresses: Mapping[str, str], clock: Clock) -> None:
    mesh = Mesh(await identity_in(layout, "gateway", clock), addresses)
    try:
        answers = await asyncio.gather(*(healthy(mesh.service(name), HEALTHY_SECONDS) for name in addresses))
    finally:
        await mesh.close()
    ill = [name for name, fine in zip(addresses, answers, strict=True) if not fine]
    if ill:
        raise Unavailable(f"not healthy after {HEALTHY_SECONDS:g} s: {', '.join(ill)}")


def _remember_context(ready: Ready) -> None:
    """Make this control plane the command line's default; a folder that can't be written costs only that convenience."""
    admin = ready.layout.admin
    context = Context(
        "local",
        ready.url.removeprefix("https://"),
        str((admin / "ca.pem").absolute()),
        str((admin / "client.pem").absolute()),
        str((admin / "client.key").absolute()),
    )
    path = contexts.default_path()
    try:
        contexts.save(path, contexts.with_context(contexts.load(path), context, make_current=True))
    except (OSError, FailedPrecondition) as error:
        log.warning("the command line's context could not be written", extra={"path": str(path), "error": str(error)})
