"""Who is calling: from the peer's certificate, or from the proof that the gateway carries for somebody else.

The gateway has no authority. What it forwards (a bearer token, or the client certificate it verified) is verified again here; a call it
forwards without either is anonymous.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from picontroller.core.callers import ANONYMOUS, Caller, Role, SpiffeId
from picontroller.core.errors import Unauthenticated
from picontroller.core.tls.identity import spiffe_id_of

KEPT = 2048
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


class Authenticator:
    """Resolves the caller of each call. What a certificate says is remembered; whether it is still valid is asked each time."""

    def __init__(
        self,
        trust_domain: Callable[[], str],
        forwarded: Forwarded | None = None,
        now: Callable[[], float] = time.time,
        denials: Denials | None = None,
    ) -> None:
        self._trust_domain = trust_domain
        self._forwarded = forwarded
        self._now = now
        self._denials = denials
        self._known: OrderedDict[bytes, Caller] = OrderedDict()

    def caller(self, context: grpc.aio.ServicerContext[object, object], metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        """Return the caller of a call with ``metadata``. Raises Unauthenticated when its proof is not good or was revoked."""
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
        peer = self._known.get(pem) or self._learn(pem)
        if peer.expires <= self._now():
            raise Unauthenticated("the client certificate has expired", reason="CERTIFICATE_EXPIRED")
        return peer

    def _proven(self, peer: Caller, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        if peer.identity is not None and peer.identity.kind == "gateway":
            if self._denials is not None and self._denials.holds(peer):
                raise Unauthenticated("the gateway's certificate was revoked", reason="PROOF_REVOKED")
            if self._forwarded is None:
                raise Unauthenticated("the gateway has no business here", reason="FORWARDING_REFUSED")
            texts = {key: value for key, value in metadata if isinstance(value, str)}
            return self._forwarded.caller(texts) or STRANGER
        return peer

    def _learn(self, pem: bytes) -> Caller:
        try:
            certificate = x509.load_pem_x509_certificate(pem)
            identity = spiffe_id_of(certificate)
            _refuse_weak(certificate)
        except ValueError as error:
            raise Unauthenticated(f"the client certificate is not one of ours: {error}", reason="IDENTITY_UNKNOWN") from error
        if identity.trust_domain != self._trust_domain():
            raise Unauthenticated("the client certificate is of another trust domain", reason="IDENTITY_UNKNOWN")
        expires = certificate.not_valid_after_utc.timestamp()
        caller = Caller(
            identity, roles_in(certificate, identity), "certificate", expires, proof=f"certificate:{certificate.serial_number:x}"
        )
        self._known[pem] = caller
        if len(self._known) > KEPT:
            self._known.popitem(last=False)
        return caller
