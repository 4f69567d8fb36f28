"""API tokens of a throw-away signer."""

import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec


class FakeTokens:
    """An ES256 key with its JSON Web Key Set, and tokens signed with it."""

    def __init__(self, kid: str = "test-1", issuer: str = "pi-controller.local") -> None:
        self.kid = kid
        self.issuer = issuer
        self.key = ec.generate_private_key(ec.SECP256R1())

    def jwk(self) -> dict[str, Any]:
        """Return the public key as a JSON Web Key."""
        public: dict[str, Any] = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))
        return {**public, "kid": self.kid, "alg": "ES256", "use": "sig"}

    def jwks(self) -> str:
        """Return the key set."""
        return json.dumps({"keys": [self.jwk()]})

    def token(self, subject: str = "anna", *roles: str, seconds: float = 600, headers: dict[str, Any] | None = None, **changed: Any) -> str:
        """Return a token; claims in ``changed`` replace the usual ones, None removes one."""
        now = time.time()
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": "pi-controller",
            "sub": subject,
            "jti": f"jti-{subject}-{now}",
            "iat": int(now),
            "exp": int(now + seconds),
            "roles": list(roles or ("CLUSTER_ADMIN",)),
            **changed,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, self.key, algorithm="ES256", headers={"kid": self.kid, **(headers or {})})
