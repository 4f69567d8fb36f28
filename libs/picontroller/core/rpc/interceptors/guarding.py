"""The inner links: who calls, whether it may, for how long, and whether what it says is a message of ours."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

from google.protobuf.message import Message

from picontroller.core import callers
from picontroller.core.callers import Caller
from picontroller.core.errors import DeadlineExceeded, InvalidArgument, Unauthenticated
from picontroller.core.rpc.authentication import Authenticator
from picontroller.core.rpc.interceptors.call import Call, Garbage, Handler, Method
from picontroller.core.rpc.validation import Validator

UNARY_CAP_SECONDS = 60.0
CLIENT_ADDRESS = "x-client-address"  # written by the gateway over whatever its client sends; believed from nobody else
LONGEST_ADDRESS = 45


class Callers:
    """Establishes who calls."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """Return ``proceed`` with a known caller."""

        async def handle(call: Call, request: Any) -> Any:
            try:
                peer = self._authenticator.peer(call.context)
            except Unauthenticated:
                call.address = _address_of(call, callers.ANONYMOUS)
                raise
            call.address = _address_of(call, peer)
            call.caller = self._authenticator.caller_behind(peer, call.metadata)
            callers.set_current(call.caller, call.address)
            return await proceed(call, request)

        return handle


def _address_of(call: Call, peer: Caller) -> str:
    """Return the caller's IP address: the gateway's word for whom it carries, our own socket's for all others."""
    if peer.identity is not None and peer.identity.kind == "gateway":
        found = next((value for key, value in call.metadata if key == CLIENT_ADDRESS), "")
        return found if isinstance(found, str) and len(found) <= LONGEST_ADDRESS else ""
    kind, _, rest = call.context.peer().partition(":")
    if kind not in ("ipv4", "ipv6"):
        return ""
    return unquote(rest.rpartition(":")[0]).strip("[]")


class Authorisation:
    """Lets through whom the method's permission names."""

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """Return ``proceed`` behind the method's permission."""
        permission, field = method.permission, method.permission.own_node_field

        async def handle(call: Call, request: Any) -> Any:
            own = getattr(request, field) if field and isinstance(request, Message) else None
            permission.check(method.full_name, call.caller, own)
            return await proceed(call, request)

        return handle


class Deadlines:
    """Bounds unary calls: a caller that gives no deadline, or one far away, gets the server's cap, and the work is cancelled with it."""

    def __init__(self, cap_seconds: float = UNARY_CAP_SECONDS) -> None:
        self._cap = cap_seconds

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """Return ``proceed`` with an end; streams may last."""
        if method.response_streaming or method.request_streaming:
            return proceed

        async def handle(call: Call, request: Any) -> Any:
            remaining = call.context.time_remaining()
            if remaining is not None and remaining <= self._cap:
                return await proceed(call, request)
            try:
                async with asyncio.timeout(self._cap):
                    return await proceed(call, request)
            except TimeoutError:
                raise DeadlineExceeded(f"{method.name} took longer than {self._cap:g} s") from None

        return handle


class Validation:
    """Refuses rubbish and messages that break their proto's rules, with all violations at once; each message of a stream too."""

    def __init__(self, validator: Validator) -> None:
        self._validator = validator

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """Return ``proceed`` behind the rules."""
        if method.request_streaming:

            async def handle_stream(call: Call, requests: AsyncIterator[Any]) -> Any:
                return await proceed(call, self._checked(requests))

            return handle_stream

        async def handle(call: Call, request: Any) -> Any:
            self._check(request)
            return await proceed(call, request)

        return handle

    async def _checked(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for request in requests:
            self._check(request)
            yield request

    def _check(self, request: Any) -> None:
        if isinstance(request, Garbage):
            raise InvalidArgument("the request is not a message of this method", reason="MALFORMED_MESSAGE")
        violations = self._validator.violations(request)
        if violations:
            text = "; ".join(f"{violation.field}: {violation.description}" for violation in violations[:3])
            raise InvalidArgument(text, violations=violations)
