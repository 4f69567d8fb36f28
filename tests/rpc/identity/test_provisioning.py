"""Provisioning members of this machine: repeatable, and never silent about a key that others may have."""

import asyncio
import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from picontroller.core import errors
from picontroller.core.tasks import cancel_and_wait
from picontroller.core.tls import joining
from picontroller.core.tls.identity import IdentityFolder
from picontroller.identity import local, names
from picontroller.identity.local import Provisioned
from picontroller.identity.settings import Settings
from picontroller.identity.wiring import opened
from tests.rpc.identity.world import ShiftedClock, running

MEMBERS = ("identity", "gpio", "gateway")
SETTINGS = Settings()
EVERYTHING = ("/svc/identity", "/svc/gpio", "/svc/gateway", "/gateway", "/user/admin")


async def provision(
    root: Path, *names: str, later: timedelta = timedelta(0), settings: Settings = SETTINGS, members: tuple[str, ...] = MEMBERS
) -> Provisioned:
    clock = ShiftedClock()
    clock.shift = later
    async with opened(root / "identity", settings, clock) as registry:
        return await local.provision(registry, root, members, clock, gateway_names=names)


def serial(root: Path, name: str) -> str:
    folder = IdentityFolder(root / name)
    folder.load()
    return folder.credentials.serial


async def test_provisioning_when_first_makes_everything_readable_by_nobody_else(tmp_path: Path) -> None:
    done = await provision(tmp_path)
    assert done.renewed == EVERYTHING
    for name in ("ca.pem", "client.pem", "client.key", "token"):
        assert (tmp_path / "admin" / name).stat().st_mode & 0o777 == 0o600
    for path in (tmp_path / "identity" / "ca").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    for folder in (tmp_path / "admin", tmp_path / "identity" / "ca", tmp_path / "gpio" / "tls"):
        assert folder.stat().st_mode & 0o777 == 0o700
    root = x509.load_pem_x509_certificate((tmp_path / "admin" / "ca.pem").read_bytes())
    assert done.fingerprint == joining.root_fingerprint(root)


async def test_provisioning_when_repeated_changes_nothing(tmp_path: Path) -> None:
    first = await provision(tmp_path, "pi.example.org", "0.0.0.0", "::", "")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.pem")} | {tmp_path: (tmp_path / "admin" / "token").read_bytes()}
    again = await provision(tmp_path, "pi.example.org", later=timedelta(days=19))
    assert again == Provisioned(first.fingerprint, ())
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.pem")} | {tmp_path: (tmp_path / "admin" / "token").read_bytes()} == before


async def test_provisioning_when_names_change_renews_the_gateway_alone(tmp_path: Path) -> None:
    await provision(tmp_path, "pi.example.org")
    assert (await provision(tmp_path, "pi.example.org", "192.0.2.1")).renewed == ("/svc/gateway", "/gateway")
    assert (await provision(tmp_path)).renewed == ("/svc/gateway", "/gateway")


async def test_provisioning_when_two_thirds_of_life_are_over_renews_all_but_the_token(tmp_path: Path) -> None:
    await provision(tmp_path)
    token = (tmp_path / "admin" / "token").read_text()
    assert (await provision(tmp_path, later=timedelta(days=21))).renewed == EVERYTHING
    assert (tmp_path / "admin" / "token").read_text() == token


async def test_provisioning_when_the_admin_token_has_ended_makes_another(tmp_path: Path) -> None:
    await provision(tmp_path)
    token = (tmp_path / "admin" / "token").read_text()
    await provision(tmp_path, later=timedelta(days=366))
    assert (tmp_path / "admin" / "token").read_text() != token


@pytest.mark.parametrize("missing", ["ca.pem", "client.pem", "client.key", "token"])
async def test_provisioning_when_part_of_the_admin_credential_is_gone_makes_it_again(tmp_path: Path, missing: str) -> None:
    await provision(tmp_path)
    (tmp_path / "admin" / missing).unlink()
    assert (await provision(tmp_path)).renewed == ("/user/admin",)
    assert (tmp_path / "admin" / missing).exists()


async def test_provisioning_when_an_identity_is_damaged_makes_it_again(tmp_path: Path) -> None:
    await provision(tmp_path)
    (tmp_path / "gpio" / "tls" / "identity.pem").write_bytes(b"rubbish")
    assert (await provision(tmp_path)).renewed == ("/svc/gpio",)
    assert serial(tmp_path, "gpio/tls")


async def test_provisioning_when_an_identity_can_be_read_by_others_refuses(tmp_path: Path) -> None:
    await provision(tmp_path)
    (tmp_path / "gpio" / "tls" / "identity.pem").chmod(0o644)
    with pytest.raises(errors.FailedPrecondition) as caught:
        await provision(tmp_path)
    assert caught.value.reason == "SECRET_UNSAFE"


async def test_provisioning_when_an_identity_is_of_another_authority_makes_it_again(tmp_path: Path) -> None:
    await provision(tmp_path / "a")
    await provision(tmp_path / "b")
    shutil.rmtree(tmp_path / "a" / "gpio")
    shutil.copytree(tmp_path / "b" / "gpio", tmp_path / "a" / "gpio")
    assert (await provision(tmp_path / "a")).renewed == ("/svc/gpio",)


async def test_provisioning_when_trust_is_outdated_writes_it_without_a_new_certificate(tmp_path: Path) -> None:
    await provision(tmp_path)
    path, before = tmp_path / "gpio" / "tls" / "trust.json", serial(tmp_path, "gpio/tls")
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 0}))
    assert (await provision(tmp_path)).renewed == ()
    assert json.loads(path.read_text())["version"] == 1
    assert serial(tmp_path, "gpio/tls") == before


async def test_provisioning_when_a_name_is_wrong_makes_nothing_of_the_gateway(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidArgument):
        await provision(tmp_path, "not a name")
    with pytest.raises(errors.PermissionDenied):
        await provision(tmp_path, "events.pi-controller.local")
    assert not (tmp_path / "gateway" / "tls" / "identity.pem").exists()


def key_file(root: Path, pattern: str) -> Path:
    """Return the one file of the authority that ``pattern`` is for."""
    [path] = (root / "identity" / "ca").glob(pattern)
    return path


@pytest.mark.parametrize("missing", ["root-*.pem", "token-key.pem"])
async def test_authority_when_a_key_is_gone_refuses_instead_of_making_another(tmp_path: Path, missing: str) -> None:
    await provision(tmp_path)
    key_file(tmp_path, missing).unlink()
    with pytest.raises(errors.FailedPrecondition) as caught:
        await provision(tmp_path)
    assert caught.value.reason == "AUTHORITY_MISSING"
    assert not list((tmp_path / "identity" / "ca").glob(missing))


async def test_authority_when_the_issuing_key_is_gone_makes_another_and_all_stays_good(tmp_path: Path) -> None:
    await provision(tmp_path)
    key_file(tmp_path, "issuing-*.pem").unlink()
    assert (await provision(tmp_path)).renewed == ()


@pytest.mark.parametrize("name", ["root-*.pem", "issuing-*.pem", "token-key.pem"])
async def test_authority_when_a_key_can_be_read_by_others_refuses(tmp_path: Path, name: str) -> None:
    await provision(tmp_path)
    key_file(tmp_path, name).chmod(0o640)
    with pytest.raises(errors.FailedPrecondition) as caught:
        await provision(tmp_path)
    assert caught.value.reason == "SECRET_UNSAFE"
    assert f"chmod 600 {tmp_path}" in caught.value.message


async def test_authority_when_key_and_certificate_do_not_fit_refuses(tmp_path: Path) -> None:
    await provision(tmp_path / "a")
    await provision(tmp_path / "b")
    mine, other = (key_file(tmp_path / name, "issuing-*.pem") for name in "ab")
    mark = b"-----BEGIN CERTIFICATE-----"
    mine.write_bytes(mine.read_bytes().partition(mark)[0] + mark + other.read_bytes().partition(mark)[2])
    with pytest.raises(errors.FailedPrecondition, match="does not belong"):
        await provision(tmp_path / "a")
    mine.write_bytes(other.read_bytes())
    with pytest.raises(errors.FailedPrecondition, match="not issued by the root"):
        await provision(tmp_path / "a")


async def test_authority_when_the_trust_domain_changes_refuses(tmp_path: Path) -> None:
    await provision(tmp_path)
    with pytest.raises(errors.FailedPrecondition) as caught:
        await provision(tmp_path, settings=Settings(trust_domain="other.example"))
    assert caught.value.reason == "TRUST_DOMAIN_CHANGED"


async def test_authority_when_the_issuing_one_is_worn_is_replaced_under_the_same_root(tmp_path: Path) -> None:
    first = await provision(tmp_path)
    clock, later = ShiftedClock(), timedelta(days=250)
    clock.shift = later
    async with opened(tmp_path / "identity", Settings(), clock) as registry:
        before = key_file(tmp_path, "issuing-*.pem").read_bytes()
        await registry.replace_worn_issuing()
        after = key_file(tmp_path, "issuing-*.pem").read_bytes()
        await registry.replace_worn_issuing()
        assert before != after == key_file(tmp_path, "issuing-*.pem").read_bytes()
        assert registry.fingerprint() == first.fingerprint
    assert (await provision(tmp_path, later=timedelta(days=400))).fingerprint == first.fingerprint


async def test_authority_when_opened_twice_refuses_the_second(tmp_path: Path) -> None:
    async with opened(tmp_path / "identity", Settings(), ShiftedClock()):
        with pytest.raises(errors.FailedPrecondition) as caught:
            await provision(tmp_path)
    assert caught.value.reason == "DATABASE_IN_USE"


async def test_admin_credential_when_worn_is_renewed_by_the_running_service(tmp_path: Path) -> None:
    async with running(tmp_path, Settings()) as world:
        assert [event["type"] for event in world.events()] == ["certificate.issued"] * 5 + ["api_token.created"]
        before = (tmp_path / "admin" / "client.pem").read_bytes()
        world.clock.shift = timedelta(days=21)
    async with opened(tmp_path / "identity", SETTINGS, world.clock) as registry:
        upkeep = asyncio.create_task(local.keep_fresh(registry, tmp_path, world.clock))
        async with asyncio.timeout(5):
            while (tmp_path / "admin" / "client.pem").read_bytes() == before:
                await asyncio.sleep(0.01)
        await cancel_and_wait(upkeep)
    assert world.admin().credentials.serial in [event["data"]["serial"] for event in world.events()[6:]]  # type: ignore[index]  # an event's data


async def test_provisioning_when_it_keeps_names_leaves_a_gateway_those_it_asked_for(tmp_path: Path) -> None:
    async def kept(*asked: str, later: timedelta = timedelta(0)) -> tuple[str, ...]:
        clock = ShiftedClock()
        clock.shift = later
        async with opened(tmp_path / "identity", SETTINGS, clock) as registry:
            await local.provision(registry, tmp_path, MEMBERS, clock, gateway_names=asked, keep_names=True)
        folder = IdentityFolder(tmp_path / "gateway" / "edge")
        folder.load()
        return names.checked(folder.credentials.spiffe_id, names.carried(folder.credentials))

    await provision(tmp_path, "pi.example.org")
    before = serial(tmp_path, "gateway/edge")
    assert await kept() == ("pi.example.org",)
    assert serial(tmp_path, "gateway/edge") == before
    assert await kept(later=timedelta(days=21)) == ("pi.example.org",)
    assert serial(tmp_path, "gateway/edge") != before
    assert await kept("192.0.2.1", later=timedelta(days=21)) == ("192.0.2.1", "pi.example.org")
