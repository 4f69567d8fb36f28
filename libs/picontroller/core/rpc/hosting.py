"""Running services in this process: one, or all of them. The same code either way."""

import asyncio
import gc
import logging
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

import grpc

from picontroller.core.audit.trail import Trail
from picontroller.core.clock import Clock
from picontroller.core.rpc.authentication import Authenticator, Forwarded
from picontroller.core.rpc.interceptors.auditing import Auditing
from picontroller.core.rpc.interceptors.call import Interceptor
from picontroller.core.rpc.interceptors.guarding import Authorisation, Callers, Deadlines, Validation
from picontroller.core.rpc.interceptors.limits import Limits, Rates, Refusals
from picontroller.core.rpc.interceptors.observing import AccessLog, Errors, Metrics, RequestIds
from picontroller.core.rpc.limits import DEFAULT_LIMITS, LimitSettings
from picontroller.core.rpc.server import Server
from picontroller.core.rpc.validation import Validator
from picontroller.core.rpc.wiring import Service
from picontroller.core.tasks import cancel_and_wait, keep_running
from picontroller.core.tls.channels import server_credentials
from picontroller.core.tls.identity import IdentityFolder

log = logging.getLogger(__name__)

GRACE_SECONDS = 10.0
BROKEN_SECONDS = 1.0


@dataclass(frozen=True)
class Manners:
    """How every server of a process behaves: whom it believes, what it checks and allows, how long calls in flight have when it stops."""

    validator: Validator
    clock: Clock
    forwarded: Forwarded | None = None
    grace_seconds: float = GRACE_SECONDS
    limits: LimitSettings = DEFAULT_LIMITS


def authenticator_of(identity: IdentityFolder, manners: Manners) -> Authenticator:
    """Return who establishes the callers of a server of ``identity``."""
    limits = manners.limits
    return Authenticator(
        lambda: identity.trust,
        manners.forwarded,
        lambda: manners.clock.now().timestamp(),
        identity.denials,
        limits.connection_age_seconds + limits.connection_grace_seconds,
    )


def chain(authenticator: Authenticator, manners: Manners, trail: Trail | None = None) -> list[Interceptor]:
    """Return the interceptors in their order, outermost first. Without a ``trail`` refusals are in the log only."""
    return [
        RequestIds(),
        AccessLog(),
        Metrics(manners.clock),
        *([Auditing(trail)] if trail else []),
        Errors(),
        Refusals(manners.limits, manners.clock.monotonic),
        Callers(authenticator),
        Authorisation(),
        Rates(manners.limits, manners.clock.monotonic),
        Limits(manners.limits),
        Deadlines(),
        Validation(manners.validator),
    ]


@dataclass(frozen=True)
class Running:
    """A service that serves. ``addresses`` are those that were bound, ports resolved."""

    service: Service
    server: Server
    addresses: tuple[str, ...]


@asynccontextmanager
async def serving(service: Service, identity: IdentityFolder, addresses: Sequence[str], manners: Manners) -> AsyncIterator[Running]:
    """Serve ``service`` on ``addresses`` and do its background work; drain it on the way out.

    Raises OSError naming the address that can't be had.
    """
    manners = replace(manners, limits=_aging(manners.limits, identity))
    authenticator = authenticator_of(identity, manners)
    server = Server(service.register, chain(authenticator, manners, service.trail), limits=manners.limits)
    await server.start(addresses, server_credentials(identity))
    loop = asyncio.get_running_loop()
    forget_listeners = end_refused(server, identity, authenticator)
    tasks = [
        loop.create_task(keep_running(f"{service.name}: {name}", work, manners.clock), name=f"{service.name}: {name}")
        for name, work in service.background.items()
    ]
    tasks.append(loop.create_task(_watch_broken(service, server, manners.clock), name=f"{service.name}: broken?"))
    log.info("service is up", extra={"service": service.name, "addresses": server.bound})
    try:
        yield Running(service, server, tuple(server.bound))
    finally:
        forget_listeners()
        await server.drain(manners.grace_seconds)
        await cancel_and_wait(*tasks)
        log.info("service has stopped", extra={"service": service.name})


def _aging(limits: LimitSettings, identity: IdentityFolder) -> LimitSettings:
    """Return ``limits`` with connections that age well within the life of a certificate.

    A certificate is renewed when a third of its life is left, and a connection may have been made with the old one just before that.
    """
    credentials = identity.credentials
    life = (credentials.not_after - credentials.not_before).total_seconds()
    return replace(limits, connection_age_seconds=max(1.0, min(limits.connection_age_seconds, life / 6)))


def end_refused(server: Server, identity: IdentityFolder, authenticator: Authenticator) -> Callable[[], None]:
    """Have ``server`` end the streams of whoever is denied, or no longer believed, from now on; return what stops that."""
    loop = asyncio.get_running_loop()

    def end_denied() -> None:
        loop.call_soon_threadsafe(server.streams.end, identity.denials.holds)

    def end_unproven() -> None:
        loop.call_soon_threadsafe(server.streams.end_unproven, lambda call: authenticator.caller(call.context, call.metadata))

    forget = (identity.denials.on_change(end_denied), identity.on_trust(end_unproven))

    def stop() -> None:
        for each in forget:
            each()

    return stop


async def _watch_broken(service: Service, server: Server, clock: Clock) -> None:
    while not service.broken():
        await clock.sleep(BROKEN_SECONDS)
    log.critical("the service is broken until it is restarted", extra={"service": service.name})
    await server.refuse()


@asynccontextmanager
async def until_signalled(on_signal: Callable[[], None] | None = None) -> AsyncIterator[asyncio.Event]:
    """Yield an event that SIGTERM and SIGINT set. A second signal ends the process at once, as people expect."""
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()

    def stop() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        if on_signal is not None:
            on_signal()
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        yield stopping
    finally:
        with suppress(ValueError, RuntimeError):
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def settle() -> None:
    """Take what this process has built so far out of garbage collection. To be called once, by a process that is up.

    Everything imported and wired lives as long as the process, and a full collection stops all calls while it looks through that (33 ms
    for one service).
    """
    gc.collect()
    gc.freeze()


async def healthy(channel: grpc.aio.Channel, seconds: float) -> bool:
    """Return whether the server behind ``channel`` says SERVING within ``seconds``."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    stub = health_pb2_grpc.HealthStub(channel)
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=seconds, wait_for_ready=True)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
