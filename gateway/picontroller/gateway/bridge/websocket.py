"""Events over a WebSocket: the event bus's subscription under the client's own proof, one JSON object an event.

The gateway adds no right and no memory of its own: what is sent comes straight from the subscription, and when the client reads slowly
the subscription waits (a socket's buffer and one batch are all that is held here). The subscription ends with the connection, not the
other way round: one that breaks off is taken up again after the last event sent, without gap or double.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from picontroller.core.callers import Caller
from picontroller.core.clock import Clock
from picontroller.core.errors import Error, InvalidArgument, OutOfRange, PermissionDenied, QuotaExceeded, Unauthenticated, Unavailable
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.forwarding import ForwardedProofs
from picontroller.core.rpc.interceptors.guarding import CLIENT_ADDRESS
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.tasks import next_pause
from picontroller.gateway.bridge import subscription
from picontroller.gateway.bridge.proof import SUBPROTOCOL, proof_of
from picontroller.gateway.envoy.routes import EVENTS
from picontroller.gateway.settings import Settings
from picontroller.v1 import events_pb2, events_pb2_grpc

log = logging.getLogger(__name__)

CLOSE_CODES: dict[type[Error], int] = {
    InvalidArgument: 4400,
    Unauthenticated: 4401,
    PermissionDenied: 4403,
    OutOfRange: 4416,
    QuotaExceeded: 4429,
}
TRY_AGAIN_LATER = 1013
LONGEST_REASON_BYTES = 123  # what a close frame holds
# Tokens are believed a minute beyond their end by services, because clocks differ; a connection that is open already gets no such grace.
LONGEST_SLEEP_SECONDS = 30.0
SENDING_SECONDS = 60.0
# Longer than the event bus takes to start anew, short enough that a client learns of an outage.
RESUMING_SECONDS = 15.0


class EventSocket:
    """The WebSocket at ``/api/v1/events/ws``."""

    def __init__(self, mesh: Mesh, proofs: ForwardedProofs, clock: Clock, settings: Settings) -> None:
        self._mesh = mesh
        self._proofs = proofs
        self._clock = clock
        self._settings = settings
        self._stopping = asyncio.Event()
        self._open = 0

    def routes(self) -> list[BaseRoute]:
        """Return the routes to it: the WebSocket, and what those are told who come without one."""
        return [WebSocketRoute(EVENTS, self.serve), Route(EVENTS, self.explain, methods=["GET"])]

    async def explain(self, _: Request) -> JSONResponse:
        """Answer a plain GET."""
        message = "this is a WebSocket; GET /api/v1/events lists events, GET /api/v1/events:subscribe streams them"
        return JSONResponse({"code": 9, "message": message, "details": []}, 426, {"upgrade": "websocket"})

    async def serve(self, socket: WebSocket) -> None:
        """Serve one connection to its end."""
        if not self._origin_allowed(socket.headers):
            body = {"code": 7, "message": "pages of other sites may not use this", "details": []}
            await socket.send_denial_response(JSONResponse(body, 403))
            return
        offered = list(socket.scope["subprotocols"])
        await socket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
        self._open += 1
        try:
            await self._converse(socket, offered)
        except WebSocketDisconnect:
            pass
        except Error as error:
            await _close(socket, error)
        finally:
            self._open -= 1

    async def stop(self, seconds: float) -> None:
        """Ask all clients to come back later, and wait up to ``seconds`` until their connections are told so."""
        self._stopping.set()
        deadline = self._clock.monotonic() + seconds
        while self._open and self._clock.monotonic() < deadline:
            await self._clock.sleep(0.01)

    async def _converse(self, socket: WebSocket, offered: list[str]) -> None:
        proof = await proof_of(socket.headers, offered, lambda: _text(socket), self._settings.token_seconds)
        caller = self._proofs.caller(proof)
        if caller is None:
            raise Unauthenticated("give a client certificate or a token", reason="CREDENTIALS_MISSING")
        request = subscription.request_from(socket.query_params)
        loop = asyncio.get_running_loop()
        parts = [
            loop.create_task(self._send(socket, request, {**proof, **_address_in(socket.headers)})),
            loop.create_task(_listen(socket)),
            loop.create_task(self._expire(caller)),
            loop.create_task(self._interrupt()),
        ]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
        for part in done:
            part.result()

    async def _send(self, socket: WebSocket, request: events_pb2.SubscribeRequest, metadata: Mapping[str, str]) -> None:
        """Send events, whichever connection to the event bus they come over: connections end now and then, subscriptions go on.

        A bus that can't be had at first, or is away for longer than ``RESUMING_SECONDS``, ends this.
        """
        patience, failures = 0.0, 0  # until when it is tried again; not at all before the first answer
        while True:
            try:
                stub = events_pb2_grpc.EventServiceStub(self._mesh.service("events"))
                async with aclosing(rpc.stream(stub.Subscribe, request, metadata=metadata)) as responses:
                    async for response in responses:
                        await _send_events(socket, response)
                        request.after = response.cursor
                        patience, failures = float("inf"), 0
                raise Unavailable("the event bus ended the subscription; reconnect with `after`", reason="SUBSCRIPTION_ENDED")
            except Unavailable:
                patience = min(patience, self._clock.monotonic() + RESUMING_SECONDS)
                if self._clock.monotonic() >= patience:
                    raise
            failures += 1
            await self._clock.sleep(next_pause(failures))

    async def _expire(self, caller: Caller) -> None:
        """Raise Unauthenticated when the caller's proof ends, by the wall clock, which may be set meanwhile."""
        while (left := caller.expires - self._clock.now().timestamp()) > 0:
            await self._clock.sleep(min(left, LONGEST_SLEEP_SECONDS))
        raise Unauthenticated(f"the {caller.method} has expired", reason="PROOF_EXPIRED")

    async def _interrupt(self) -> None:
        await self._stopping.wait()
        raise Unavailable("the gateway is going away; reconnect with `after`", reason="DRAINING")

    def _origin_allowed(self, headers: Mapping[str, str]) -> bool:
        """Return whether the page that connects is our own or one that was named. Programs send no origin."""
        origin = headers.get("origin")
        return origin is None or origin == f"https://{headers.get('host', '')}" or origin in self._settings.allowed_origins


def _address_in(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata by which services know where the client is: as Envoy, which alone gets here, wrote it over the client's own."""
    address = headers.get(CLIENT_ADDRESS)
    return {CLIENT_ADDRESS: address} if address else {}


async def _text(socket: WebSocket) -> str:
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    return str(message.get("text") or "")


async def _send_events(socket: WebSocket, response: events_pb2.SubscribeResponse) -> None:
    try:
        for event in response.events:
            async with asyncio.timeout(SENDING_SECONDS):
                await socket.send_text(subscription.event_to_json(event))
    except TimeoutError:
        raise QuotaExceeded("events were not read in time; reconnect with `after`", reason="READER_TOO_SLOW") from None


async def _listen(socket: WebSocket) -> None:
    """Read on, because that is how the end is noticed and pings are answered; what a client says after its token means nothing."""
    while True:
        await _text(socket)


async def _close(socket: WebSocket, error: Error) -> None:
    code = next((CLOSE_CODES[kind] for kind in type(error).__mro__ if kind in CLOSE_CODES), TRY_AGAIN_LATER)
    reason = f"{error.reason}: {error.message}".encode()[:LONGEST_REASON_BYTES].decode(errors="ignore")
    log.info("websocket closed", extra={"code": code, "reason": error.reason})
    try:
        async with asyncio.timeout(1):  # a client that reads nothing won't read this either
            await socket.close(code, reason)
    except (TimeoutError, WebSocketDisconnect, RuntimeError):
        pass
