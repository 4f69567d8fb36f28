"""The gateway with its two identities: ``/svc/gateway`` for its own business, ``/gateway`` for the calls it carries."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from picontroller.core.clock import Clock
from picontroller.core.rpc import renewal
from picontroller.core.rpc.limits import LimitSettings
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.rpc.trust import Believer, TrustWatch
from picontroller.core.tasks import cancel_and_wait, keep_running
from picontroller.gateway.wiring import Gateway, gateway
from picontroller.host.layout import Layout
from picontroller.host.members import identity_at, identity_in
from picontroller.identity import names


@asynccontextmanager
async def running_gateway(
    layout: Layout,
    settings: Any,
    addresses: Mapping[str, str],
    listen: str,
    clock: Clock,
    *,
    san: Sequence[str] = (),
    limits: LimitSettings,
    patience_seconds: float = 0,
) -> AsyncIterator[Gateway]:
    """Run the gateway on ``listen`` until the block is left, and keep both of its identities fresh, each of which may yet have to come."""
    identity = await identity_in(layout, "gateway", clock, patience_seconds=patience_seconds)
    edge = await identity_at(layout.edge, "gateway", clock, patience_seconds=patience_seconds)
    mesh = Mesh(identity, addresses)
    wanted = names.reachable([*san, listen.rpartition(":")[0].strip("[]")])
    edge_renewal = renewal.for_edge(mesh, edge, clock, wanted)
    if names.lacks(edge.credentials, wanted):  # the identity service made it without knowing how we are called
        edge_renewal.renew_now()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(mesh.close)
        front = await stack.enter_async_context(
            gateway(
                data_dir=layout.member("gateway"),
                sockets=layout.sockets(),
                listen=listen,
                addresses=addresses,
                identity=identity,
                edge=edge,
                settings=settings,
                clock=clock,
                limits=limits,
            )
        )
        own_renewal = renewal.for_service(mesh, clock)
        believers = [Believer(identity, own_renewal), Believer(edge, edge_renewal, "/gateway")]
        works = {
            "gateway: certificate renewal": own_renewal.run,
            "gateway: edge certificate renewal": edge_renewal.run,
            "gateway: trust": TrustWatch(lambda: mesh.service("identity"), believers, clock).run,
        }
        tasks = [asyncio.create_task(keep_running(name, work, clock), name=name) for name, work in works.items()]
        stack.push_async_callback(cancel_and_wait, *tasks)
        yield front
