"""How much one caller may ask of this server."""

from collections import Counter
from typing import Any

from picontroller.core.errors import QuotaExceeded
from picontroller.core.rpc.interceptors.call import Call, Handler, Method
from picontroller.core.tls.channels import LARGEST_METADATA_BYTES

STREAMS_PER_CALLER = 100


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
