"""Puts the gateway together: bridge and reflection first, then Envoy, which depends on both; taken down in the opposite order."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from picontroller.core.clock import Clock
from picontroller.core.files import make_private_folder
from picontroller.core.rpc.forwarding import ForwardedProofs
from picontroller.core.rpc.hosting import Manners
from picontroller.core.rpc.limits import DEFAULT_LIMITS, LimitSettings
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.rpc.validation import default_validator
from picontroller.core.tasks import cancel_and_wait, keep_running
from picontroller.core.tls.identity import IdentityFolder
from picontroller.gateway.bridge import app, audit, reflection
from picontroller.gateway.bridge.description import Description
from picontroller.gateway.bridge.pages import Pages
from picontroller.gateway.bridge.readiness import Readiness
from picontroller.gateway.bridge.websocket import EventSocket
from picontroller.gateway.envoy import process
from picontroller.gateway.envoy.bootstrap import Edge
from picontroller.gateway.envoy.descriptors import PUBLIC
from picontroller.gateway.envoy.process import Envoy
from picontroller.gateway.settings import Settings


@dataclass(frozen=True)
class Gateway:
    """A gateway that serves. ``url`` has no slash at its end; ``ca_file`` holds the roots that its certificate chains to."""

    url: str
    port: int
    ca_file: Path
    envoy: Envoy
    readiness: Readiness

    async def ready(self) -> bool:
        """Return whether every service behind the gateway serves."""
        states = await self.readiness.services()
        return bool(states) and all(states.values())


@asynccontextmanager
async def gateway(
    *,
    data_dir: Path,
    sockets: Path,
    listen: str,
    addresses: Mapping[str, str],
    identity: IdentityFolder,
    edge: IdentityFolder,
    settings: Settings,
    clock: Clock,
    grace_seconds: float = 3.0,
    limits: LimitSettings = DEFAULT_LIMITS,
) -> AsyncIterator[Gateway]:
    """Serve until the block is left.

    ``listen`` is ``HOST:PORT`` (port 0 for a free one), ``addresses`` the services by name, ``identity`` that of ``svc/gateway`` and
    ``edge`` that of ``/gateway``, both loaded and renewed by the host. ``sockets`` is a private folder with a path of at most 90 bytes.
    Raises OSError for a taken address, FailedPrecondition without Envoy, Unavailable when it doesn't start; nothing keeps running then.
    """
    host, _, port = listen.rpartition(":")
    ip, chosen = process.bindable(host.strip("[]"), int(port))
    process.find(settings.envoy_file)
    make_private_folder(data_dir)
    known = {name: address for name, address in addresses.items() if name in PUBLIC}
    async with AsyncExitStack() as stack:
        own_mesh, edge_mesh = Mesh(identity, known), Mesh(edge, known)
        for mesh in (own_mesh, edge_mesh):
            stack.push_async_callback(mesh.close)
        proofs = ForwardedProofs(lambda: identity.trust, lambda: clock.now().timestamp())
        readiness = Readiness(own_mesh, known, clock)
        events = EventSocket(edge_mesh, proofs, clock, settings)
        pages = Pages(edge, readiness)
        described = Description(edge, proofs)
        public = [service for name in known for service in PUBLIC[name]]
        manners = Manners(default_validator(), clock, proofs, limits=limits)
        await stack.enter_async_context(app.bridging(sockets / "bridge.sock", [*pages.routes(), *described.routes(), *events.routes()]))
        merged = audit.register(edge_mesh, list(known), clock)
        await stack.enter_async_context(reflection.reflecting(identity, f"unix:{sockets / 'gateway.sock'}", public, manners, [merged]))
        front = Edge(
            host=ip,
            port=chosen,
            trust_domain=edge.trust.trust_domain,
            identity=edge.path,
            upstreams=known,
            bridge=f"unix:{sockets / 'bridge.sock'}",
            reflection=f"unix:{sockets / 'gateway.sock'}",
            admin=sockets / "envoy.sock",
            descriptors=data_dir / "envoy" / "public.binpb",
            access_log=data_dir / "access.log",
            settings=settings,
        )
        envoy = await stack.enter_async_context(process.running(front, clock, grace_seconds=grace_seconds))
        replacing = keep_running("envoy's revoked certificate", lambda: envoy.replace_revoked(edge), clock)
        stack.push_async_callback(cancel_and_wait, asyncio.create_task(replacing, name="gateway: revoked certificate"))
        stack.push_async_callback(events.stop, 1.0)  # while Envoy still carries the farewell
        shown = {"0.0.0.0": "localhost", "::": "localhost"}.get(ip, host)
        yield Gateway(f"https://{shown}:{chosen}", chosen, edge.path / "roots.pem", envoy, readiness)
