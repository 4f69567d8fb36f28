"""The bridge's HTTP server: pages and the WebSocket, on one Unix socket that only this user may open.

Envoy is its only client. That is why it believes the certificate header that Envoy writes, and why it must never listen on the network.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from picontroller.core.tasks import cancel_and_wait
from picontroller.gateway.bridge.frames import PoliteWebSocket

LARGEST_MESSAGE_BYTES = 64 * 1024
GRACE_SECONDS = 2
PING_SECONDS = 20.0
PONG_SECONDS = 60.0  # a reader that is this far behind is cut off and comes back with its cursor


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: signals are the host's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def private_socket(path: Path) -> socket.socket:
    """Return a Unix socket bound at ``path`` with mode 0600 from its first moment; what was there before is removed."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(path))
        path.chmod(0o600)  # nobody can connect before listen()
    except BaseException:
        listening.close()
        raise
    return listening


@asynccontextmanager
async def bridging(path: Path, routes: Sequence[BaseRoute]) -> AsyncIterator[None]:
    """Serve ``routes`` at ``path`` until the block is left; WebSockets are then closed with 1012 (restart)."""
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    config = uvicorn.Config(
        Starlette(routes=list(routes)),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        http="h11",
        ws=PoliteWebSocket,
        ws_max_size=LARGEST_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PONG_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config)
    listening = private_socket(path)
    serving = asyncio.get_running_loop().create_task(server.serve([listening]), name="gateway: bridge")
    try:
        while not server.started:
            if serving.done():
                serving.result()
            await asyncio.sleep(0)
        yield
    finally:
        server.should_exit = True
        done, _ = await asyncio.wait([serving], timeout=GRACE_SECONDS + 3)
        if not done:
            await cancel_and_wait(serving)
        listening.close()
