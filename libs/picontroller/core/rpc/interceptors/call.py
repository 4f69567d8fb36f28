"""What interceptors pass on: a method, a call of it, and the shape of a handler."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import grpc
import grpc.aio

from picontroller.core import callers
from picontroller.core.callers import Caller
from picontroller.core.rpc.permissions import Permission

REQUEST_ID = "x-request-id"


class Garbage:
    """Stands for a request whose bytes were not a message, so that it is refused in its turn and not by gRPC with our class names."""


class Method:
    """What is known of a method before it is called."""

    __slots__ = ("full_name", "name", "permission", "request_streaming", "response_streaming", "service")

    def __init__(self, service: str, name: str, permission: Permission, *, request_streaming: bool, response_streaming: bool) -> None:
        self.service = service
        self.name = name
        self.full_name = f"{service}/{name}"
        self.permission = permission
        self.request_streaming = request_streaming
        self.response_streaming = response_streaming


class Call:
    """One call on its way through the chain.

    ``code`` is what it ended with, ``reason`` that of its error; ``metadata`` is asked for once, because gRPC copies it; ``address`` is the
    caller's IP address as the gateway or our own socket saw it, empty on this machine.
    """

    __slots__ = ("address", "caller", "code", "context", "metadata", "method", "reason", "request_id")

    def __init__(self, method: Method, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self.method = method
        self.context = context
        self.metadata = context.invocation_metadata() or ()
        self.caller: Caller = callers.ANONYMOUS
        self.address = ""
        self.request_id = ""
        self.code = grpc.StatusCode.OK
        self.reason = ""


# Takes the request (or the iterator of requests) and returns the response; None when responses were written to the context.
Handler = Callable[[Call, Any], Awaitable[Any]]


class Interceptor(Protocol):
    """One link of the chain."""

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """Return ``proceed`` with this link around it."""
        ...
