"""WebSocket clients of the gateway."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from picontroller.core.tls.identity import IdentityFolder
from tests.fakes.edge import EdgeWorld

PATIENCE_SECONDS = 10.0


def events(
    world: EdgeWorld,
    query: str = "",
    *,
    token: str | None = None,
    identity: IdentityFolder | None = None,
    origin: str | None = None,
    headers: dict[str, str] | None = None,
    protocols: tuple[str, ...] = (),
) -> connect:
    """Return a connection to the event socket, to be entered. A token travels in a subprotocol."""
    offered = [Subprotocol(name) for name in (*protocols, *(("pi-controller.v1", f"bearer.{token}") if token else ()))]
    return connect(
        f"wss://127.0.0.1:{world.gateway.port}/api/v1/events/ws{query}",
        ssl=world.tls(identity),
        subprotocols=offered or None,
        origin=Origin(origin) if origin else None,
        additional_headers=headers,
        proxy=None,
        max_size=None,
    )


async def receive(connection: ClientConnection) -> dict[str, Any]:
    """Return the next event."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        found: dict[str, Any] = json.loads(await connection.recv())
        return found


async def closed(connection: ClientConnection) -> tuple[int, str]:
    """Return code and reason with which the gateway ends the connection; what comes before is passed over."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await connection.recv()
    if connection.protocol.close_rcvd is None:
        raise AssertionError("cut off without a close frame")
    return connection.protocol.close_rcvd.code, connection.protocol.close_rcvd.reason


async def until(condition: Callable[[], bool]) -> None:
    """Return when ``condition`` holds; fail when that takes too long."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)
