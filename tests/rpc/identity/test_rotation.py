"""From one root to the next: who is waited for, what chains lead to in each state, and what is found after a crash in between."""

import asyncio
import errno
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509 import verification

from picontroller.core import errors
from picontroller.core.clock import SystemClock
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc import renewal
from picontroller.core.store.sqlite import Database
from picontroller.core.tls import joining
from picontroller.core.tls.identity import IdentityFolder
from picontroller.identity import local, wiring
from picontroller.identity.keyring import open_keyring
from picontroller.identity.rotation import rotating
from picontroller.identity.rotation.rotating import Rotation, Step
from picontroller.identity.rotation.store import RotationStore
from picontroller.identity.settings import Settings
from picontroller.identity.store import SCRIPTS
from picontroller.v1 import identity_pb2 as pb
from picontroller.v1 import trust_pb2
from tests.rpc.identity.world import MEMBERS, World, request_for_new_key

STEPS = ("PREPARE", "ACTIVATE", "RETIRE", "FINISH")
State = trust_pb2.AuthorityState.Value


async def admin(world: World) -> IdentityFolder:
    """Return the admin's credential, which follows the active root: one of its two files may be newer for a moment."""
    async with asyncio.timeout(5):
        while True:
            try:
                return world.admin()
            except errors.FailedPrecondition:
                await asyncio.sleep(0.01)


async def take(world: World, step: str, *, force: bool = False) -> trust_pb2.Authority:
    request = trust_pb2.RotateAuthorityRequest(step=trust_pb2.RotationStep.Value.Value(step), force=force)
    answer: trust_pb2.Authority = await rpc.unary(world.stub(await admin(world)).RotateAuthority, request)
    return answer


async def standing(world: World) -> trust_pb2.Authority:
    answer: trust_pb2.Authority = await rpc.unary(world.stub(await admin(world)).GetAuthority, trust_pb2.GetAuthorityRequest())
    return answer


async def refused(world: World, step: str) -> errors.Error:
    with pytest.raises(errors.FailedPrecondition) as caught:
        await take(world, step)
    return caught.value


async def acknowledge(world: World, member: IdentityFolder, version: int, acts_for: str = "") -> None:
    await rpc.unary(world.stub(member).AcknowledgeTrust, trust_pb2.AcknowledgeTrustRequest(version=version, identity=acts_for))


async def bundle(world: World) -> trust_pb2.TrustBundle:
    answer: trust_pb2.TrustBundle = await rpc.unary(world.stub(world.folder("gpio")).GetTrustBundle, trust_pb2.GetTrustBundleRequest())
    return answer


async def renewed(world: World, name: str = "gpio") -> pb.IssuedCertificate:
    """Renew a member's certificate and keep it, as the member would."""
    folder = world.folder(name)
    key, request = request_for_new_key()
    answer: pb.IssuedCertificate = await rpc.unary(world.stub(folder).RenewCertificate, pb.RenewCertificateRequest(csr_pem=request))
    issued = renewal.issued_from(answer)
    folder.store(renewal.accepted(key, issued, folder.credentials.spiffe_id), issued.trust)
    return answer


async def joined(world: World, token: str) -> pb.IssuedCertificate:
    _, request = request_for_new_key()
    answer: pb.IssuedCertificate = await rpc.unary(
        world.stub(world.folder("gateway/edge")).IssueCertificate, pb.IssueCertificateRequest(token=token, csr_pem=request)
    )
    return answer


async def join_token(world: World) -> str:
    made: pb.JoinToken = await rpc.unary(world.stub(await admin(world)).CreateJoinToken, pb.CreateJoinTokenRequest())
    return made.token


def leads(chain_pem: str, roots_pem: bytes) -> bool:
    """Return whether a strict verifier that believes these roots, and nothing else, accepts a chain."""
    leaf, *rest = x509.load_pem_x509_certificates(chain_pem.encode())
    store = verification.Store(x509.load_pem_x509_certificates(roots_pem))
    try:
        verification.PolicyBuilder().store(store).time(datetime.now(UTC)).build_client_verifier().verify(leaf, rest)
    except verification.VerificationError:
        return False
    return True


def roots_in(roots_pem: str) -> Iterator[bytes]:
    for certificate in x509.load_pem_x509_certificates(roots_pem.encode()):
        found = joining.pinned(roots_pem.encode(), joining.root_hash(certificate))
        assert found is not None
        yield found


def key_files(world: World) -> set[str]:
    return {path.name for path in (world.root / "identity" / "ca").iterdir()}


async def test_rotation_when_everybody_follows_ends_with_the_new_root_alone(world: World) -> None:
    first = await standing(world)
    assert (first.state, list(first.roots)) == (State.STABLE, [first.active_root])
    gpio = world.folder("gpio")

    prepared = await take(world, "PREPARE")
    old, new = prepared.roots
    assert (prepared.state, prepared.active_root, old) == (State.PREPARED, first.active_root, first.active_root)
    assert prepared.trust_version == first.trust_version + 1
    assert leads((await renewed(world)).certificate_chain_pem, gpio.trust.roots_pem), "still issued under the old root"

    behind = await refused(world, "ACTIVATE")
    assert behind.reason == "MEMBERS_BEHIND"
    assert "/svc/gpio" in behind.message
    assert [violation.field for violation in behind.violations] == [str(gpio.credentials.spiffe_id)]
    assert [straggler.spiffe_id for straggler in (await standing(world)).stragglers] == [str(gpio.credentials.spiffe_id)]
    await acknowledge(world, world.folder("gpio"), prepared.trust_version)

    activated = await take(world, "ACTIVATE")
    assert (activated.state, activated.active_root, list(activated.roots)) == (State.ACTIVATED, new, [old, new])
    believed = await bundle(world)
    assert (believed.active_root, believed.renew_now) == (new, False)
    old_pem, new_pem = roots_in(believed.roots_pem)

    retiring = await take(world, "RETIRE")
    assert (retiring.state, (await bundle(world)).renew_now) == (State.RETIRING, True)
    assert [straggler.root for straggler in retiring.stragglers] == [old]
    assert (await refused(world, "FINISH")).reason == "MEMBERS_BEHIND"
    chain = (await renewed(world)).certificate_chain_pem
    assert leads(chain, old_pem)
    assert leads(chain, new_pem)
    assert (await refused(world, "FINISH")).reason == "MEMBERS_BEHIND", "nobody saw that the answer came in"
    await acknowledge(world, world.folder("gpio"), retiring.trust_version)

    finished = await take(world, "FINISH")
    assert (finished.state, list(finished.roots)) == (State.STABLE, [new])
    assert not finished.stragglers
    believed = await bundle(world)
    assert (believed.roots_pem.encode(), believed.renew_now, believed.version) == (new_pem, False, first.trust_version + 4)
    chain = (await renewed(world)).certificate_chain_pem
    assert leads(chain, new_pem)
    assert not leads(chain, old_pem)
    assert key_files(world) == {f"root-{new[:8]}.pem", f"issuing-{new[:8]}.pem", "token-key.pem"}
    told = [str(event["type"]) for event in world.events() if str(event["type"]).startswith("authority.")]
    assert told == ["authority.prepared", "authority.activated", "authority.retiring", "authority.stable"]


async def test_rotation_when_steps_are_repeated_or_out_of_order_says_what_is_possible(world: World) -> None:
    possible = {"PREPARE": "PREPARE", "ACTIVATE": "ACTIVATE or ABANDON", "RETIRE": "RETIRE", "FINISH": "FINISH"}
    for step in STEPS:
        for wrong in {*STEPS, "ABANDON"} - set(possible[step].split(" or ")):
            if STEPS.index(step) and wrong == STEPS[STEPS.index(step) - 1]:
                continue
            error = await refused(world, wrong)
            assert error.reason == "ROTATION_STATE"
            assert error.message.endswith(possible[step])
        taken = await take(world, step)
        again = await take(world, step)
        assert (again.state, again.trust_version, list(again.roots)) == (taken.state, taken.trust_version, list(taken.roots))


async def test_rotation_when_abandoned_forgets_the_new_root(world: World) -> None:
    before = await standing(world)
    await take(world, "PREPARE")
    after = await take(world, "ABANDON")
    assert (after.state, list(after.roots), after.active_root) == (State.STABLE, list(before.roots), before.active_root)
    assert after.trust_version == before.trust_version + 2
    assert (await take(world, "ABANDON")).trust_version == after.trust_version
    assert (await refused(world, "FINISH")).reason == "ROTATION_STATE"
    assert key_files(world) == {f"root-{before.active_root[:8]}.pem", f"issuing-{before.active_root[:8]}.pem", "token-key.pem"}
    assert (await take(world, "PREPARE")).state == State.PREPARED


async def test_rotation_when_forced_goes_ahead_and_says_who_was_cut_off(world: World) -> None:
    prepared = await take(world, "PREPARE")
    await acknowledge(world, world.folder("gpio"), prepared.trust_version - 1)
    cut = await take(world, "ACTIVATE", force=True)
    assert [straggler.spiffe_id.rpartition("/")[2] for straggler in cut.stragglers] == ["gpio"]
    await take(world, "RETIRE")
    ended = await take(world, "FINISH", force=True)
    assert ended.state == State.STABLE
    assert [straggler.spiffe_id.rpartition("/")[2] for straggler in ended.stragglers] == ["gpio"]
    assert "spiffe://pi-controller.local/svc/identity" in [member.spiffe_id for member in ended.absent]
    last = [event["data"] for event in world.events() if event["type"] == "authority.stable"]
    assert last[0]["cut_off"] == ["spiffe://pi-controller.local/svc/gpio"]  # type: ignore[index]  # an event's data


async def test_rotation_when_members_are_silent_lists_them_and_does_not_wait(world: World) -> None:
    await acknowledge(world, world.folder("gpio"), 1)
    await take(world, "PREPARE")
    assert (await refused(world, "ACTIVATE")).reason == "MEMBERS_BEHIND"
    world.clock.shift += timedelta(seconds=world.settings.member_silent_seconds + 1)
    shown = await standing(world)
    assert not shown.stragglers
    gpio = next(member for member in shown.absent if member.spiffe_id.endswith("/svc/gpio"))
    assert (gpio.trust_version, gpio.root, gpio.HasField("last_seen")) == (1, shown.active_root, True)
    never = next(member for member in shown.absent if member.spiffe_id.endswith("/gateway"))
    assert not never.HasField("last_seen")
    assert (await take(world, "ACTIVATE")).state == State.ACTIVATED


async def test_acknowledgement_when_for_the_gateway_needs_its_process(world: World) -> None:
    await acknowledge(world, world.folder("gateway"), 1, "/gateway")
    with pytest.raises(errors.PermissionDenied) as caught:
        await acknowledge(world, world.folder("gpio"), 1, "/gateway")
    assert caught.value.reason == "NOT_GATEWAY"
    with pytest.raises(errors.PermissionDenied):
        await acknowledge(world, await admin(world), 1)


@pytest.mark.parametrize("ahead", [1, 2**63, 2**64 - 10])
async def test_acknowledgement_when_of_a_version_that_does_not_exist_is_refused(world: World, ahead: int) -> None:
    version = (await bundle(world)).version + ahead
    with pytest.raises(errors.InvalidArgument) as caught:
        await acknowledge(world, world.folder("gpio"), min(version, 2**64 - 1))
    assert caught.value.reason == "VERSION_UNKNOWN"


async def test_rotation_when_the_answer_to_a_renewal_was_lost_waits_for_the_member(world: World) -> None:
    old = (await take(world, "PREPARE")).active_root
    gpio, gateway = world.folder("gpio"), world.folder("gateway")
    for step in ("ACTIVATE", "RETIRE"):
        await acknowledge(world, gpio, (await bundle(world)).version)
        retiring = await take(world, step)
    await acknowledge(world, gpio, retiring.trust_version)
    _, request = request_for_new_key()
    await rpc.unary(world.stub(gpio).RenewCertificate, pb.RenewCertificateRequest(csr_pem=request))  # and never stored
    await acknowledge(world, gpio, retiring.trust_version)
    assert [(each.spiffe_id, each.root) for each in (await standing(world)).stragglers] == [(str(gpio.credentials.spiffe_id), old)]
    assert str(gpio.credentials.spiffe_id) in (await refused(world, "FINISH")).message
    await renewed(world)
    await acknowledge(world, world.folder("gpio"), retiring.trust_version)

    await renewed(world, "gateway")
    await acknowledge(world, world.folder("gateway"), retiring.trust_version)
    await acknowledge(world, gateway, retiring.trust_version, "/gateway")  # of the edge only what was issued is known
    assert [each.spiffe_id.rpartition("/")[2] for each in (await standing(world)).stragglers] == ["gateway"]
    _, request = request_for_new_key()
    asked = pb.RenewCertificateRequest(csr_pem=request, identity="/gateway")
    await rpc.unary(world.stub(world.folder("gateway")).RenewCertificate, asked)
    assert (await take(world, "FINISH")).state == State.STABLE


async def test_rotation_when_asked_for_by_a_member_is_refused(world: World) -> None:
    stub = world.stub(world.folder("gpio"))
    with pytest.raises(errors.PermissionDenied):
        await rpc.unary(stub.GetAuthority, trust_pb2.GetAuthorityRequest())
    with pytest.raises(errors.PermissionDenied):
        await rpc.unary(stub.RotateAuthority, trust_pb2.RotateAuthorityRequest(step=trust_pb2.RotationStep.Value.PREPARE))
    with pytest.raises(errors.InvalidArgument):
        await rpc.unary(world.stub(await admin(world)).RotateAuthority, trust_pb2.RotateAuthorityRequest())


async def test_abuse_59_join_when_the_root_changes_meanwhile_works_and_leads_to_a_root_of_its_bundle(world: World) -> None:
    early = [await join_token(world) for _ in STEPS]
    for step, token in zip(STEPS, early, strict=True):
        await take(world, step, force=True)
        fresh = await join_token(world)
        for used in (token, fresh):
            answer = await joined(world, used)
            assert leads(answer.certificate_chain_pem, answer.trust_bundle.roots_pem.encode())
        # Whoever joins with the fresh token believes this root alone at first, and must be able to verify the gateway by it.
        pinned = joining.pinned(answer.trust_bundle.roots_pem.encode(), joining.parse_token(fresh).root_hash)
        assert pinned is not None
        assert leads((await renewed(world)).certificate_chain_pem, pinned)


async def test_certificates_when_listed_say_which_root_they_belong_to(world: World) -> None:
    before = await standing(world)
    await take(world, "PREPARE")
    after = await take(world, "ACTIVATE")
    await renewed(world)
    listed = await rpc.unary(world.stub(await admin(world)).ListCertificates, pb.ListCertificatesRequest())
    assert listed.certificates[0].root == after.active_root
    assert listed.certificates[-1].root == before.active_root


class Stopped(Exception):
    """The process was killed here."""


class StoppingStore(RotationStore):
    """Dies where a step would be committed."""

    async def move(self, *arguments: object) -> int:
        raise Stopped


@pytest.mark.parametrize("taken", range(len(STEPS)))
async def test_abuse_106_rotation_when_killed_between_key_and_commit_is_found_before_the_step(tmp_path: Path, taken: int) -> None:
    settings, clock = Settings(), SystemClock()
    async with await Database.open(tmp_path / "identity.db", SCRIPTS) as database:
        registry = await wiring.registry_in(database, tmp_path, settings, clock)
        rotation = Rotation(registry, RotationStore(database), 180, clock)
        for step in STEPS[:taken]:
            await rotation.take(Step[step])
        before = await rotation.standing()
        files = {path.name: path.read_bytes() for path in (tmp_path / "ca").iterdir()}
        with pytest.raises(Stopped):
            await Rotation(registry, StoppingStore(database), 180, clock).take(Step[STEPS[taken]])
        assert await rotation.standing() == before
    async with await Database.open(tmp_path / "identity.db", SCRIPTS) as database:
        registry = await wiring.registry_in(database, tmp_path, settings, clock)
        assert {path.name: path.read_bytes() for path in (tmp_path / "ca").iterdir()} == files
        rotation = Rotation(registry, RotationStore(database), 180, clock)
        assert await rotation.standing() == before
        assert (await rotation.take(Step[STEPS[taken]])).trust_version == before.trust_version + 1


@pytest.mark.parametrize("step", STEPS)
async def test_rotation_when_its_caller_gives_up_at_any_point_keeps_memory_and_database_together(tmp_path: Path, step: str) -> None:
    clock, taken = SystemClock(), 0
    for turns in range(40):
        folder = tmp_path / str(turns)
        async with await Database.open(folder / "identity.db", SCRIPTS) as database:
            registry, store = await wiring.registry_in(database, folder, Settings(), clock), RotationStore(database)
            rotation = Rotation(registry, store, 180, clock)
            for earlier in STEPS[: STEPS.index(step)]:
                await rotation.take(Step[earlier])
            before = registry.keyring.position
            call = asyncio.create_task(rotation.take(Step[step]))
            for _ in range(turns):
                await asyncio.sleep(0.0002 if turns % 2 else 0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            after = await rotation.take(Step[step])  # waits for its turn, and is a repetition of what was taken
            assert await store.position() == registry.keyring.position != before
            assert after.trust_version == registry.trust.version == STEPS.index(step) + 2
            taken += call.cancelled()
    assert taken > 0, "none was given up"


async def test_rotation_when_keys_can_not_be_written_says_so_and_changes_nothing(tmp_path: Path) -> None:
    async with await Database.open(tmp_path / "identity.db", SCRIPTS) as database:
        registry = await wiring.registry_in(database, tmp_path, Settings(), SystemClock())
        rotation = Rotation(registry, RotationStore(database), 180, SystemClock())
        before, folder = await rotation.standing(), tmp_path / "ca"
        folder.rename(tmp_path / "kept")
        folder.write_text("in the way")
        with pytest.raises(errors.FailedPrecondition) as caught:
            await rotation.take(Step.PREPARE)
        assert caught.value.reason == "FOLDER_UNWRITABLE"
        assert await rotation.standing() == before
        folder.unlink()
        (tmp_path / "kept").rename(folder)
        assert (await rotation.take(Step.PREPARE)).trust_version == before.trust_version + 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_rotation_when_the_disk_is_full_says_that(number: int) -> None:
    refusal = rotating.unwritable(OSError(number, "no space left"))
    assert (type(refusal), refusal.reason) == (errors.QuotaExceeded, "DISK_FULL")


async def test_authority_when_it_is_one_of_the_first_release_is_kept(tmp_path: Path) -> None:
    async with wiring.opened(tmp_path / "identity", Settings(), SystemClock()) as registry:
        fingerprint = registry.fingerprint()
        await local.provision(registry, tmp_path, MEMBERS, SystemClock())
    folder = tmp_path / "identity" / "ca"
    [root], [issuing] = folder.glob("root-*.pem"), folder.glob("issuing-*.pem")
    root.rename(folder / "root.pem")
    issuing.rename(folder / "issuing.pem")
    for _ in range(2):  # the second time as after a crash before the old names were removed
        keyring = open_keyring(folder, "pi-controller.local", SystemClock().now(), None, create=False)
        assert keyring.root.fingerprint == fingerprint
    keyring.tidy()
    assert {path.name for path in folder.iterdir()} == {root.name, issuing.name, "token-key.pem"}
    async with wiring.opened(tmp_path / "identity", Settings(), SystemClock()) as registry:
        assert (await local.provision(registry, tmp_path, MEMBERS, SystemClock())).renewed == ()


async def test_admin_credential_when_the_active_root_changes_follows_at_once(world: World) -> None:
    before = (await admin(world)).credentials.serial
    await take(world, "PREPARE")
    await take(world, "ACTIVATE")
    async with asyncio.timeout(5):
        while (await admin(world)).credentials.serial == before:
            await asyncio.sleep(0.01)
    assert (world.root / "admin" / "ca.pem").read_text() == (await bundle(world)).roots_pem
    assert not [member for member in (await standing(world)).absent if member.spiffe_id.endswith("/user/admin")]


async def test_abuse_108_authority_when_its_folder_is_lost_keeps_identity_from_starting_with_the_next_step(world: World) -> None:
    shutil.rmtree(world.root / "identity" / "ca")
    assert (await standing(world)).state == State.STABLE, "what runs goes on"
    assert leads((await renewed(world)).certificate_chain_pem, world.folder("gpio").trust.roots_pem)


async def test_abuse_108_authority_when_lost_is_not_made_anew(tmp_path: Path) -> None:
    async with wiring.opened(tmp_path / "identity", Settings(), SystemClock()) as registry:
        await local.provision(registry, tmp_path, MEMBERS, SystemClock())
    shutil.rmtree(tmp_path / "identity" / "ca")
    with pytest.raises(errors.FailedPrecondition, match="restore a backup") as caught:
        async with wiring.opened(tmp_path / "identity", Settings(), SystemClock()):
            raise AssertionError("it opened")
    assert caught.value.reason == "AUTHORITY_MISSING"
    assert not list((tmp_path / "identity" / "ca").glob("*.pem"))
