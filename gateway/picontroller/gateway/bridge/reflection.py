"""One reflection for all public services, so that grpcurl and its like can explore the whole control plane at one address.

The server knows the services' descriptors and serves none of them: calls go from Envoy straight to their services. Only what is made of
several services' answers is served here.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from picontroller.core.rpc import hosting
from picontroller.core.rpc.hosting import Manners
from picontroller.core.rpc.server import Register, Server
from picontroller.core.tls.channels import server_credentials
from picontroller.core.tls.identity import IdentityFolder

GRACE_SECONDS = 0.5


@asynccontextmanager
async def reflecting(
    identity: IdentityFolder, address: str, services: Iterable[str], manners: Manners, register: Sequence[Register] = ()
) -> AsyncIterator[None]:
    """Serve reflection of ``services``, health, and what ``register`` adds at ``address`` until the block is left.

    Callers need proof as everywhere.
    """
    authenticator = hosting.authenticator_of(identity, manners)
    server = Server(register, hosting.chain(authenticator, manners), tuple(services), channelz_too=False, limits=manners.limits)
    await server.start([address], server_credentials(identity))
    forget_listeners = hosting.end_refused(server, identity, authenticator)
    try:
        yield
    finally:
        forget_listeners()
        await server.drain(GRACE_SECONDS)
