"""Verifying what the gateway forwards: API tokens (ES256 JWTs) and client certificates (the XFCC header that Envoy writes).

Both are checked whole, as if the caller had come directly: signature, chain, validity, audience. Results are remembered by the hash of the
proof for as long as they may be, so that a busy client costs one verification.
"""

import hashlib
import json
import time
import urllib.parse
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import jwt
from cryptography import x509
from cryptography.x509 import verification

from picontroller.core.callers import Caller, Role, SpiffeId, parse_spiffe_id
from picontroller.core.errors import Unauthenticated
from picontroller.core.rpc.authentication import roles_in
from picontroller.core.tls.identity import Trust, spiffe_id_of

AUDIENCE = "pi-controller"
KEPT = 2048
KEPT_SECONDS = 30.0
CLOCK_SKEW_SECONDS = 60
LONGEST_TOKEN_SECONDS = 366 * 86400  # nothing longer is issued (CreateApiTokenRequest.ttl), so that a longer one was never ours
_PEOPLE = frozenset({Role.CLUSTER_ADMIN, Role.GPIO_OPERATOR, Role.MONITOR})


class ForwardedProofs:
    """Verifies forwarded proofs against what is believed at the moment of the call."""

    def __init__(self, trust: Callable[[], Trust], now: Callable[[], float] = time.time) -> None:
        self._trust = trust
        self._now = now
        self._known: OrderedDict[tuple[int, str, bytes], tuple[float, Caller]] = OrderedDict()

    def caller(self, metadata: Mapping[str, str]) -> Caller | None:
        """Return whom the metadata proves; a bearer token counts before a certificate."""
        if authorization := metadata.get("authorization"):
            scheme, _, token = authorization.partition(" ")
            if scheme.lower() != "bearer" or not token:
                raise Unauthenticated("the authorization header must be: Bearer TOKEN", reason="TOKEN_INVALID")
            return self._remembered("token", token.strip(), self._token)
        if certificate := metadata.get("x-forwarded-client-cert"):
            return self._remembered("certificate", certificate, self._certificate)
        return None

    def _remembered(self, kind: str, proof: str, verify: Callable[[str, Trust], Caller]) -> Caller:
        """Return whom ``proof`` proves. Kinds are kept apart: a certificate is no secret, and must not be good as somebody's token."""
        trust, now = self._trust(), self._now()
        key = (trust.version, kind, hashlib.sha256(proof.encode()).digest())
        kept = self._known.get(key)
        if kept is not None and now < kept[0]:
            return kept[1]
        caller = verify(proof, trust)
        self._known[key] = (min(now + KEPT_SECONDS, caller.expires), caller)
        if len(self._known) > KEPT:
            self._known.popitem(last=False)
        return caller

    def _token(self, token: str, trust: Trust) -> Caller:
        try:
            wanted = jwt.get_unverified_header(token).get("kid")
            keys = {key["kid"]: key for key in json.loads(trust.jwks_json)["keys"]}
            if wanted not in keys:
                raise Unauthenticated("the token was not signed by this control plane", reason="TOKEN_INVALID")
            claims = jwt.decode(
                token,
                jwt.PyJWK(keys[wanted]),
                algorithms=["ES256"],
                audience=AUDIENCE,
                issuer=trust.trust_domain,
                options={
                    "require": ["exp", "iat", "iss", "aud", "sub", "jti"],
                    "verify_exp": False,  # times are checked below, by our clock and not by the machine's
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
            self._check_times(claims)
            roles = frozenset(Role[name] for name in claims["roles"]) & _PEOPLE
            identity = SpiffeId(trust.trust_domain, "user", str(claims["sub"]))
            parse_spiffe_id(str(identity))
        except (jwt.PyJWTError, ValueError, KeyError, TypeError) as error:
            raise Unauthenticated("the token is not valid", reason="TOKEN_INVALID") from error
        return Caller(identity, roles, "token", float(claims["exp"]), forwarded=True, proof=f"token:{claims['jti']}")

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        """Raise Unauthenticated, or ValueError, for a token that is not valid now by our clock."""
        begins, ends, now = float(claims["iat"]), float(claims["exp"]), self._now()
        if not 0 < ends - begins <= LONGEST_TOKEN_SECONDS or max(begins, float(claims.get("nbf", 0))) > now + CLOCK_SKEW_SECONDS:
            raise ValueError("its times are not those of a token of ours")
        if ends <= now - CLOCK_SKEW_SECONDS:
            raise Unauthenticated("the token has expired; make a new one", reason="TOKEN_EXPIRED")

    def _certificate(self, header: str, trust: Trust) -> Caller:
        elements = _xfcc(header)
        try:
            pem = urllib.parse.unquote(elements.get("chain") or elements["cert"])
            leaf, *rest = x509.load_pem_x509_certificates(pem.encode())
            roots = verification.Store(x509.load_pem_x509_certificates(trust.roots_pem))
            moment = datetime.fromtimestamp(self._now(), UTC)
            verification.PolicyBuilder().store(roots).time(moment).build_client_verifier().verify(leaf, rest)
            identity = spiffe_id_of(leaf)
        except (verification.VerificationError, ValueError, KeyError) as error:
            raise Unauthenticated("the forwarded client certificate is not valid", reason="CERTIFICATE_INVALID") from error
        if identity.trust_domain != trust.trust_domain or identity.kind == "gateway":
            raise Unauthenticated("the forwarded client certificate is not one of ours", reason="IDENTITY_UNKNOWN")
        expires, proof = leaf.not_valid_after_utc.timestamp(), f"certificate:{leaf.serial_number:x}"
        return Caller(identity, roles_in(leaf, identity), "certificate", expires, forwarded=True, proof=proof)


def _xfcc(header: str) -> dict[str, str]:
    """Return the parts of the one element that Envoy writes with SANITIZE_SET, names in lower case."""
    parts: dict[str, str] = {}
    rest = header
    while rest:
        name, _, rest = rest.partition("=")
        if rest.startswith('"'):
            value, _, rest = rest[1:].partition('"')
            rest = rest.removeprefix(";")
        else:
            value, _, rest = rest.partition(";")
        if name.lower() in parts or "," in name:
            raise Unauthenticated("several forwarded certificates", reason="CERTIFICATE_INVALID")
        parts[name.lower()] = value
    return parts
