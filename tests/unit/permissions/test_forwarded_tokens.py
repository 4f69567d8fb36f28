"""API tokens as services see them when the gateway carries one: whose word counts, and whose clock."""

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from picontroller.core.callers import Caller, Role
from picontroller.core.errors import Unauthenticated
from picontroller.core.rpc.forwarding import CLOCK_SKEW_SECONDS, LONGEST_TOKEN_SECONDS, ForwardedProofs
from picontroller.core.tls.identity import Trust
from tests.fakes.tokens import FakeTokens

SIGNER = FakeTokens()
TRUST = Trust(1, SIGNER.issuer, b"", SIGNER.jwks())
NOW = 1_700_000_000  # any moment: the machine has no say


def caller_of(text: str, now: float = NOW) -> Caller:
    found = ForwardedProofs(lambda: TRUST, lambda: now).caller({"authorization": f"Bearer {text}"})
    assert found is not None
    return found


def refused(text: str, now: float = NOW) -> str:
    with pytest.raises(Unauthenticated) as caught:
        caller_of(text, now)
    assert text not in caught.value.message
    return caught.value.reason


def claims(**changed: Any) -> dict[str, Any]:
    usual = {
        "iss": SIGNER.issuer,
        "aud": "pi-controller",
        "sub": "anna",
        "jti": "j-1",
        "iat": NOW,
        "exp": NOW + 600,
        "roles": ["MONITOR"],
    }
    return {name: value for name, value in (usual | changed).items() if value is not None}


def signed(**changed: Any) -> str:
    return jwt.encode(claims(**changed), SIGNER.key, algorithm="ES256", headers={"kid": SIGNER.kid})


def test_token_when_good_says_who_and_until_when() -> None:
    found = caller_of(signed())
    assert (found.principal, found.roles) == ("spiffe://pi-controller.local/user/anna", frozenset({Role.MONITOR}))
    assert (found.expires, found.proof, found.method, found.forwarded) == (NOW + 600, "token:j-1", "token", True)


@pytest.mark.parametrize("years", [-30, 30])
def test_token_when_the_clock_given_differs_from_the_machines_ends_by_the_clock_given(years: int) -> None:
    now = NOW + years * 365 * 86400
    text = signed(iat=now, exp=now + 600)
    assert caller_of(text, now + 599 + CLOCK_SKEW_SECONDS).expires == now + 600
    assert refused(text, now + 600 + CLOCK_SKEW_SECONDS) == "TOKEN_EXPIRED"
    assert caller_of(text, now - CLOCK_SKEW_SECONDS).expires == now + 600
    assert refused(text, now - CLOCK_SKEW_SECONDS - 1) == "TOKEN_INVALID"


def test_token_when_remembered_ends_all_the_same() -> None:
    now = float(NOW)
    proofs = ForwardedProofs(lambda: TRUST, lambda: now)
    metadata = {"authorization": f"Bearer {signed(exp=NOW + 5)}"}
    assert proofs.caller(metadata) is not None
    now = NOW + 5 + CLOCK_SKEW_SECONDS
    with pytest.raises(Unauthenticated) as caught:
        proofs.caller(metadata)
    assert caught.value.reason == "TOKEN_EXPIRED"


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "elsewhere"},
        {"iss": None},
        {"aud": "another"},
        {"aud": None},
        {"exp": None},
        {"jti": None},
        {"sub": None},
        {"iat": None},
        {"roles": None},
        {"roles": "MONITOR"},
        {"roles": ["ROOT"]},
        {"roles": 3},
        {"sub": "anna/../admin"},
        {"sub": ""},
        {"exp": NOW + LONGEST_TOKEN_SECONDS + 1},
        {"exp": NOW},
        {"exp": "tomorrow"},
        {"iat": NOW + CLOCK_SKEW_SECONDS + 1, "exp": NOW + 600},
        {"nbf": NOW + CLOCK_SKEW_SECONDS + 1},
    ],
    ids=lambda changed: ",".join(f"{name}={value}" for name, value in changed.items()),
)
def test_token_when_a_claim_is_not_ours_is_refused(changed: dict[str, Any]) -> None:
    assert refused(signed(**changed)) == "TOKEN_INVALID"


def test_token_when_it_claims_a_role_of_our_processes_has_none_of_it() -> None:
    assert caller_of(signed(roles=["SERVICE", "AGENT", "GATEWAY", "MONITOR"])).roles == {Role.MONITOR}


def test_token_when_of_the_longest_life_that_is_issued_is_good() -> None:
    assert caller_of(signed(exp=NOW + LONGEST_TOKEN_SECONDS)).expires == NOW + LONGEST_TOKEN_SECONDS


def test_token_when_signed_by_no_key_of_ours_is_refused() -> None:
    public = SIGNER.key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    other = FakeTokens(kid=SIGNER.kid)
    head = {"kid": SIGNER.kid}
    unsigned = jwt.encode(claims(), None, algorithm="none", headers=head)
    assert refused(unsigned) == "TOKEN_INVALID"
    assert refused(with_public_key_as_secret(public)) == "TOKEN_INVALID"
    assert refused(jwt.encode(claims(), other.key, algorithm="ES256", headers=head)) == "TOKEN_INVALID"
    assert refused(jwt.encode(claims(), SIGNER.key, algorithm="ES256", headers={"kid": "unknown"})) == "TOKEN_INVALID"
    assert refused(jwt.encode(claims(), SIGNER.key, algorithm="ES256")) == "TOKEN_INVALID"
    good = signed()
    head_part, body, signature = good.split(".")
    assert refused(f"{head_part}.{body}.") == "TOKEN_INVALID"
    assert refused(f"{head_part}.{body}.{signature[:-4]}AAAA") == "TOKEN_INVALID"
    assert refused(f"{head_part}.{body}") == "TOKEN_INVALID"
    assert refused("é" + good) == "TOKEN_INVALID"


def with_public_key_as_secret(public: bytes) -> str:
    """Return a token with HS256 whose secret is our public key: PyJWT refuses to make one, an attacker does not."""
    import base64
    import hashlib
    import hmac

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).decode().rstrip("=")

    head = part(json.dumps({"alg": "HS256", "typ": "JWT", "kid": SIGNER.kid}).encode())
    body = part(json.dumps(claims()).encode())
    return f"{head}.{body}.{part(hmac.new(public, f'{head}.{body}'.encode(), hashlib.sha256).digest())}"


@pytest.mark.parametrize("header", ["Basic abc", "Bearer", "Bearer ", "token"])
def test_authorization_when_it_is_no_bearer_token_is_refused(header: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        ForwardedProofs(lambda: TRUST).caller({"authorization": header})
    assert caught.value.reason == "TOKEN_INVALID"


def test_proof_when_the_gateway_carries_none_is_nobodys() -> None:
    assert ForwardedProofs(lambda: TRUST).caller({}) is None
    assert ForwardedProofs(lambda: TRUST).caller({"authorization": "", "x-forwarded-client-cert": ""}) is None
