"""Certificates that renew themselves, for every member of the mesh.

A certificate is renewed when two thirds of its life are over, a little earlier by chance so that a fleet doesn't come at once. When that is
gets worked out anew after every wake, by the wall clock and by the monotonic one: a clock that jumps can neither skip a renewal nor cause a
storm of them. Each renewal has a new key; only one whose answer was lost is repeated with the same, and gets the same certificate.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification

from picontroller.core.callers import SpiffeId
from picontroller.core.clock import Clock
from picontroller.core.errors import DeadlineExceeded, Error, FailedPrecondition, Unavailable
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.tls.identity import Credentials, IdentityFolder, Trust, credentials_from, key_to_pem, new_key, signing_request
from picontroller.v1 import identity_pb2, identity_pb2_grpc, trust_pb2

log = logging.getLogger(__name__)

REPEAT_SECONDS = 55.0
"""How long a key may be tried again: the issuer knows it as a repetition for a minute."""
LONGEST_WAIT_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 300.0
CALL_SECONDS = 10.0
SERVICE_REMEDY = "start `pictl serve identity` again with the same --data-dir"
AGENT_REMEDY = "make a token with `pictl token create --node ID` and run `pictl join` on this machine"


@dataclass(frozen=True, slots=True)
class Issued:
    """What the identity service answered: a chain, leaf first, and what to believe."""

    chain_pem: bytes
    trust: Trust


def trust_from(message: trust_pb2.TrustBundle) -> Trust:
    """Return a trust bundle as members keep it."""
    return Trust(
        message.version,
        message.trust_domain,
        message.roots_pem.encode(),
        message.jwks_json,
        message.active_root,
        message.renew_now,
    )


def issued_from(message: identity_pb2.IssuedCertificate) -> Issued:
    """Return the answer to IssueCertificate and RenewCertificate as members keep it."""
    return Issued(message.certificate_chain_pem.encode(), trust_from(message.trust_bundle))


def accepted(key_pem: bytes, issued: Issued, wanted: SpiffeId) -> Credentials:
    """Return credentials made of ``issued``. Raises FailedPrecondition when they would lock their owner out.

    That is: the wrong key, another identity, or a chain that doesn't lead to a root in the bundle that came with it.
    """
    credentials = credentials_from(key_pem, issued.chain_pem)
    if credentials.spiffe_id != wanted:
        raise FailedPrecondition(f"the new certificate is for {credentials.spiffe_id}, not {wanted}", reason="IDENTITY_DAMAGED")
    try:
        leaf, *rest = x509.load_pem_x509_certificates(issued.chain_pem)
        roots = verification.Store(x509.load_pem_x509_certificates(issued.trust.roots_pem))
        # Our own clock is not asked: it may be wrong, and the issuer's isn't better for it.
        moment = credentials.not_before + (credentials.not_after - credentials.not_before) / 2
        verification.PolicyBuilder().store(roots).time(moment).build_client_verifier().verify(leaf, rest)
    except (verification.VerificationError, ValueError) as error:
        raise FailedPrecondition("the new certificate does not belong to its root", reason="IDENTITY_DAMAGED") from error
    return credentials


class Renewal:
    """Keeps one identity folder fresh for as long as ``run`` runs.

    ``request_renewal`` takes a signing request in PEM. ``remedy`` is what the log tells people to do once the certificate has expired, when
    no renewal can work any more.
    """

    def __init__(
        self,
        identity: IdentityFolder,
        request_renewal: Callable[[bytes], Awaitable[Issued]],
        clock: Clock,
        *,
        remedy: str = SERVICE_REMEDY,
    ) -> None:
        self._identity = identity
        self._request = request_renewal
        self._clock = clock
        self._remedy = remedy
        self._failures = 0
        self._planned_for = ""
        self._jitter = timedelta(0)
        self._due_monotonic = 0.0
        self._blocked_until = float("-inf")
        self._rested_from = float("-inf")
        self._kept_key: tuple[ec.EllipticCurvePrivateKey, float] | None = None
        self._wanted_now = False
        self._woken = asyncio.Event()

    def renew_now(self) -> None:
        """Renew at once, whatever the certificate's age: because it lacks a name, or because its root goes."""
        self._wanted_now = True
        self._woken.set()

    async def run(self) -> None:
        """Renew until cancelled."""
        while True:
            self._woken.clear()
            await self._pause(await self.step())

    async def _pause(self, seconds: float) -> None:
        """Return after ``seconds``, earlier when a renewal is wanted at once."""
        loop = asyncio.get_running_loop()
        waits = [loop.create_task(self._clock.sleep(seconds)), loop.create_task(self._woken.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def step(self) -> float:
        """Do what is due now and return the seconds until the next look."""
        if self._wait_seconds() <= 0:
            await self._renew()
        return max(min(self._wait_seconds(), LONGEST_WAIT_SECONDS), 0.05)

    def _wait_seconds(self) -> float:
        """Return the seconds until a renewal is due and allowed: the wall clock or the monotonic one says due, and no back-off forbids."""
        credentials, now = self._identity.credentials, self._clock.monotonic()
        if credentials.serial != self._planned_for:
            self._planned_for = credentials.serial
            self._jitter = _life(credentials) / 20 * random.random()  # noqa: S311 - jitter, not a secret
            self._due_monotonic = now + self._wall_seconds(credentials)
        by_time = max(min(self._wall_seconds(credentials), self._due_monotonic - now), self._rested_from - now)
        return max(0.0 if self._wanted_now else by_time, self._blocked_until - now)

    def _wall_seconds(self, credentials: Credentials) -> float:
        return (credentials.renewal_time() - self._jitter - self._clock.now()).total_seconds()

    async def _renew(self) -> None:
        old = self._identity.credentials
        key = self._key()
        try:
            issued = await self._request(signing_request(key))
            fresh = accepted(key_to_pem(key), issued, old.spiffe_id)
            # The answer may be older than what was heard since it was given.
            trust = max(issued.trust, self._identity.trust, key=lambda trust: trust.version)
            await asyncio.to_thread(self._identity.store, fresh, trust)
        except (Error, OSError) as error:
            self._failed(old, error)
            return
        self._failures, self._wanted_now, self._kept_key = 0, False, None
        # One that looks due at once means that our clock is wrong: asking again would bring another like it.
        self._rested_from = self._clock.monotonic() + _life(fresh).total_seconds() / 10
        log.info("certificate renewed", extra={"identity": str(fresh.spiffe_id), "serial": fresh.serial, "expires": str(fresh.not_after)})

    def _key(self) -> ec.EllipticCurvePrivateKey:
        """Return the key of an attempt whose answer may have been lost, not long ago, else a new one."""
        now = self._clock.monotonic()
        if self._kept_key is None or now - self._kept_key[1] > REPEAT_SECONDS:
            self._kept_key = (new_key(), now)
        return self._kept_key[0]

    def _failed(self, old: Credentials, error: Error | OSError) -> None:
        if not isinstance(error, Unavailable | DeadlineExceeded | OSError):
            self._kept_key = None  # it was answered: the same would get the same answer
        ceiling = min(LONGEST_PAUSE_SECONDS, _life(old).total_seconds() / 20, 2.0 ** min(self._failures, 16))
        self._blocked_until = self._clock.monotonic() + random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter, not a secret
        fields = {"identity": str(old.spiffe_id), "expires": str(old.not_after), "error": str(error)}
        if self._failures % 10 == 0:
            if self._clock.now() >= old.not_after:
                log.error("the certificate has expired and can't be renewed", extra={**fields, "try": self._remedy})
            else:
                log.warning("the certificate could not be renewed yet", extra=fields)
        self._failures += 1


def through(
    channel: Callable[[], grpc.aio.Channel],
    identity: IdentityFolder,
    clock: Clock,
    *,
    acts_for: str = "",
    san: Sequence[str] = (),
    remedy: str = AGENT_REMEDY,
) -> Renewal:
    """Return the renewal of ``identity`` by IdentityService behind ``channel``, which is asked for anew for each call.

    ``acts_for`` is ``/gateway`` when the caller renews the gateway's forwarding identity instead of its own; ``san`` are further names.
    """

    async def request_renewal(csr_pem: bytes) -> Issued:
        stub = identity_pb2_grpc.IdentityServiceStub(channel())
        request = identity_pb2.RenewCertificateRequest(csr_pem=csr_pem.decode(), identity=acts_for, san=san)
        return issued_from(await rpc.unary(stub.RenewCertificate, request, seconds=CALL_SECONDS))

    return Renewal(identity, request_renewal, clock, remedy=remedy)


def for_service(mesh: Mesh, clock: Clock) -> Renewal:
    """Return the renewal of a service's own identity, asked of the identity service through its mesh."""
    return through(lambda: mesh.service("identity"), mesh.identity, clock, remedy=SERVICE_REMEDY)


def for_edge(mesh: Mesh, edge: IdentityFolder, clock: Clock, san: Sequence[str] = ()) -> Renewal:
    """Return the renewal of the gateway's forwarding identity, asked for by ``svc/gateway``, whose mesh this is."""
    return through(lambda: mesh.service("identity"), edge, clock, acts_for="/gateway", san=san, remedy=SERVICE_REMEDY)


def _life(credentials: Credentials) -> timedelta:
    return credentials.not_after - credentials.not_before
