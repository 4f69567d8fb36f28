"""Trust that spreads: what members believe and whom they refuse, followed as it changes, and acknowledged.

A member that hears nothing goes on with what it knows (fail-static) and says so: in its log, in ``picontroller_trust_age_seconds`` and,
an agent, in its health. Nothing here ever ends by itself: a connection that was lost is made again within a second.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import grpc.aio
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from picontroller.core.clock import Clock
from picontroller.core.errors import Error, PermissionDenied, Unauthenticated, Unavailable
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc import metrics
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.rpc.renewal import Renewal, trust_from
from picontroller.core.tasks import next_pause
from picontroller.core.tls import joining
from picontroller.core.tls.denials import Denial
from picontroller.core.tls.identity import IdentityFolder, Trust
from picontroller.v1 import identity_pb2_grpc, trust_pb2

log = logging.getLogger(__name__)

SILENCE_SECONDS = 15.0
STALE_SECONDS = 30.0
LOOK_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 1.0
REVOKED_PAUSE_SECONDS = 60.0
ACKNOWLEDGE_SECONDS = 60.0
ACKNOWLEDGE_AGAIN_SECONDS = 2.0
LONGEST_JITTER_SECONDS = 10.0
CALL_SECONDS = 5.0
SERVICE_REMEDY = "start `pictl serve identity` (or `pictl up`) again with the same --data-dir, which provisions it anew; then this service"
MEMBER_REMEDY = "join again with a fresh token, or remove this member"


@dataclass(frozen=True, slots=True)
class Believer:
    """An identity that believes what is told. ``acts_for`` is ``/gateway`` when it is not the caller's own; ``renewal`` keeps it fresh."""

    identity: IdentityFolder
    renewal: Renewal | None = None
    acts_for: str = ""


class TrustWatch:
    """Keeps what ``believers`` believe as new as it can be, for as long as ``run`` runs.

    ``channel`` is asked for the channel to IdentityService anew for each connection, so that one that was replaced is not used again.
    ``silence_seconds`` without a word mean that the connection was lost.
    """

    def __init__(
        self,
        channel: Callable[[], grpc.aio.Channel],
        believers: Sequence[Believer],
        clock: Clock,
        *,
        silence_seconds: float = SILENCE_SECONDS,
        stale_seconds: float = STALE_SECONDS,
    ) -> None:
        self._channel = channel
        self._believers = tuple(believers)
        self._clock = clock
        self._silence_seconds = silence_seconds
        self._stale_seconds = stale_seconds
        self._heard = clock.monotonic()
        self._news = (asyncio.Event(), asyncio.Event())

    def age(self) -> float:
        """Return the seconds since the identity service was heard of; since this began when it never was."""
        return self._clock.monotonic() - self._heard

    def problems(self) -> tuple[str, ...]:
        """Return the line that says that nothing was heard for too long."""
        if self.age() <= self._stale_seconds:
            return ()
        seconds = int(self.age())
        return (f"TRUST_STALE: the identity service was last heard of {seconds} s ago; what was revoked since then is not refused here",)

    async def run(self) -> None:
        """Follow, acknowledge and say when it is stale, until cancelled."""
        name = _path(self._believers[0].identity)
        gauge = metrics.TRUST_AGE.labels(name)
        gauge.set_function(self.age)
        self._heard = self._clock.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow())
                group.create_task(self._acknowledge(self._news[0]))
                group.create_task(self._renew_when_asked(self._news[1]))
                group.create_task(self._warn(name))
        finally:
            with suppress(KeyError):
                metrics.TRUST_AGE.remove(name)

    async def _follow(self) -> None:
        failures = 0
        while True:
            heard, serial = self._heard, self._believers[0].identity.credentials.serial
            try:
                async with aclosing(self._responses()) as responses:
                    async for response in responses:
                        await self._take(response)
            except (Unauthenticated, PermissionDenied) as error:
                if error.reason == "PROOF_REVOKED":
                    await self._pause_revoked(serial)
                    continue
                log.debug("trust is not told to us", extra={"reason": error.reason, "error": error.message})
            except (Error, OSError) as error:
                log.debug("the identity service was lost", extra={"error": str(error)})
            failures = 0 if self._heard != heard else failures + 1
            await self._clock.sleep(min(next_pause(failures), LONGEST_PAUSE_SECONDS))

    async def _responses(self) -> AsyncGenerator[Any, None]:
        """Yield what is told on one connection. Raises Unavailable after silence."""
        stub = identity_pb2_grpc.IdentityServiceStub(self._channel())
        async with aclosing(rpc.stream(stub.WatchTrust, self._request())) as responses:
            while True:
                try:
                    async with asyncio.timeout(self._silence_seconds):
                        response = await anext(responses)
                except TimeoutError:
                    raise Unavailable(f"no word for {self._silence_seconds:g} s", reason="SILENT") from None
                except StopAsyncIteration:
                    return
                yield response

    def _request(self) -> trust_pb2.WatchTrustRequest:
        """Return what all believers have: one that lacks something gets it, and the others get it once more."""
        versions = {believer.identity.trust.version for believer in self._believers}
        denials = min(believer.identity.denials.version for believer in self._believers)
        return trust_pb2.WatchTrustRequest(version=versions.pop() if len(versions) == 1 else 0, denials_version=denials)

    async def _take(self, response: trust_pb2.WatchTrustResponse) -> None:
        self._heard = self._clock.monotonic()
        found = [Denial(denial.proof, denial.expire_time.ToMicroseconds() / 1e6) for denial in response.denials]
        for believer in self._believers:
            if found:
                await asyncio.to_thread(believer.identity.denials.add, found, response.denials_version)
        if found:
            log.info("denials were added", extra={"count": len(found), "version": response.denials_version})
            self._news[1].set()
        if response.HasField("trust_bundle"):
            await self._believe(trust_from(response.trust_bundle))

    async def _believe(self, trust: Trust) -> None:
        for believer in self._believers:
            if trust != believer.identity.trust:
                await asyncio.to_thread(believer.identity.store_trust, trust)
                log.info("trust bundle changed", extra={"version": trust.version, "identity": _path(believer.identity)})
        for event in self._news:
            event.set()

    async def _acknowledge(self, news: asyncio.Event) -> None:
        """Say what is believed, and by calling which certificate is used: at once when either changed, and now and then."""
        while True:
            news.clear()
            wait, serials = ACKNOWLEDGE_SECONDS, self._serials()
            for believer in self._believers:
                stub = identity_pb2_grpc.IdentityServiceStub(self._channel())
                request = trust_pb2.AcknowledgeTrustRequest(version=believer.identity.trust.version, identity=believer.acts_for)
                try:
                    await rpc.unary(stub.AcknowledgeTrust, request, seconds=CALL_SECONDS)
                except Error as error:
                    log.debug("trust could not be acknowledged yet", extra={"error": str(error)})
                    revoked = error.reason == "PROOF_REVOKED"
                    wait = REVOKED_PAUSE_SECONDS if revoked else ACKNOWLEDGE_AGAIN_SECONDS
            loop = asyncio.get_running_loop()
            until = loop.time() + wait
            while not news.is_set() and self._serials() == serials and (left := until - loop.time()) > 0:
                await _set_within(news, min(left, LOOK_SECONDS))

    def _serials(self) -> list[str]:
        return [believer.identity.credentials.serial for believer in self._believers]

    async def _renew_when_asked(self, news: asyncio.Event) -> None:
        while True:
            news.clear()
            await asyncio.gather(*(self._renew_if_asked(believer) for believer in self._believers))
            await _set_within(news, ACKNOWLEDGE_SECONDS)

    async def _renew_if_asked(self, believer: Believer) -> None:
        """Renew at once, but not all members together, when the bundle says so and our certificate belongs to another root.

        What acts for another renews the other's revoked certificate without delay. Our own can't be renewed once it is revoked.
        """
        trust, credentials = believer.identity.trust, believer.identity.credentials
        if believer.renewal is not None and believer.acts_for and believer.identity.denials.denies(f"certificate:{credentials.serial}"):
            log.warning("the certificate is renewed because it was revoked", extra={"identity": str(credentials.spiffe_id)})
            believer.renewal.renew_now()
            return
        if believer.renewal is None or not trust.renew_now or belongs_to(credentials.chain_pem, trust):
            return
        life = (credentials.not_after - credentials.not_before).total_seconds()
        await self._clock.sleep(random.uniform(0, min(life / 20, LONGEST_JITTER_SECONDS)))  # noqa: S311 - jitter, not a secret
        log.info("the certificate is renewed because its root goes", extra={"identity": str(credentials.spiffe_id)})
        believer.renewal.renew_now()

    async def _warn(self, name: str) -> None:
        stale = False
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            if (self.age() > self._stale_seconds) is not stale:
                stale = not stale
                if stale:
                    log.warning("the identity service is silent; what is revoked meanwhile is not refused here", extra={"identity": name})
                else:
                    log.info("the identity service is heard again", extra={"identity": name})

    async def _pause_revoked(self, serial: str) -> None:
        """Say plainly that we were shut out, and wait long: nothing but another certificate than that with ``serial`` helps."""
        identity = self._believers[0].identity
        if identity.credentials.serial != serial:
            return
        remedy = SERVICE_REMEDY if identity.credentials.spiffe_id.kind == "svc" else MEMBER_REMEDY
        log.error("this member's certificate was revoked; everybody refuses it", extra={"identity": _path(identity), "try": remedy})
        until = self._clock.monotonic() + REVOKED_PAUSE_SECONDS
        while self._clock.monotonic() < until and identity.credentials.serial == serial:
            await self._clock.sleep(LOOK_SECONDS)


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def for_service(mesh: Mesh, renewal: Renewal, clock: Clock) -> TrustWatch:
    """Return what keeps a service's trust fresh, told by the identity service through its mesh."""
    return TrustWatch(lambda: mesh.service("identity"), [Believer(mesh.identity, renewal)], clock)


def belongs_to(chain_pem: bytes, trust: Trust) -> bool:
    """Return whether a chain's issuing authority was issued by the active root; True when nobody said which that is."""
    roots = x509.load_pem_x509_certificates(trust.roots_pem)
    active = next((root for root in roots if joining.root_fingerprint(root) == trust.active_root), None)
    if active is None:
        return True
    certificates = x509.load_pem_x509_certificates(chain_pem)
    issuing = certificates[min(1, len(certificates) - 1)]
    try:
        issuing.verify_directly_issued_by(active)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _path(identity: IdentityFolder) -> str:
    spiffe_id = identity.credentials.spiffe_id
    return str(spiffe_id).removeprefix(f"spiffe://{spiffe_id.trust_domain}")
