"""Who is calling: from the peer's certificate, or from the proof that the gateway carries for somebody else.

A certificate is believed as long as its chain leads to a root that is believed now: a connection that is open outlives a change of roots.
The gateway has no authority. What it forwards (a bearer token, or the client certificate it verified) is verified again here; a call it
forwards without either is anonymous.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import verification
from cryptography.x509.oid import NameOID

from picontroller.core.callers import ANONYMOUS, Caller, Role, SpiffeId
from picontroller.core.errors import Unauthenticated, Unavailable
from picontroller.core.tls.identity import Trust, spiffe_id_of

KEPT = 2048
GATEWAY_REVOKED = "GATEWAY_REVOKED"  # reason of what nobody gets any more through this gateway
SMALLEST_RSA_BITS = 2048
SHORTEST_DIGEST_BYTES = 32
STRANGER = replace(ANONYMOUS, forwarded=True)
_KIND_ROLES = {"svc": frozenset({Role.SERVICE}), "node": frozenset({Role.AGENT}), "gateway": frozenset({Role.GATEWAY})}


class Forwarded(Protocol):
    """Verifies what the gateway forwards. Members that the gateway never calls (agents) have none."""

    def caller(self, metadata: Mapping[str, str]) -> Caller | None:
        """Return whom the metadata proves, None when it claims nothing. Raises Unauthenticated for a false or outdated claim."""
        ...


def roles_in(certificate: x509.Certificate, identity: SpiffeId) -> frozenset[Role]:
    """Return what a certificate's bearer may do: by kind for our processes, by the subject's organisations for people."""
    if identity.kind != "user":
        return _KIND_ROLES[identity.kind]
    names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    return frozenset(role for role in Role if role.name.lower().replace("_", "-") in names)


def _refuse_weak(certificate: x509.Certificate) -> None:
    """Raise ValueError for a certificate that could be forged: TLS below us accepts more than we do."""
    key, signed_with = certificate.public_key(), certificate.signature_hash_algorithm
    strong = isinstance(key, ec.EllipticCurvePublicKey) or (isinstance(key, rsa.RSAPublicKey) and key.key_size >= SMALLEST_RSA_BITS)
    if not strong:
        raise ValueError("its key is too weak")
    if signed_with is None or signed_with.digest_size < SHORTEST_DIGEST_BYTES:
        raise ValueError("its signature is too weak")


class Denials(Protocol):
    """Proofs that are refused although they are not outdated."""

    def holds(self, caller: Caller) -> bool:
        """Return whether the caller's proof, or everything that its identity has, is refused."""
        ...


def _leads_to_a_root(leaf: x509.Certificate, chain_pem: bytes, trust: Trust, now: float) -> bool:
    """Return whether a chain leads to a root in ``trust``. ``chain_pem`` are the issuers that the peer sent, empty for none."""
    # The chain is looked at within the leaf's own life: whether that is over is asked with each call, and a clock that was set back
    # is no reason to cut off those who are connected.
    moment = min(max(datetime.fromtimestamp(now, UTC), leaf.not_valid_before_utc), leaf.not_valid_after_utc)
    try:
        issuers = x509.load_pem_x509_certificates(chain_pem) if chain_pem else []
        roots = verification.Store(x509.load_pem_x509_certificates(trust.roots_pem))
        verification.PolicyBuilder().store(roots).time(moment).build_client_verifier().verify(leaf, issuers)
    except (verification.VerificationError, ValueError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Known:
    """What was found of a certificate when trust was of ``version``. Calls are refused from ``until`` on, in Unix seconds."""

    caller: Caller
    version: int
    until: float = float("inf")


class Authenticator:
    """Resolves the caller of each call.

    What a certificate says and where its chain leads is remembered for one version of ``trust``; whether it has expired is asked each time.
    ``gateway_seconds`` is how long a gateway may go on over a connection that it made before its root was dropped: Envoy keeps its
    connections when it gets a new certificate, and nothing but their age ends them.
    """

    def __init__(
        self,
        trust: Callable[[], Trust],
        forwarded: Forwarded | None = None,
        now: Callable[[], float] = time.time,
        denials: Denials | None = None,
        gateway_seconds: float = 0.0,
    ) -> None:
        self._trust = trust
        self._forwarded = forwarded
        self._now = now
        self._denials = denials
        self._gateway_seconds = gateway_seconds
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    def caller(self, context: grpc.aio.ServicerContext[object, object], metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        """Return the caller of a call with ``metadata``.

        Raises Unauthenticated when its proof is not good or was revoked, and Unavailable (GATEWAY_REVOKED) when the gateway's was.
        """
        return self.caller_behind(self.peer(context), metadata)

    def caller_behind(self, peer: Caller, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        """Return who speaks through ``peer``: itself, or the one whose proof the gateway carries. Raises like ``caller``."""
        caller = self._proven(peer, metadata)
        if self._denials is not None and self._denials.holds(caller):
            raise Unauthenticated(f"the {caller.method} was revoked", reason="PROOF_REVOKED")
        return caller

    def peer(self, context: grpc.aio.ServicerContext[object, object]) -> Caller:
        """Return who holds the other end of the connection. Raises Unauthenticated for a certificate that is not good (any more)."""
        proof: Mapping[str, Any] = context.auth_context()
        if proof.get("ssl_tls_version", [b""])[0] not in (b"TLSv1.3", b""):
            raise Unauthenticated("TLS 1.3 is needed", reason="TLS_TOO_OLD")
        pem = proof.get("x509_pem_cert", [b""])[0]
        known, trust, now = self._known.get(pem), self._trust(), self._now()
        if known is None or known.version != trust.version:
            known = self._learn(pem, proof.get("x509_pem_cert_chain", [b""])[0], trust, known)
        if known.caller.expires <= now:
            raise Unauthenticated("the client certificate has expired", reason="CERTIFICATE_EXPIRED")
        if known.until <= now:
            raise Unauthenticated("the client certificate leads to no root that is believed now; renew it", reason="ROOT_DROPPED")
        return known.caller

    def _proven(self, peer: Caller, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        if peer.identity is not None and peer.identity.kind == "gateway":
            if self._denials is not None and self._denials.holds(peer):
                # Nothing is wrong with whoever is behind it: callers must try again, not take it for their own end.
                raise Unavailable("the gateway's certificate was revoked; it gets another", reason=GATEWAY_REVOKED, retry_after=1.0)
            if self._forwarded is None:
                raise Unauthenticated("the gateway has no business here", reason="FORWARDING_REFUSED")
            texts = {key: value for key, value in metadata if isinstance(value, str)}
            return self._forwarded.caller(texts) or STRANGER
        return peer

    def _learn(self, pem: bytes, chain_pem: bytes, trust: Trust, before: _Known | None) -> _Known:
        try:
            certificate = x509.load_pem_x509_certificate(pem)
            identity = spiffe_id_of(certificate)
            _refuse_weak(certificate)
        except ValueError as error:
            raise Unauthenticated(f"the client certificate is not one of ours: {error}", reason="IDENTITY_UNKNOWN") from error
        if identity.trust_domain != trust.trust_domain:
            raise Unauthenticated("the client certificate is of another trust domain", reason="IDENTITY_UNKNOWN")
        expires = certificate.not_valid_after_utc.timestamp()
        caller = Caller(
            identity, roles_in(certificate, identity), "certificate", expires, proof=f"certificate:{certificate.serial_number:x}"
        )
        until, now = float("inf"), self._now()
        if not _leads_to_a_root(certificate, chain_pem, trust, now):
            if before is None or identity.kind != "gateway":
                return _Known(caller, trust.version, float("-inf"))  # not remembered: the same certificate may come with a better chain
            until = min(before.until, now + self._gateway_seconds)
        known = self._known[pem] = _Known(caller, trust.version, until)
        if len(self._known) > KEPT:
            self._known.popitem(last=False)
        return known
