"""The order of a join, and what is left behind when it breaks off; over a fake gateway, on files only."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from picontroller.agent import joining
from picontroller.agent.admission import membership
from picontroller.agent.admission.membership import Membership
from picontroller.core.callers import SpiffeId
from picontroller.core.clock import SystemClock
from picontroller.core.errors import Error, FailedPrecondition, InvalidArgument, Unauthenticated, Unavailable
from picontroller.core.rpc.renewal import Issued
from picontroller.core.tls.joining import JoinTokenParts, new_secret, root_hash
from tests.fakes.authority import FakeAuthority
from tests.fakes.clock import FakeClock

ADDRESS = "10.0.0.1:8443"
NODE = "6f1d2c3b-0a4e-4f6d-9a51-2b7c8d9e0f11"


class FakeGateway:
    """Shows a root and issues certificates; raises what ``troubles`` hold, one a call."""

    def __init__(self) -> None:
        self.authority = FakeAuthority()
        self.shown = self.authority.roots_pem
        self.identity = f"node/{NODE}"
        self.token = JoinTokenParts(root_hash(self.authority.root), "id1", new_secret()).text()
        self.life = timedelta(days=30)
        self.troubles: list[Error] = []
        self.fetch_troubles: list[Error] = []
        self.tokens_seen: list[str] = []
        self.keys: list[ec.EllipticCurvePublicKey] = []
        self.before_issue: Callable[[], None] = lambda: None

    def fetch(self, address: str) -> bytes:
        assert address == ADDRESS
        if self.fetch_troubles:
            raise self.fetch_troubles.pop(0)
        return self.shown

    async def issue(self, root_pem: bytes, address: str, token: str, csr_pem: bytes) -> Issued:
        assert (root_pem, address) == (self.authority.roots_pem, ADDRESS)
        self.before_issue()
        self.tokens_seen.append(token)
        key = x509.load_pem_x509_csr(csr_pem).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        self.keys.append(key)
        if self.troubles:
            raise self.troubles.pop(0)
        kind, _, name = self.identity.partition("/")
        begin = SystemClock().now() - timedelta(minutes=5)
        uri = str(SpiffeId(self.authority.trust_domain, kind, name))
        return Issued(self.authority.certificate(key, uri, not_before=begin, not_after=begin + self.life), self.authority.trust)

    async def join(self, folder: Path, **changes: float) -> Membership:
        return await joining.join(ADDRESS, self.token, folder, SystemClock(), issue=self.issue, fetch=self.fetch, **changes)  # type: ignore[arg-type]  # only patience_seconds


async def test_join_when_all_is_well_stores_identity_and_membership(tmp_path: Path) -> None:
    gateway = FakeGateway()
    assert await gateway.join(tmp_path) == Membership(ADDRESS, NODE)
    identity = membership.identity_of(tmp_path)
    identity.load()
    assert identity.credentials.spiffe_id.name == NODE
    assert membership.load(tmp_path) == Membership(ADDRESS, NODE)
    assert (tmp_path / "tls/identity.pem").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "join.key").exists()


async def test_join_when_the_root_is_another_sends_nothing(tmp_path: Path) -> None:
    gateway = FakeGateway()
    gateway.shown = FakeAuthority().roots_pem
    with pytest.raises(FailedPrecondition, match="somebody is in between") as caught:
        await gateway.join(tmp_path)
    assert caught.value.reason == "ROOT_MISMATCH"
    assert gateway.tokens_seen == []
    assert not (tmp_path / "join.key").exists()


@pytest.mark.parametrize("shown", [b"", b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
async def test_join_when_the_root_is_rubbish_is_a_mismatch(shown: bytes, tmp_path: Path) -> None:
    gateway = FakeGateway()
    gateway.shown = shown
    with pytest.raises(FailedPrecondition) as caught:
        await gateway.join(tmp_path)
    assert caught.value.reason == "ROOT_MISMATCH"


async def test_join_when_who_showed_the_root_cannot_prove_it_is_a_mismatch(tmp_path: Path) -> None:
    gateway = FakeGateway()
    gateway.troubles = [Unavailable("Ssl handshake failed: CERTIFICATE_VERIFY_FAILED")]
    with pytest.raises(FailedPrecondition) as caught:
        await gateway.join(tmp_path)
    assert caught.value.reason == "ROOT_MISMATCH"


@pytest.mark.parametrize("text", ["", "PC1", "PC1.AAAA.id.secret", "not a token", "PC2.x.y.z"])
async def test_join_when_the_token_is_malformed_asks_nobody(text: str, tmp_path: Path) -> None:
    gateway = FakeGateway()
    gateway.token = text
    gateway.fetch_troubles = [Unavailable("must not be asked")]
    with pytest.raises(InvalidArgument):
        await gateway.join(tmp_path)
    assert gateway.fetch_troubles


async def test_join_when_the_token_is_refused_says_what_to_do(tmp_path: Path) -> None:
    gateway = FakeGateway()
    gateway.troubles = [Unauthenticated("the token was used", reason="TOKEN_USED")]
    with pytest.raises(Unauthenticated, match="pictl token create") as caught:
        await gateway.join(tmp_path)
    assert caught.value.reason == "TOKEN_USED"
    assert gateway.token not in caught.value.message


async def test_join_when_the_key_is_not_on_disk_yet_tells_no_secret(tmp_path: Path) -> None:
    gateway = FakeGateway()
    modes: list[int] = []
    gateway.before_issue = lambda: modes.append((tmp_path / "join.key").stat().st_mode & 0o777)
    await gateway.join(tmp_path)
    assert modes == [0o600]


async def test_join_when_the_answer_is_lost_repeats_with_the_same_key(tmp_path: Path) -> None:
    gateway = FakeGateway()
    gateway.troubles = [Unavailable("lost"), Unavailable("lost")]
    await gateway.join(tmp_path)
    assert len(gateway.keys) == 3
    assert gateway.keys[0] == gateway.keys[1] == gateway.keys[2]


async def test_join_when_it_is_started_again_uses_the_same_key(tmp_path: Path) -> None:
    gateway = FakeGateway()
    gateway.troubles = [Unavailable("lost")]
    with pytest.raises(Unavailable):
        await gateway.join(tmp_path, patience_seconds=0)
    await gateway.join(tmp_path)
    assert gateway.keys[0] == gateway.keys[1]


async def test_join_when_nobody_answers_gives_up_after_its_patience(tmp_path: Path) -> None:
    gateway = FakeGateway()
    gateway.fetch_troubles = [Unavailable("no answer", reason="GATEWAY_UNREACHABLE")] * 1000
    clock = FakeClock()
    attempt = asyncio.create_task(
        joining.join(ADDRESS, gateway.token, tmp_path, clock, issue=gateway.issue, fetch=gateway.fetch, patience_seconds=30)
    )
    for _ in range(200):
        if attempt.done():
            break
        await asyncio.wait({attempt, asyncio.create_task(clock.until_sleeping())}, return_when=asyncio.FIRST_COMPLETED)
        await clock.advance(1)
    with pytest.raises(Unavailable) as caught:
        await attempt
    assert caught.value.reason == "GATEWAY_UNREACHABLE"
    assert 5 < 1000 - len(gateway.fetch_troubles) < 60


async def test_join_when_joined_already_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    gateway = FakeGateway()
    await gateway.join(tmp_path)
    with pytest.raises(FailedPrecondition, match="pictl leave") as caught:
        await gateway.join(tmp_path)
    assert caught.value.reason == "ALREADY_JOINED"
    assert len(gateway.tokens_seen) == 1


async def test_join_when_the_identity_has_expired_may_be_repeated(tmp_path: Path) -> None:
    gateway = FakeGateway()
    gateway.life = timedelta(minutes=4)
    await gateway.join(tmp_path)
    gateway.life = timedelta(days=30)
    await gateway.join(tmp_path)
    identity = membership.identity_of(tmp_path)
    identity.load()
    assert not identity.expired()


async def test_join_when_several_roots_are_shown_believes_the_one_that_the_token_names(tmp_path: Path) -> None:
    gateway = FakeGateway()
    gateway.shown = FakeAuthority().roots_pem + gateway.authority.roots_pem + FakeAuthority().roots_pem
    assert await gateway.join(tmp_path) == Membership(ADDRESS, NODE)  # the fake asserts that it is asked under this root alone


async def test_join_when_the_root_was_replaced_meanwhile_may_be_repeated_there_and_nowhere_else(tmp_path: Path) -> None:
    gateway, later = FakeGateway(), FakeGateway()
    await gateway.join(tmp_path)
    membership.save(tmp_path, Membership("elsewhere:8443", NODE))
    with pytest.raises(FailedPrecondition) as caught:
        await later.join(tmp_path)
    assert caught.value.reason == "ALREADY_JOINED"
    assert later.tokens_seen == []
    membership.save(tmp_path, Membership(ADDRESS, NODE))
    assert await later.join(tmp_path) == Membership(ADDRESS, NODE)
    identity = membership.identity_of(tmp_path)
    identity.load()
    assert identity.trust.roots_pem == later.authority.roots_pem


async def test_join_when_the_token_is_for_a_service_is_refused(tmp_path: Path) -> None:
    gateway = FakeGateway()
    gateway.identity = "svc/gpio"
    with pytest.raises(FailedPrecondition) as caught:
        await gateway.join(tmp_path)
    assert caught.value.reason == "TOKEN_FOR_ANOTHER"
    assert not membership.identity_of(tmp_path).exists()


async def test_join_when_the_certificate_is_of_another_root_is_refused(tmp_path: Path) -> None:
    gateway, other = FakeGateway(), FakeAuthority()

    async def issue(root_pem: bytes, address: str, token: str, csr_pem: bytes) -> Issued:
        issued = await gateway.issue(root_pem, address, token, csr_pem)
        return Issued(issued.chain_pem, other.trust)

    with pytest.raises(FailedPrecondition) as caught:
        await joining.join(ADDRESS, gateway.token, tmp_path, SystemClock(), issue=issue, fetch=gateway.fetch)
    assert caught.value.reason == "IDENTITY_DAMAGED"
    assert not membership.identity_of(tmp_path).exists()


async def test_abuse_107_join_when_the_clock_is_before_the_root_waits_and_sends_nothing(tmp_path: Path) -> None:
    gateway = FakeGateway()
    clock = FakeClock(gateway.authority.root.not_valid_before_utc - timedelta(days=100))
    attempt = asyncio.create_task(joining.join(ADDRESS, gateway.token, tmp_path, clock, issue=gateway.issue, fetch=gateway.fetch))
    await clock.until_sleeping()
    await clock.advance(60)
    assert gateway.tokens_seen == []
    clock.jump(timedelta(days=101).total_seconds())
    await clock.advance(2)
    assert await asyncio.wait_for(attempt, 5) == Membership(ADDRESS, NODE)


def test_membership_when_missing_or_damaged_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="pictl join") as caught:
        membership.load(tmp_path)
    assert caught.value.reason == "NOT_JOINED"
    for text in ("", "[]", "{", '{"gateway": "x"}'):
        (tmp_path / "join.json").write_text(text)
        with pytest.raises(FailedPrecondition) as caught:
            membership.load(tmp_path)
        assert caught.value.reason == "JOIN_DAMAGED"


def test_folder_when_released_may_be_held_again(tmp_path: Path) -> None:
    with membership.held(tmp_path / "a" / "b"):
        pass
    with membership.held(tmp_path / "a" / "b"):
        pass
