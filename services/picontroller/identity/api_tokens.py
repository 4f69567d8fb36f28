"""API tokens: JSON Web Tokens signed with ES256, which every service can verify with the public key in the trust bundle.

What is kept of a token is its id and what it says, never the token.
"""

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from picontroller.core.callers import Role

AUDIENCE = "pi-controller"


@dataclass(frozen=True, slots=True)
class ApiToken:
    """What is kept of an API token. ``subject`` is the ``<name>`` of ``/user/<name>``."""

    id: str
    subject: str
    roles: tuple[Role, ...]
    created: datetime
    expires: datetime
    revoked: datetime | None = None


class TokenSigner:
    """Signs API tokens with one key. ``key_id`` is its thumbprint (RFC 7638)."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, trust_domain: str) -> None:
        self._key = key
        self._trust_domain = trust_domain
        numbers = key.public_key().public_numbers()
        self._public = {"crv": "P-256", "kty": "EC", "x": _coordinate(numbers.x), "y": _coordinate(numbers.y)}
        canonical = json.dumps(self._public, separators=(",", ":"), sort_keys=True).encode()
        self.key_id = _base64(hashlib.sha256(canonical).digest())

    def jwks(self) -> str:
        """Return the public key as a JSON Web Key Set."""
        return json.dumps({"keys": [{**self._public, "kid": self.key_id, "alg": "ES256", "use": "sig"}]}, sort_keys=True)

    def sign(self, token: ApiToken) -> str:
        """Return the token itself."""
        claims = {
            "iss": self._trust_domain,
            "aud": AUDIENCE,
            "sub": token.subject,
            "jti": token.id,
            "roles": [role.name for role in token.roles],
            "iat": int(token.created.timestamp()),
            "exp": int(token.expires.timestamp()),
        }
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": self.key_id})

    def id_of(self, text: str) -> str:
        """Return the id of a token that ``holds``."""
        return str(jwt.decode(text, options={"verify_signature": False})["jti"])

    def holds(self, text: str, at: datetime) -> bool:
        """Return whether ``text`` is a token of ours that has not ended at ``at``."""
        try:
            claims = jwt.decode(
                text,
                self._key.public_key(),
                algorithms=["ES256"],
                audience=AUDIENCE,
                issuer=self._trust_domain,
                options={"verify_exp": False, "verify_iat": False},  # by the time given, not by this machine's
            )
            return float(claims["exp"]) > at.timestamp()
        except (jwt.PyJWTError, KeyError, TypeError, ValueError):
            return False


def _coordinate(number: int) -> str:
    return _base64(number.to_bytes(32, "big"))


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
