"""The chain that every call passes, outermost first: request id, log, metrics, errors, caller, authorisation, limits, deadline, validation.

Each interceptor is composed around a method once, when the server is built, so that a call costs a few nested coroutines instead of nine
handler look-ups (gRPC's own interceptors are asked anew for every call).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import grpc
import grpc.aio
from google.protobuf.message import Message

from picontroller.core import callers, ids, logs
from picontroller.core.callers import Caller
from picontroller.core.clock import Clock
from picontroller.core.errors import Cancelled, DeadlineExceeded, Error, InvalidArgument, QuotaExceeded
from picontroller.core.rpc import errors as rpc_errors
from picontroller.core.rpc import metrics
from picontroller.core.rpc.authentication import Authenticator
from picontroller.core.rpc.permissions import Permission
from picontroller.core.rpc.validation import Validator
from picontroller.core.tls.channels import LARGEST_METADATA_BYTES

log = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
STREAMS_PER_CALLER = 100
UNARY_CAP_SECONDS = 60.0


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
    """One call on its way through the chain. ``code`` is what it ended with; ``metadata`` is asked for once, because gRPC copies it."""

    __slots__ = ("caller", "code", "context", "metadata", "method", "request_id")

    def __init__(self, method: Method, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self.method = method
        self.context = context
        self.metadata = context.invocation_metadata() or ()
        self.caller: Caller = callers.ANONYMOUS
        self.request_id = ""
        self.code = grpc.StatusCode.OK


# Takes the request (or the iterator of requests) and returns the response; None when responses were written to the context.
Handler = Callable[[Call, Any], Awaitable[Any]]


class Interceptor(Protocol):
    """One link of the chain."""

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """Return ``proceed`` with this link around it."""
        ...


class RequestIds:
    """Takes over the caller's request id, or makes one, for the log, for errors and for calls made on its behalf."""

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """Return ``proceed`` with a request id."""

        async def handle(call: Call, request: Any) -> Any:
            for key, value in call.metadata:
                if key == REQUEST_ID and isinstance(value, str) and len(value) <= 64 and value.isprintable():
                    call.request_id = value
                    break
            else:
                call.request_id = ids.new_short_id()
            logs.request_id.set(call.request_id)
            return await proceed(call, request)

        return handle


class AccessLog:
    """Writes a line for each call: at INFO when it failed, at DEBUG when it did not."""

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """Return ``proceed`` with a log line."""

        async def handle(call: Call, request: Any) -> Any:
            try:
                return await proceed(call, request)
            finally:
                level = logging.DEBUG if call.code is grpc.StatusCode.OK else logging.INFO
                if log.isEnabledFor(level):
                    fields = {"method": method.full_name, "code": call.code.name, "principal": call.caller.principal}
                    log.log(level, "call served", extra=fields)

        return handle


class Metrics:
    """Counts and times calls."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """Return ``proceed`` with a stopwatch."""
        unfinished = metrics.RPC_OPEN.labels(method.service, method.name)
        by_code = {code: metrics.RPC_SECONDS.labels(method.service, method.name, code.name) for code in (grpc.StatusCode.OK,)}

        async def handle(call: Call, request: Any) -> Any:
            started = self._clock.monotonic()
            unfinished.inc()
            try:
                return await proceed(call, request)
            finally:
                unfinished.dec()
                histogram = by_code.get(call.code)
                if histogram is None:
                    histogram = by_code[call.code] = metrics.RPC_SECONDS.labels(method.service, method.name, call.code.name)
                histogram.observe(self._clock.monotonic() - started)

        return handle


class Errors:
    """Turns whatever is raised within into a status with details."""

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """Return ``proceed`` with its errors translated."""

        async def handle(call: Call, request: Any) -> Any:
            try:
                return await proceed(call, request)
            except Error as error:
                failure = error
            except asyncio.CancelledError:
                call.code = grpc.StatusCode.CANCELLED
                raise
            except grpc.aio.AioRpcError as error:
                failure = rpc_errors.from_grpc(error)
            except Exception as error:
                # What is written to a caller who has gone fails in many ways, none of them ours.
                gone = call.context.done()
                failure = Cancelled("the caller has gone") if gone else rpc_errors.internal(error, call.request_id)
            call.code = rpc_errors.code_of(failure)
            if not call.context.done():
                await call.context.abort_with_status(rpc_errors.to_grpc(failure, call.request_id))
            return None

        return handle


class Callers:
    """Establishes who calls."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """Return ``proceed`` with a known caller."""

        async def handle(call: Call, request: Any) -> Any:
            call.caller = self._authenticator.caller(call.context, call.metadata)
            callers.set_current(call.caller)
            return await proceed(call, request)

        return handle


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


class Limits:
    """Caps how many streams one caller holds open on this server, and how much metadata a call brings.

    gRPC has a limit of its own for metadata, which now and then lets through what Envoy sends in several frames.
    """

    def __init__(self, streams: int = STREAMS_PER_CALLER) -> None:
        self._allowed = streams
        self._open: Counter[str] = Counter()

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """Return ``proceed`` behind the caps."""
        if not (method.response_streaming or method.request_streaming):

            async def handle_unary(call: Call, request: Any) -> Any:
                _check_metadata(call)
                return await proceed(call, request)

            return handle_unary

        async def handle(call: Call, request: Any) -> Any:
            _check_metadata(call)
            principal = call.caller.principal
            if self._open[principal] >= self._allowed:
                raise QuotaExceeded(f"{principal} has {self._allowed} streams open already", reason="TOO_MANY_STREAMS", retry_after=1.0)
            self._open[principal] += 1
            try:
                return await proceed(call, request)
            finally:
                self._open[principal] -= 1
                if not self._open[principal]:
                    del self._open[principal]

        return handle


def _check_metadata(call: Call) -> None:
    size = 0
    for key, value in call.metadata:
        size += len(key) + len(value)
    if size > LARGEST_METADATA_BYTES:
        raise QuotaExceeded(f"the metadata has {size} bytes, {LARGEST_METADATA_BYTES} are allowed", reason="METADATA_TOO_LARGE")


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
