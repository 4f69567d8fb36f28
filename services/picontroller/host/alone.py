"""``pictl serve NAME``: one service in a process of its own."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from picontroller.core.clock import SystemClock
from picontroller.core.rpc.hosting import settle, until_signalled
from picontroller.host import ports
from picontroller.host.announcing import Announcer
from picontroller.host.configuration import Reloading, hangups
from picontroller.host.layout import open_layout
from picontroller.host.members import identity_in, running_service
from picontroller.host.services import GATEWAY_PORT, SERVICES

PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Alone:
    """What the command line said."""

    name: str
    listen: str
    data_dir: Path
    config_path: Path | None
    san: Sequence[str]


def addresses_in(settings: Any) -> Mapping[str, str]:
    """Return where peers are, from the ``mesh`` section."""
    return {name: getattr(settings, name) for name in SERVICES}


async def serve(said: Alone, sections: dict[str, Any]) -> None:
    """Serve until a signal comes. Prints the bound address on standard output once it is up."""
    mesh_settings = sections["mesh"]
    addresses, listen = addresses_in(mesh_settings), _listen(said)
    if not listen.startswith("unix:"):
        ports.refuse_taken(listen)
    with hangups() as asked, ports.serving_metrics(mesh_settings.metrics) as port:
        open_layout(said.data_dir)
        async with until_signalled() as stopping:
            if said.name == "identity":
                await _provision(said, sections)
            if said.name == "gateway":
                await _serve_gateway(said, sections, addresses, stopping, port, asked)
            else:
                await _serve_service(said, sections, addresses, stopping, port, asked)


def _listen(said: Alone) -> str:
    return said.listen or f"127.0.0.1:{GATEWAY_PORT if said.name == 'gateway' else SERVICES[said.name].port}"


async def _serve_service(
    said: Alone, sections: dict[str, Any], addresses: Mapping[str, str], stopping: asyncio.Event, port: int, asked: asyncio.Event
) -> None:
    clock, layout, mesh_settings = SystemClock(), open_layout(said.data_dir), sections["mesh"]
    async with running_service(
        said.name,
        layout,
        sections[said.name],
        addresses,
        [_listen(said)],
        clock,
        grace_seconds=mesh_settings.grace_seconds,
        limits=sections["limits"],
        patience_seconds=0 if said.name == "identity" else PATIENCE_SECONDS,
    ) as running:
        print(f"{said.name} serves on {running.addresses[0]}, metrics on 127.0.0.1:{port}", flush=True)  # noqa: T201 - the contract: port 0 is printed
        await _until_stopped(said, sections, addresses, stopping, asked)


async def _until_stopped(
    said: Alone, sections: dict[str, Any], addresses: Mapping[str, str], stopping: asyncio.Event, asked: asyncio.Event
) -> None:
    clock, layout = SystemClock(), open_layout(said.data_dir)
    identity = await identity_in(layout, said.name, clock)
    async with Announcer(identity, addresses) as announcer:
        reloading = asyncio.create_task(Reloading(said.config_path, sections, announcer.announce, clock).run(asked))
        settle()
        try:
            await stopping.wait()
        finally:
            reloading.cancel()


async def _provision(said: Alone, sections: dict[str, Any]) -> None:
    from picontroller.host.enrolment import enrol

    await enrol(open_layout(said.data_dir), sections, SystemClock(), gateway_names=said.san, keep_names=True)


async def _serve_gateway(
    said: Alone, sections: dict[str, Any], addresses: Mapping[str, str], stopping: asyncio.Event, port: int, asked: asyncio.Event
) -> None:
    from picontroller.host.edge import running_gateway

    clock, layout = SystemClock(), open_layout(said.data_dir)
    async with running_gateway(
        layout,
        sections["gateway"],
        addresses,
        _listen(said),
        clock,
        san=said.san,
        limits=sections["limits"],
        patience_seconds=PATIENCE_SECONDS,
    ) as gateway:
        print(f"gateway serves on {gateway.url}, metrics on 127.0.0.1:{port}", flush=True)  # noqa: T201 - the contract: port 0 is printed
        await _until_stopped(said, sections, addresses, stopping, asked)
