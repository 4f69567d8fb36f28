"""What a WebSocket client proves itself with, and where it may be found: never in the URL, which ends up in logs and histories."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping

from picontroller.core.errors import Unauthenticated

SUBPROTOCOL = "pi-controller.v1"
_BEARER = "bearer."
_CERTIFICATE = "x-forwarded-client-cert"

Receive = Callable[[], Awaitable[str]]


def offered_token(subprotocols: list[str]) -> str:
    """Return the token among the subprotocols that the client offers, empty when there is none."""
    return next((name[len(_BEARER) :] for name in subprotocols if name.startswith(_BEARER)), "")


async def proof_of(headers: Mapping[str, str], subprotocols: list[str], first_message: Receive, seconds: float) -> dict[str, str]:
    """Return the metadata that carries the client's proof to a service.

    A token in a subprotocol counts first, then the Authorization header, then the certificate; with none of them the first message must be
    ``{"token": "…"}``. Raises Unauthenticated when it does not come in time or is something else.
    """
    if token := offered_token(subprotocols):
        return {"authorization": f"Bearer {token}"}
    for name in ("authorization", _CERTIFICATE):
        if value := headers.get(name):
            return {name: value}
    try:
        async with asyncio.timeout(seconds):
            text = await first_message()
        message = json.loads(text)
        token = message["token"]
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
            raise ValueError("not a token")
    except TimeoutError as error:
        raise Unauthenticated(f"no token came within {seconds:g} s", reason="TOKEN_MISSING") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unauthenticated('the first message must be {"token": "…"}', reason="TOKEN_MISSING") from error
    return {"authorization": f"Bearer {token}"}
