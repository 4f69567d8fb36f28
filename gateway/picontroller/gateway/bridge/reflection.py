"""One reflection for all public services, so that grpcurl and its like can explore the whole control plane at one address.

The server knows the services' descriptors and serves none of them: calls go from Envoy straight to their services.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from picontroller.core.rpc import hosting
from picontroller.core.rpc.hosting import Manners
from picontroller.core.rpc.server import Server
from picontroller.core.tls.channels import server_credentials
from picontroller.core.tls.identity import IdentityFolder

GRACE_SECONDS = 0.5


@asynccontextmanager
async def reflecting(identity: IdentityFolder, address: str, services: Iterable[str], manners: Manners) -> AsyncIterator[None]:
    """Serve reflection of ``services``, and health, at ``address`` until the block is left. Callers need proof as everywhere."""
    server = Server((), hosting.chain(identity, manners), tuple(services), channelz_too=False)
    await server.start([address], server_credentials(identity))
    try:
        yield
    finally:
        await server.drain(GRACE_SECONDS)
