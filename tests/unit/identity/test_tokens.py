"""Join tokens as text, and API tokens."""

import base64
import hashlib
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from picontroller.core.callers import Role
from picontroller.core.errors import InvalidArgument, Unauthenticated
from picontroller.core.rpc.forwarding import ForwardedProofs
from picontroller.core.tls import joining
from picontroller.core.tls.identity import Trust, new_key
from picontroller.core.tls.joining import JoinTokenParts
from picontroller.identity import authority
from picontroller.identity.api_tokens import ApiToken, TokenSigner

NOW = datetime.now(UTC).replace(microsecond=0)
ROOT = authority.make_root("pi-controller.local", NOW)
SECRETS = st.binary(min_size=32, max_size=32).map(lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("="))


@given(st.binary(min_size=32, max_size=32), st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True), SECRETS)
def test_join_token_when_parsed_has_the_parts_it_was_made_of(root: bytes, token_id: str, secret: str) -> None:
    parts = JoinTokenParts(root, token_id, secret)
    assert joining.parse_token(f" {parts.text()}\n") == parts
    assert secret not in repr(parts)


@given(st.text(max_size=200))
def test_join_token_when_it_is_none_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        joining.parse_token(text)
    assert caught.value.reason == "TOKEN_MALFORMED"
    assert len(text.strip()) < 16 or text.strip() not in caught.value.message  # shorter ones may stand in the message by chance


@given(st.integers(0, 3), SECRETS)
def test_join_token_when_a_part_is_damaged_is_refused_without_its_secret(part: int, secret: str) -> None:
    pieces = JoinTokenParts(bytes(32), "abcd2345", secret).text().split(".")
    pieces[part] = pieces[part][:-1] + "!"
    with pytest.raises(InvalidArgument) as caught:
        joining.parse_token(".".join(pieces))
    assert secret not in str(caught.value)


def test_join_token_when_made_has_the_form_that_is_documented() -> None:
    text = JoinTokenParts(joining.root_hash(ROOT.certificate), "abcd2345", joining.new_secret()).text()
    prefix, root, token_id, secret = text.split(".")
    assert (prefix, token_id, len(root), len(secret)) == ("PC1", "abcd2345", 52, 43)
    assert root == joining.root_fingerprint(ROOT.certificate)
    assert len(text) <= 512


def test_root_when_compared_is_known_by_its_key_alone() -> None:
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    wanted = hashlib.sha256(ROOT.key.public_key().public_bytes(encoding, form)).digest()
    other = authority.make_root("pi-controller.local", NOW).chain_pem()
    own = ROOT.chain_pem()
    assert joining.pinned(own, wanted) == own
    assert joining.pinned(own + other, wanted) == joining.pinned(other + own, wanted) == own
    for bundle in (other, b"", b"rubbish", own + own, own + other * joining.MOST_ROOTS):
        assert joining.pinned(bundle, wanted) is None
    assert joining.pinned(own, b"") is None


def api_token(*, life: timedelta = timedelta(hours=1)) -> ApiToken:
    return ApiToken("id-1", "ci", (Role.MONITOR,), NOW, NOW + life)


def believed(text: str, *signers: TokenSigner) -> str:
    trust = Trust(1, "pi-controller.local", ROOT.chain_pem(), signers[0].jwks())
    caller = ForwardedProofs(lambda: trust).caller({"authorization": f"Bearer {text}"})
    assert caller is not None
    return caller.principal


def test_api_token_when_signed_is_believed_under_its_key_set_only() -> None:
    mine, other = (TokenSigner(new_key(), "pi-controller.local") for _ in range(2))
    assert believed(mine.sign(api_token()), mine) == "spiffe://pi-controller.local/user/ci"
    with pytest.raises(Unauthenticated):
        believed(other.sign(api_token()), mine)
    with pytest.raises(Unauthenticated):
        believed(TokenSigner(new_key(), "elsewhere").sign(api_token()), mine)


def test_api_token_when_its_key_id_is_borrowed_is_not_believed() -> None:
    mine, other = (TokenSigner(new_key(), "pi-controller.local") for _ in range(2))
    claims = jwt.decode(mine.sign(api_token()), options={"verify_signature": False})
    forged = jwt.encode(claims, other._key, algorithm="ES256", headers={"kid": mine.key_id})
    with pytest.raises(Unauthenticated):
        believed(forged, mine)


def test_api_token_when_asked_whether_it_holds_goes_by_the_time_given() -> None:
    signer = TokenSigner(new_key(), "pi-controller.local")
    text = signer.sign(api_token())
    assert signer.holds(text, NOW)
    assert signer.holds(text, NOW + timedelta(minutes=59))
    assert not signer.holds(text, NOW + timedelta(hours=1))
    assert not signer.holds(TokenSigner(new_key(), "pi-controller.local").sign(api_token()), NOW)
    assert not signer.holds("rubbish", NOW)
