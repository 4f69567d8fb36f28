"""A gRPC server for one service: its servicers behind the chain of interceptors, mTLS, health, reflection (v1 and v1alpha) and channelz.

A server whose methods do not all declare a permission refuses to be built.
"""

from __future__ import annotations  # grpc's handler type takes parameters in its stubs only

import asyncio
import contextlib
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError
from grpc_channelz.v1 import channelz, channelz_pb2_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from picontroller.core.callers import Caller
from picontroller.core.errors import Unauthenticated, Unavailable
from picontroller.core.rpc.interceptors.call import Call, Garbage, Handler, Interceptor, Method
from picontroller.core.rpc.limits import DEFAULT_LIMITS, LimitSettings
from picontroller.core.rpc.permissions import FOREIGN_SERVICES, Permission, declared
from picontroller.core.tls.channels import LARGEST_MESSAGE_BYTES, LARGEST_METADATA_BYTES

Register = Callable[[Any], None]

SERVER_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", LARGEST_MESSAGE_BYTES),
    ("grpc.max_metadata_size", LARGEST_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", LARGEST_METADATA_BYTES),
    ("grpc.so_reuseport", 0),  # a taken port must be an error, not a second server that gets half of the calls
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_concurrent_streams", 1000),
)
CONCURRENT_CALLS = 2000
LONGEST_STREAM_SECONDS = 30 * 86400.0  # event loops do not take timers for ever; nothing of ours lasts longer


def _options(limits: LimitSettings) -> tuple[tuple[str, int | str], ...]:
    return (
        *SERVER_OPTIONS,
        ("grpc.max_connection_age_ms", int(limits.connection_age_seconds * 1000)),
        ("grpc.max_connection_age_grace_ms", int(limits.connection_grace_seconds * 1000)),
    )


class Recorder:
    """Stands in for a server when generated code registers a servicer, to take down its handlers."""

    def __init__(self) -> None:
        self.handlers: dict[str, Mapping[str, grpc.RpcMethodHandler[Any, Any]]] = {}

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        """Take down a service's handlers by method name."""
        self.handlers[service] = handlers

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Ignore the generic form of what was taken down already."""


class Streams:
    """The streams that a server has open: draining ends them instead of waiting for them, and none outlives its caller's proof."""

    def __init__(self) -> None:
        self._scopes: dict[asyncio.Timeout, Call] = {}
        self._refused: dict[asyncio.Timeout, Unauthenticated] = {}
        self.draining = False

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """Return ``proceed`` such that it ends when draining begins or the caller's proof expires; unary calls are left to finish."""
        if not (method.response_streaming or method.request_streaming):
            return proceed

        async def handle(call: Call, request: Any) -> Any:
            if self.draining:
                raise Unavailable("the server is going away", reason="DRAINING", retry_after=1.0)
            remaining = call.caller.expires - time.time()
            scope = asyncio.timeout(remaining if remaining < LONGEST_STREAM_SECONDS else None)
            self._scopes[scope] = call
            try:
                async with scope:
                    return await proceed(call, request)
            except TimeoutError:
                if not scope.expired():
                    raise
                if scope in self._refused:
                    raise self._refused[scope] from None
                if not self.draining:
                    raise Unauthenticated("the proof of who is calling has expired", reason="PROOF_EXPIRED") from None
                raise Unavailable("the server is going away", reason="DRAINING", retry_after=1.0) from None
            finally:
                self._scopes.pop(scope, None)
                self._refused.pop(scope, None)

        return handle

    def end(self, denied: Callable[[Caller], bool]) -> None:
        """End the streams of callers whose proof is ``denied``. To be called in the event loop when denials were added."""
        for scope, call in list(self._scopes.items()):
            if denied(call.caller):
                self._refused[scope] = Unauthenticated(f"the {call.caller.method} was revoked", reason="PROOF_REVOKED")
                scope.reschedule(0)

    def end_unproven(self, prove: Callable[[Call], object]) -> None:
        """End the streams for which ``prove`` raises Unauthenticated. To be called in the event loop when something else is believed."""
        for scope, call in list(self._scopes.items()):
            try:
                prove(call)
            except Unauthenticated as error:
                self._refused[scope] = error
                scope.reschedule(0)

    def drain(self) -> None:
        """End all streams, and those that still come."""
        self.draining = True
        for scope in list(self._scopes):
            scope.reschedule(0)


def _forgiving(deserialise: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    if deserialise is None:
        return None

    def read(raw: bytes) -> Any:
        try:
            return deserialise(raw)
        except (DecodeError, ValueError, RecursionError):
            return Garbage()

    return read


def _innermost(handler: grpc.RpcMethodHandler[Any, Any]) -> Handler:
    """Return a handler of generated code in the one shape that the chain knows, whatever its arity."""
    behaviour: Any = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    if not handler.response_streaming:

        async def respond(call: Call, request: Any) -> Any:
            return await behaviour(request, call.context)

        return respond

    async def stream(call: Call, request: Any) -> None:
        produced = behaviour(request, call.context)
        if inspect.isawaitable(produced):
            await produced
            return
        async with contextlib.aclosing(produced) as responses:
            async for response in responses:
                await call.context.write(response)

    return stream


def _wrapped(handler: grpc.RpcMethodHandler[Any, Any], method: Method, chain: Sequence[Interceptor]) -> grpc.RpcMethodHandler[Any, Any]:
    proceed = _innermost(handler)
    for interceptor in reversed(chain):
        proceed = interceptor.wrap(method, proceed)

    async def entry(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        return await proceed(Call(method, context), request)

    makers = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    make: Any = makers[bool(handler.request_streaming), bool(handler.response_streaming)]
    made: grpc.RpcMethodHandler[Any, Any] = make(entry, _forgiving(handler.request_deserializer), handler.response_serializer)
    return made


def permission_of(service: str, method: str) -> Permission:
    """Return a method's permission. Raises LookupError for a method without one: the server must not start."""
    if service in FOREIGN_SERVICES:
        return FOREIGN_SERVICES[service]
    descriptor = descriptor_pool.Default().FindServiceByName(service).methods_by_name[method]
    found = declared(descriptor)
    if found is None or not (found.roles or found.anonymous):
        raise LookupError(f"{service}/{method} declares no permission or no class; see proto/picontroller/v1/options.proto")
    return found


def _served(
    service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]], chain: Sequence[Interceptor]
) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    """Return a service's handlers behind the chain. Raises LookupError when a method declares no permission."""
    return {
        name: _wrapped(
            handler,
            Method(
                service,
                name,
                permission_of(service, name),
                request_streaming=bool(handler.request_streaming),
                response_streaming=bool(handler.response_streaming),
            ),
            chain,
        )
        for name, handler in handlers.items()
    }


class Server:
    """One service's server. ``start`` binds, ``drain`` lets calls in flight finish and ends."""

    def __init__(
        self,
        register: Sequence[Register],
        chain: Sequence[Interceptor],
        extra: Sequence[str] = (),
        *,
        channelz_too: bool = True,
        limits: LimitSettings = DEFAULT_LIMITS,
    ) -> None:
        self.streams = Streams()
        self.health = health.aio.HealthServicer()  # type: ignore[attr-defined]  # exported by an import within an if
        self.bound: list[str] = []
        recorder = Recorder()
        for add in register:
            add(recorder)
        self.services = tuple(recorder.handlers)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, recorder)
        names = (*self.services, *extra, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflecting = reflection.aio.ReflectionServicer(names)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflecting, recorder)
        # Version 1 of reflection has the messages of v1alpha under another package, and grpcio ships no code for it.
        recorder.handlers["grpc.reflection.v1.ServerReflection"] = recorder.handlers[reflection.SERVICE_NAME]
        if channelz_too:
            channelz_pb2_grpc.add_ChannelzServicer_to_server(channelz.aio.ChannelzServicer(), recorder)
        everything = [*chain, self.streams]
        served = {service: _served(service, handlers, everything) for service, handlers in recorder.handlers.items()}
        self._grpc = grpc.aio.server(options=_options(limits), maximum_concurrent_rpcs=CONCURRENT_CALLS)
        for service, handlers in served.items():
            self._grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
            self._grpc.add_registered_method_handlers(service, handlers)

    async def start(self, addresses: Sequence[str], credentials: grpc.ServerCredentials) -> None:
        """Bind ``addresses`` (``HOST:PORT``, port 0 for any, or ``unix:PATH``) and serve. ``bound`` has the ports that were got.

        Raises OSError naming the address when one can't be had.
        """
        for address in addresses:
            try:
                port = self._grpc.add_secure_port(address, credentials)
            except RuntimeError as error:
                raise OSError(f"{address} can't be bound: is another process using it?") from error
            self.bound.append(address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}")
        await self._grpc.start()
        for service in ("", *self.services):
            await self.health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def drain(self, grace_seconds: float) -> None:
        """Say NOT_SERVING, end streams, refuse new calls, and wait up to ``grace_seconds`` for calls in flight."""
        await self.health.enter_graceful_shutdown()
        self.streams.drain()
        await self._grpc.stop(grace_seconds)

    async def refuse(self) -> None:
        """Say NOT_SERVING, and go on answering with errors: those who ask must learn why."""
        for service in ("", *self.services):
            await self.health.set(service, health_pb2.HealthCheckResponse.NOT_SERVING)
