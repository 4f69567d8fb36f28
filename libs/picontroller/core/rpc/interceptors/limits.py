"""How much one caller may ask of this server: calls a second, attempts to join, refusals, open streams, metadata.

Who is known is limited by principal, who is not by address. Our own services are not limited in their rate, and nobody is by address who
has none: that is this machine, over a socket that only its user may open.
"""

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from picontroller.core.callers import Role
from picontroller.core.errors import PermissionDenied, QuotaExceeded, Unauthenticated
from picontroller.core.rpc import metrics
from picontroller.core.rpc.interceptors.call import Call, Handler, Method
from picontroller.core.rpc.interceptors.rates import Buckets, network_of
from picontroller.core.rpc.limits import RATE_LIMITED, LimitSettings
from picontroller.core.rpc.permissions import CallClass
from picontroller.core.tls.channels import LARGEST_METADATA_BYTES

log = logging.getLogger(__name__)

TOLD_SECONDS = 10.0


class Limited:
    """Makes the error of a caller who has to wait, and says so in the log now and then: a flood must not fill that either."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._silent_until = float("-inf")
        self._untold = 0

    def error(self, what: str, who: str, wait: float) -> QuotaExceeded:
        """Return the error for ``who``, who may call again in ``wait`` seconds."""
        metrics.RPC_LIMITED.labels(what).inc()
        self._untold += 1
        now = self._now()
        if now >= self._silent_until:
            log.warning("callers are limited", extra={"what": what, "principal": who, "calls": self._untold})
            self._silent_until, self._untold = now + TOLD_SECONDS, 0
        return QuotaExceeded(f"too many {what} from {who}; try again in {wait:.2g} s", reason=RATE_LIMITED, retry_after=wait)


class Rates:
    """Keeps each caller to its calls a second, by the class of the call. ``now`` are seconds that never go back."""

    def __init__(self, settings: LimitSettings, now: Callable[[], float]) -> None:
        self._by_class = {
            CallClass.READ: ("reads", Buckets(settings.reads_per_second, settings.reads_burst, now)),
            CallClass.REPORT: ("reports", Buckets(settings.reports_per_second, settings.reports_burst, now)),
            CallClass.DRIVE: ("drives", Buckets(settings.drives_per_second, settings.drives_burst, now)),
            CallClass.CHANGE: ("changes", Buckets(settings.changes_per_second, settings.changes_burst, now)),
        }
        self._limited = Limited(now)
        self._joins = Buckets(settings.joins_per_second, settings.joins_burst, now)
        self._failed_joins = Buckets(settings.failed_joins_per_second, settings.failed_joins_burst, now)

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """Return ``proceed`` behind the caller's bucket."""
        if method.permission.call_class is CallClass.JOIN:
            return self._joining(proceed)
        what, buckets = self._by_class[method.permission.call_class]
        limited = self._limited.error

        async def handle(call: Call, request: Any) -> Any:
            who = _payer(call)
            if who and (wait := buckets.take(who)):
                raise limited(what, who, wait)
            return await proceed(call, request)

        return handle

    def _joining(self, proceed: Handler) -> Handler:
        """Return ``proceed`` behind two buckets of the address.

        Every attempt pays into that of the failed ones before it is looked at and is paid back when it succeeds, so that of any number of
        attempts at once no more are looked at than the bucket holds.
        """

        async def handle(call: Call, request: Any) -> Any:
            who = network_of(call.address)
            if not who:
                return await proceed(call, request)
            if wait := self._failed_joins.take(who):
                raise self._limited.error("attempts to join", who, wait)
            if wait := self._joins.take(who):
                self._failed_joins.give_back(who)
                raise self._limited.error("attempts to join", who, wait)
            answer = await proceed(call, request)
            self._failed_joins.give_back(who)
            return answer

        return handle


def _payer(call: Call) -> str:
    """Return whose bucket a call is taken from; empty for nobody's."""
    if call.caller.identity is None:
        return network_of(call.address)
    return "" if Role.SERVICE in call.caller.roles else call.caller.principal


class Refusals:
    """Keeps those who are refused for who they are from being told so too often: each time is work, and a record in the audit log.

    Belongs right outside of what establishes the caller. Who has a proof is not touched by what others do at the same address.
    """

    def __init__(self, settings: LimitSettings, now: Callable[[], float]) -> None:
        self._limited = Limited(now)
        self._told = Buckets(settings.refusals_per_second, settings.refusals_burst, now)

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """Return ``proceed`` with its refusals counted. Those of joins have a bucket of their own."""
        if method.permission.call_class is CallClass.JOIN:
            return proceed

        async def handle(call: Call, request: Any) -> Any:
            try:
                return await proceed(call, request)
            except (Unauthenticated, PermissionDenied) as error:
                if call.caller.identity is not None and isinstance(error, Unauthenticated):
                    raise  # a stream whose proof has ended: its caller must learn of that
                who = _payer(call)
                if who and (wait := self._told.take(who)):
                    raise self._limited.error("refused calls", who, wait) from None
                raise

        return handle


class Limits:
    """Caps how many streams one caller holds open on this server, and how much metadata a call brings.

    gRPC has a limit of its own for metadata, which now and then lets through what Envoy sends in several frames.
    """

    def __init__(self, settings: LimitSettings) -> None:
        self._allowed = settings.streams
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
            who = call.caller.principal if call.caller.identity else f"anonymous {network_of(call.address)}"
            if self._open[who] >= self._allowed:
                raise QuotaExceeded(f"{who} has {self._allowed} streams open already", reason="TOO_MANY_STREAMS", retry_after=1.0)
            self._open[who] += 1
            try:
                return await proceed(call, request)
            finally:
                self._open[who] -= 1
                if not self._open[who]:
                    del self._open[who]

        return handle


def _check_metadata(call: Call) -> None:
    size = 0
    for key, value in call.metadata:
        size += len(key) + len(value)
    if size > LARGEST_METADATA_BYTES:
        raise QuotaExceeded(f"the metadata has {size} bytes, {LARGEST_METADATA_BYTES} are allowed", reason="METADATA_TOO_LARGE")
