"""What the registry may expect of its store: the fake and the real one, side by side."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from picontroller.core.callers import Role, SpiffeId
from picontroller.core.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, QuotaExceeded
from picontroller.core.events import Event, event_from_json
from picontroller.core.store.sqlite import Database
from picontroller.identity.api_tokens import ApiToken
from picontroller.identity.authority import Issued
from picontroller.identity.join_tokens import JoinToken, Redemption, Refusal
from picontroller.identity.registry import Certification, Issue
from picontroller.identity.store import SCRIPTS, IdentityStore
from tests.fakes.identity_store import FakeIdentityStore

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DOMAIN = "pi-controller.local"
GPIO, EVENTS = SpiffeId(DOMAIN, "svc", "gpio"), SpiffeId(DOMAIN, "svc", "events")
SERVER, EDGE = SpiffeId(DOMAIN, "svc", "gateway"), SpiffeId(DOMAIN, "gateway", "")
NODE = "5f0c1e6a-2b7e-4a57-9b6f-0d9f6a7d1c11"


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


class Trial:
    """A store under test with what tests do to it."""

    def __init__(self, store: FakeIdentityStore | IdentityStore, database: Database | None) -> None:
        self.store = store
        self._database = database
        self.calls: list[tuple[SpiffeId, tuple[str, ...]]] = []
        self.root = ""
        self.life = timedelta(days=30)

    async def events(self) -> list[str]:
        """Return the types of all events, oldest first."""
        if isinstance(self.store, FakeIdentityStore):
            return [event.type for event in self.store.events]
        assert self._database is not None
        rows = await self._database.read(lambda c: c.execute("SELECT event FROM outbox ORDER BY sequence").fetchall())
        return [event_from_json(str(text)).type for (text,) in rows]

    def issue(self, key: str, start: datetime = NOW) -> Issue:
        """Return what makes a certificate for a key; nothing is signed."""

        def make(identity: SpiffeId, names: tuple[str, ...]) -> Issued:
            self.calls.append((identity, names))
            chain, end = f"chain of {key}", start + self.life
            return Issued(digest(key).hex()[:16], identity, digest(key), start, end, chain, root=self.root)

        return make

    async def token(self, token_id: str, identity: str = "") -> JoinToken:
        made = JoinToken(token_id, f"for {token_id}", identity, NOW, NOW + timedelta(minutes=10))
        await self.store.add_join_token(made, digest(f"secret of {token_id}"), Event("token.created", NOW, resource=token_id))
        return made

    async def redeem(self, token_id: str, key: str, *, after: float = 0, secret: str = "", node_id: str = NODE) -> Issued | Refusal:
        moment = NOW + timedelta(seconds=after)
        attempt = Redemption(token_id, digest(secret or f"secret of {token_id}"), digest(key), node_id, moment)
        return await self.store.redeem(attempt, DOMAIN, self.issue(key))

    async def certify(
        self,
        identity: SpiffeId,
        key: str,
        *names: str,
        replace: bool = False,
        after: float = 0,
        event: str = "certificate.renewed",
        window: float = 0,
    ) -> Issued:
        limit = timedelta(seconds=window)
        wish = Certification(identity, digest(key), names, replace, event, NOW + timedelta(seconds=after), root=self.root, window=limit)
        return await self.store.certify(wish, self.issue(key, NOW if not window else wish.now))


@pytest.fixture(params=["fake", "real"])
async def trial(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Trial]:
    if request.param == "fake":
        yield Trial(FakeIdentityStore(), None)
        return
    async with await Database.open(tmp_path / "identity.db", SCRIPTS) as database:
        yield Trial(IdentityStore(database), database)


async def test_token_when_redeemed_is_used_up_and_told_of(trial: Trial) -> None:
    await trial.token("a")
    issued = await trial.redeem("a", "key")
    assert isinstance(issued, Issued)
    assert issued.identity == SpiffeId(DOMAIN, "node", NODE)
    assert await trial.redeem("a", "other key") is Refusal.USED
    assert await trial.events() == ["token.created", "token.used", "certificate.issued", "token.reused"]
    (token,), _ = await trial.store.join_tokens(0, "")
    assert (token.used, token.used_by) == (NOW, str(issued.identity))


async def test_token_when_bound_gives_its_identity(trial: Trial) -> None:
    await trial.token("a", "/svc/gpio")
    issued = await trial.redeem("a", "key")
    assert isinstance(issued, Issued)
    assert issued.identity == GPIO


@pytest.mark.parametrize(("after", "same"), [(0, True), (60, True), (60.001, False), (3600, False)])
async def test_token_when_redeemed_again_with_the_same_key_answers_the_same_for_a_minute(trial: Trial, after: float, same: bool) -> None:
    await trial.token("a")
    first = await trial.redeem("a", "key")
    again = await trial.redeem("a", "key", after=after, node_id="another")
    assert again == (first if same else Refusal.USED)
    assert len(trial.calls) == 1


@pytest.mark.parametrize(("after", "fine"), [(599.999, True), (600, False), (601, False)])
async def test_token_when_expired_is_invalid(trial: Trial, after: float, fine: bool) -> None:
    await trial.token("a")
    outcome = await trial.redeem("a", "key", after=after)
    assert isinstance(outcome, Issued) if fine else outcome is Refusal.INVALID


async def test_token_when_unknown_or_secret_is_wrong_is_invalid_and_leaves_no_trace(trial: Trial) -> None:
    await trial.token("a")
    assert await trial.redeem("b", "key") is Refusal.INVALID
    assert await trial.redeem("a", "key", secret="guess") is Refusal.INVALID
    assert (trial.calls, await trial.events()) == ([], ["token.created"])


async def test_token_when_used_and_secret_is_wrong_is_invalid_and_not_called_used(trial: Trial) -> None:
    await trial.token("a")
    await trial.redeem("a", "key")
    assert await trial.redeem("a", "key", secret="guess") is Refusal.INVALID


async def test_token_when_the_key_is_known_stays_unused(trial: Trial) -> None:
    await trial.certify(GPIO, "key")
    await trial.token("a")
    with pytest.raises(InvalidArgument):
        await trial.redeem("a", "key")
    assert isinstance(await trial.redeem("a", "fresh key"), Issued)


async def test_token_when_used_and_the_key_is_another_members_is_used(trial: Trial) -> None:
    await trial.certify(GPIO, "gpio's key")
    await trial.token("a")
    await trial.redeem("a", "key")
    assert await trial.redeem("a", "gpio's key") is Refusal.USED


async def test_token_when_redeemed_by_many_at_once_serves_one(trial: Trial) -> None:
    await trial.token("a")
    outcomes = await asyncio.gather(*(trial.redeem("a", f"key {number}") for number in range(30)))
    assert sum(isinstance(outcome, Issued) for outcome in outcomes) == 1
    assert outcomes.count(Refusal.USED) == 29


async def test_token_when_revoked_is_invalid(trial: Trial) -> None:
    await trial.token("a")
    for _ in range(2):
        await trial.store.revoke_join_token("a", NOW)
    assert await trial.redeem("a", "key") is Refusal.INVALID
    assert await trial.events() == ["token.created", "token.revoked"]


async def test_token_when_unknown_or_used_can_not_be_revoked(trial: Trial) -> None:
    with pytest.raises(NotFound):
        await trial.store.revoke_join_token("a", NOW)
    await trial.token("a")
    await trial.redeem("a", "key")
    with pytest.raises(FailedPrecondition):
        await trial.store.revoke_join_token("a", NOW)


async def test_tokens_when_listed_are_newest_first(trial: Trial) -> None:
    made = [await trial.token(name) for name in "abc"]
    found, more = await trial.store.join_tokens(10, "")
    assert (found, more) == (made[::-1], "")


async def test_certificate_when_issued_is_listed_and_told_of(trial: Trial) -> None:
    first, second = await trial.certify(GPIO, "one", event="certificate.issued"), await trial.certify(EVENTS, "two")
    assert await trial.store.certificates(10, "") == ([second, first], "")
    assert await trial.events() == ["certificate.issued", "certificate.renewed"]


@pytest.mark.parametrize(("after", "same"), [(60, True), (60.001, False)])
async def test_certificate_when_asked_again_with_the_same_key_is_the_same_for_a_minute(trial: Trial, after: float, same: bool) -> None:
    first = await trial.certify(GPIO, "key")
    if same:
        assert await trial.certify(GPIO, "key", after=after) == first
    else:
        with pytest.raises(InvalidArgument):
            await trial.certify(GPIO, "key", after=after)
    with pytest.raises(InvalidArgument):
        await trial.certify(EVENTS, "key")


async def test_certificates_when_asked_for_in_haste_are_refused_until_the_window_has_passed(trial: Trial) -> None:
    made = [await trial.certify(GPIO, f"key {number}", after=number, window=100) for number in range(5)]
    with pytest.raises(QuotaExceeded) as caught:
        await trial.certify(GPIO, "another", after=10, window=100)
    assert (caught.value.reason, caught.value.retry_after) == ("RATE_LIMITED", 90)
    assert await trial.certify(GPIO, "key 4", after=10, window=100) == made[4], "a repetition is free"
    assert await trial.certify(EVENTS, "theirs", after=10, window=100), "others are not held up"
    assert await trial.certify(GPIO, "own", after=11), "what this machine makes for itself has no limit"
    with pytest.raises(QuotaExceeded):
        await trial.certify(GPIO, "another", after=100.9, window=100)
    assert await trial.certify(GPIO, "another", after=101, window=100)


async def test_certificates_when_the_root_changes_are_not_counted_any_more(trial: Trial) -> None:
    for number in range(5):
        await trial.certify(GPIO, f"key {number}", window=100)
    trial.root = "another"
    for number in range(5):
        await trial.certify(GPIO, f"fresh key {number}", window=100)
    with pytest.raises(QuotaExceeded):
        await trial.certify(GPIO, "another", window=100)


async def test_names_when_added_are_kept_and_when_replaced_are_gone(trial: Trial) -> None:
    await trial.certify(SERVER, "1", "b.example.org")
    await trial.certify(SERVER, "2", "a.example.org", "192.0.2.1")
    await trial.certify(SERVER, "3")
    await trial.certify(SERVER, "4", "c.example.org", replace=True)
    await trial.certify(SERVER, "5")
    seen = [names for _, names in trial.calls]
    assert seen == [
        ("b.example.org",),
        ("192.0.2.1", "a.example.org", "b.example.org"),
        ("192.0.2.1", "a.example.org", "b.example.org"),
        ("c.example.org",),
        ("c.example.org",),
    ]


async def test_names_when_kept_are_given_to_who_joins_under_that_identity(trial: Trial) -> None:
    await trial.certify(SERVER, "1", "b.example.org")
    await trial.token("a", "/svc/gateway")
    await trial.redeem("a", "key")
    assert trial.calls[-1] == (SERVER, ("b.example.org",))


async def test_names_when_another_member_has_them_are_refused_and_nothing_is_issued(trial: Trial) -> None:
    await trial.certify(SERVER, "1", "pi.example.org", "192.0.2.1")
    await trial.certify(EDGE, "2", "pi.example.org")
    await trial.certify(GPIO, "3", "192.0.2.1")
    with pytest.raises(PermissionDenied):
        await trial.certify(GPIO, "4", "pi.example.org")
    await trial.certify(GPIO, "4")
    assert trial.calls[-1] == (GPIO, ("192.0.2.1",))
    await trial.certify(SERVER, "5", replace=True)
    await trial.certify(EDGE, "6", replace=True)
    await trial.certify(GPIO, "7", "pi.example.org")


async def test_api_tokens_when_added_are_listed_newest_first(trial: Trial) -> None:
    made = [
        ApiToken(name, "ci", (Role.MONITOR, Role.GPIO_OPERATOR), NOW, NOW + timedelta(microseconds=1_000_001)) for name in ("one", "two")
    ]
    for token in made:
        await trial.store.add_api_token(token, Event("api_token.created", NOW, resource=token.id))
    assert await trial.store.api_tokens(10, "") == (made[::-1], "")
    assert await trial.events() == ["api_token.created"] * 2


async def test_store_when_things_ended_long_ago_forgets_them(tmp_path: Path) -> None:
    async with await Database.open(tmp_path / "identity.db", SCRIPTS) as database:
        trial = Trial(IdentityStore(database), database)
        await trial.certify(GPIO, "old")
        await trial.certify(GPIO, "newer", after=59 * 86400)
        assert [issued.key_hash for issued in (await trial.store.certificates(10, ""))[0]] == [digest("newer"), digest("old")]
        await trial.certify(GPIO, "newest", after=61 * 86400)
        assert digest("old") not in [issued.key_hash for issued in (await trial.store.certificates(10, ""))[0]]


async def test_store_when_many_have_ended_forgets_all_but_the_newest_after_a_day_and_none_that_holds(tmp_path: Path) -> None:
    async with await Database.open(tmp_path / "identity.db", SCRIPTS) as database:
        trial = Trial(IdentityStore(database), database)

        async def keys() -> set[bytes]:
            return {issued.key_hash for issued in (await trial.store.certificates(1000, ""))[0]}

        await trial.certify(GPIO, "holds", after=1, window=0.001)  # 30 days, and the oldest
        await trial.certify(EVENTS, "theirs", after=1, window=0.001)
        trial.life = timedelta(seconds=10)
        ended = [f"key {number}" for number in range(40)]
        for number, key in enumerate(ended):
            await trial.certify(GPIO, key, after=2 + number, window=0.001)
        assert len(await keys()) == 42, "what ended today stays"
        await trial.certify(GPIO, "next", after=2 * 86400, window=0.001)
        newest = {digest(key) for key in ended[-20:]}
        assert await keys() == {digest("holds"), digest("theirs"), digest("next")} | newest
