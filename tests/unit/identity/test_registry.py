"""The registry's rules, over a store in memory and a clock that tests bend."""

from datetime import timedelta
from pathlib import Path

import pytest

from picontroller.core.callers import ANONYMOUS, Caller, Role, SpiffeId
from picontroller.core.errors import InvalidArgument, PermissionDenied, Unauthenticated
from picontroller.core.tls import joining
from picontroller.core.tls.identity import Trust, new_key, signing_request
from picontroller.identity import authority
from picontroller.identity.keyring import Keyring
from picontroller.identity.registry import Registry
from picontroller.identity.settings import Settings
from tests.fakes.clock import FakeClock
from tests.fakes.identity_store import FakeIdentityStore

DOMAIN = "pi-controller.local"


class Setting:
    """A registry with everything around it in the test's hands."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.clock = FakeClock()
        self.store = FakeIdentityStore()
        root = authority.make_root(DOMAIN, self.clock.now())
        self.keyring = Keyring(Path("/nowhere"), DOMAIN, root, authority.make_issuing(root, DOMAIN, self.clock.now()), new_key())
        trust = Trust(1, DOMAIN, root.chain_pem(), "{}")
        self.registry = Registry(self.keyring, self.store, trust, settings or Settings(), self.clock)


def csr() -> str:
    return signing_request(new_key()).decode()


def caller(kind: str, name: str, *roles: Role, method: str = "certificate") -> Caller:
    return Caller(SpiffeId(DOMAIN, kind, name), frozenset(roles), method, float("inf"))  # type: ignore[arg-type]  # a literal


async def test_join_token_when_no_life_is_asked_for_lasts_as_set() -> None:
    setting = Setting(Settings(join_token_seconds=30))
    token, _ = await setting.registry.create_join_token("", None)
    longer, _ = await setting.registry.create_join_token("", timedelta(hours=24))
    assert token.expires - token.created == timedelta(seconds=30)
    assert longer.expires - longer.created == timedelta(hours=24)


async def test_join_token_when_made_is_kept_without_its_secret() -> None:
    setting = Setting()
    _, text = await setting.registry.create_join_token("shed", None, service="gpio")
    secret = joining.parse_token(text).secret
    assert secret not in repr(setting.store.__dict__)
    assert setting.store.events[0].data["identity"] == "/svc/gpio"


async def test_join_when_request_is_bad_does_not_even_look_at_the_token() -> None:
    setting = Setting()
    _, text = await setting.registry.create_join_token("", None)
    with pytest.raises(InvalidArgument):
        await setting.registry.join(text, "rubbish")
    assert (await setting.registry.join(text, csr())).identity.kind == "node"


async def test_join_when_token_is_of_another_control_plane_is_refused() -> None:
    one, other = Setting(), Setting()
    token, text = await other.registry.create_join_token("", None)
    one.store.tokens[token.id] = token
    one.store._secrets[token.id] = other.store._secrets[token.id]
    with pytest.raises(Unauthenticated) as caught:
        await one.registry.join(text, csr())
    assert caught.value.reason == "TOKEN_INVALID"


async def test_join_when_key_is_the_authoritys_own_is_refused_and_keeps_the_token() -> None:
    setting = Setting()
    _, text = await setting.registry.create_join_token("", None)
    for signer in (setting.keyring.root, setting.keyring.issuing):
        with pytest.raises(InvalidArgument) as caught:
            await setting.registry.join(text, signing_request(signer.key).decode())
        assert caught.value.reason == "KEY_REUSED"
    assert await setting.registry.join(text, csr())


async def test_certificate_when_issued_lasts_as_set() -> None:
    setting = Setting(Settings(certificate_seconds=20))
    issued = await setting.registry.renew(caller("svc", "gpio", Role.SERVICE), csr())
    assert issued.expires - setting.clock.now() == timedelta(seconds=20)


async def test_renewal_when_caller_is_unknown_or_has_only_a_token_is_refused() -> None:
    setting = Setting()
    for who in (ANONYMOUS, caller("user", "admin", Role.CLUSTER_ADMIN, method="token")):
        with pytest.raises(PermissionDenied) as caught:
            await setting.registry.renew(who, csr())
        assert caught.value.reason == "CERTIFICATE_NEEDED"
    assert setting.store.issued == {}


async def test_renewal_when_for_the_gateway_needs_its_process_and_its_certificate() -> None:
    setting = Setting()
    issued = await setting.registry.renew(caller("svc", "gateway", Role.SERVICE), csr(), acts_for="/gateway")
    assert str(issued.identity) == f"spiffe://{DOMAIN}/gateway"
    for who in (caller("svc", "gpio", Role.SERVICE), caller("node", "gateway", Role.AGENT), caller("user", "gateway", Role.CLUSTER_ADMIN)):
        with pytest.raises(PermissionDenied):
            await setting.registry.renew(who, csr(), acts_for="/gateway")


async def test_api_token_when_no_life_is_asked_for_lasts_a_day() -> None:
    setting = Setting()
    token, text = await setting.registry.create_api_token("ci", [Role.MONITOR], None)
    assert token.expires - token.created == timedelta(days=1)
    assert setting.registry.accepts(text, setting.clock.now())
    assert not setting.registry.accepts(text, setting.clock.now() + timedelta(days=1))
    assert text not in repr(setting.store.__dict__)
