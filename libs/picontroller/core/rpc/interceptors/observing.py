"""The outer links: a call gets an id, a line in the log, a stopwatch, and errors that a caller can read."""

import asyncio
import logging
from typing import Any

import grpc
import grpc.aio

from picontroller.core import ids, logs
from picontroller.core.clock import Clock
from picontroller.core.errors import Cancelled, Error, Unsupported
from picontroller.core.rpc import errors as rpc_errors
from picontroller.core.rpc import metrics
from picontroller.core.rpc.interceptors.call import REQUEST_ID, Call, Handler, Method
from picontroller.core.rpc.limits import RATE_LIMITED

log = logging.getLogger(__name__)


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
    """Writes a line for each call: at INFO when it failed, at DEBUG when it did not or was one too many."""

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """Return ``proceed`` with a log line."""

        async def handle(call: Call, request: Any) -> Any:
            try:
                return await proceed(call, request)
            finally:
                # A watch ends by its caller's leaving.
                left = call.code is grpc.StatusCode.CANCELLED and method.response_streaming
                quiet = call.code is grpc.StatusCode.OK or left or call.reason == RATE_LIMITED
                level = logging.DEBUG if quiet else logging.INFO
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
            except NotImplementedError:
                # Generated code raises it for what a servicer leaves out, as the health servicer of grpcio does with List.
                failure = Unsupported(f"{method.name} is not served here", reason="METHOD_NOT_SERVED")
            except Exception as error:
                # What is written to a caller who has gone fails in many ways, none of them ours.
                gone = call.context.done()
                failure = Cancelled("the caller has gone") if gone else rpc_errors.internal(error, call.request_id)
            call.code, call.reason = rpc_errors.code_of(failure), failure.reason
            if not call.context.done():
                await call.context.abort_with_status(rpc_errors.to_grpc(failure, call.request_id))
            return None

        return handle
