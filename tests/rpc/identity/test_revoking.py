"""Revoking: what was good a moment ago is refused, and whoever is to stay out gets nothing any more."""

import asyncio
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from picontroller.core import errors
from picontroller.core.callers import Role
from picontroller.core.events import Event
from picontroller.core.rpc import mesh as rpc
from picontroller.core.store.sqlite import Database
from picontroller.core.tls.identity import IdentityFolder, Trust
from picontroller.identity import local, wiring
from picontroller.identity.api_tokens import ApiToken
from picontroller.identity.revocation.news import News
from picontroller.identity.revocation.store import RevocationStore
from picontroller.identity.settings import Settings
from picontroller.identity.store import SCRIPTS, IdentityStore
from picontroller.v1 import identity_pb2 as pb
from picontroller.v1 import options_pb2, trust_pb2
from tests.fakes.clock import FakeClock
from tests.rpc.identity.test_joining import NODE, folder_of, issue, refused
from tests.rpc.identity.world import MEMBERS, World, request_for_new_key

UNKNOWN = "11111111-2222-4333-8444-555555555555"


async def revoke(world: World, who: IdentityFolder | None = None, **fields: Any) -> trust_pb2.RevokeCertificateResponse:
    request = trust_pb2.RevokeCertificateRequest(**fields)
    answer: trust_pb2.RevokeCertificateResponse = await rpc.unary(world.stub(who or world.admin()).RevokeCertificate, request)
    return answer


async def node(world: World, name: str = "node", **fields: Any) -> IdentityFolder:
    key, csr = request_for_new_key()
    return folder_of(world, name, key, await issue(world, await world.join_token(**fields), csr))


async def api_token(world: World, subject: str, **fields: Any) -> pb.ApiToken:
    request = pb.CreateApiTokenRequest(subject=subject, roles=[options_pb2.Role.MONITOR], **fields)
    made: pb.ApiToken = await rpc.unary(world.stub(world.admin()).CreateApiToken, request)
    return made


async def denials(world: World, after: int = 0, *, least: int = 0) -> dict[str, float]:
    """Return the denials that a member without any is told first, once there are ``least``: they are told a moment after the revocation."""
    async with asyncio.timeout(5):
        while len(found := await _denials(world, after)) < least:
            await asyncio.sleep(0.01)
    return found


async def _denials(world: World, after: int) -> dict[str, float]:
    stub = world.stub(world.folder("gpio"))
    call = rpc.stream(stub.WatchTrust, trust_pb2.WatchTrustRequest(version=world.folder("gpio").trust.version, denials_version=after))
    first: trust_pb2.WatchTrustResponse = await anext(call)
    await call.aclose()
    return {denial.proof: denial.expire_time.ToMicroseconds() / 1e6 for denial in first.denials}


async def renewal_refused(world: World, member: IdentityFolder) -> errors.Error:
    with pytest.raises(errors.Error) as caught:
        await rpc.unary(world.stub(member).RenewCertificate, pb.RenewCertificateRequest(csr_pem=request_for_new_key()[1]))
    return caught.value


async def test_certificate_when_revoked_is_denied_listed_and_told_of_once(world: World) -> None:
    member = await node(world)
    serial, spiffe_id = member.credentials.serial, str(member.credentials.spiffe_id)
    answer = await revoke(world, serial=serial, reason="lost in the garden")
    assert (list(answer.serials), list(answer.api_tokens)) == ([serial], [])
    assert await revoke(world, serial=serial, reason="again") == trust_pb2.RevokeCertificateResponse()
    (event,) = [event for event in world.events() if str(event["type"]).endswith(".revoked")]
    data = {"reason": "lost in the garden", "serial": serial}
    assert (event["type"], event["resource"], event["node_id"], event["data"]) == (
        "certificate.revoked",
        spiffe_id,
        member.credentials.spiffe_id.name,
        data,
    )
    listed = await rpc.unary(world.stub(world.admin()).ListCertificates, pb.ListCertificatesRequest())
    (shown,) = [each for each in listed.certificates if each.serial == serial]
    assert shown.revoke_reason == "lost in the garden"
    assert shown.HasField("revoke_time")
    assert not any(each.HasField("revoke_time") for each in listed.certificates if each.serial != serial)
    told = await denials(world, least=1)
    assert set(told) == {f"certificate:{serial}"}
    assert told[f"certificate:{serial}"] > member.credentials.not_after.timestamp(), "clocks differ: it must outlive what it denies"


async def test_certificate_when_revoked_is_not_renewed_even_before_servers_know(world: World) -> None:
    member = await node(world)
    assert not world.served.denials.denies(f"certificate:{member.credentials.serial}")
    await revoke(world, serial=member.credentials.serial)
    error = await renewal_refused(world, member)
    assert (type(error), error.reason) == (errors.PermissionDenied, "PROOF_REVOKED")


async def test_certificate_when_revoked_alone_leaves_the_identity_its_others(world: World) -> None:
    member = await node(world)
    first = member.credentials.serial
    key, csr = request_for_new_key()
    renewed = await rpc.unary(world.stub(member).RenewCertificate, pb.RenewCertificateRequest(csr_pem=csr))
    await revoke(world, serial=first)
    newer = folder_of(world, "newer", key, renewed)
    await rpc.unary(world.stub(newer).RenewCertificate, pb.RenewCertificateRequest(csr_pem=request_for_new_key()[1]))


async def test_answer_when_its_certificate_was_revoked_is_not_repeated(world: World) -> None:
    token = await world.join_token()
    _, csr = request_for_new_key()
    issued = await issue(world, token, csr)
    await revoke(world, serial=issued.serial)
    assert (await refused(world, token, csr)).reason == "TOKEN_USED"


async def test_node_when_revoked_for_good_gets_nothing_any_more(world: World) -> None:
    member, token = await node(world, node_id=NODE), await world.join_token(node_id=NODE)
    answer = await revoke(world, identity=f"/node/{NODE}", reason="sold")
    assert list(answer.serials) == [member.credentials.serial]
    told = await denials(world, least=1)
    assert set(told) == {f"certificate:{member.credentials.serial}", str(member.credentials.spiffe_id)}
    assert told[str(member.credentials.spiffe_id)] >= told[f"certificate:{member.credentials.serial}"]
    error = await renewal_refused(world, member)
    assert (type(error), error.reason) == (errors.PermissionDenied, "IDENTITY_REVOKED")
    joining = await refused(world, token, request_for_new_key()[1])
    assert (type(joining), joining.reason) == (errors.PermissionDenied, "IDENTITY_REVOKED")
    with pytest.raises(errors.FailedPrecondition) as caught:
        await world.join_token(node_id=NODE)
    assert caught.value.reason == "IDENTITY_REVOKED"
    assert "for good" in caught.value.message
    assert await revoke(world, identity=f"/node/{NODE}") == trust_pb2.RevokeCertificateResponse()
    assert [event["type"] for event in world.events()][-3:] == ["certificate.revoked", "token.revoked", "identity.barred"]


async def test_node_when_it_may_return_needs_a_fresh_token(world: World) -> None:
    member, older = await node(world, node_id=NODE), await world.join_token(node_id=NODE)
    await revoke(world, identity=f"/node/{NODE}", may_return=True)
    assert set(await denials(world, least=1)) == {f"certificate:{member.credentials.serial}"}
    assert (await renewal_refused(world, member)).reason == "PROOF_REVOKED"
    assert (await refused(world, older, request_for_new_key()[1])).reason == "TOKEN_INVALID"
    again = await node(world, "again", node_id=NODE)
    who = await rpc.unary(world.stub(again).WhoAmI, pb.WhoAmIRequest())
    assert who.spiffe_id == str(member.credentials.spiffe_id)


async def test_user_when_revoked_loses_tokens_and_gets_no_more(world: World) -> None:
    first, second, other = await api_token(world, "anna"), await api_token(world, "anna"), await api_token(world, "bert")
    answer = await revoke(world, identity="/user/anna", reason="left")
    assert set(answer.api_tokens) == {first.id, second.id}
    assert set(await denials(world, least=3)) == {f"token:{first.id}", f"token:{second.id}", "spiffe://pi-controller.local/user/anna"}
    with pytest.raises(errors.FailedPrecondition) as caught:
        await api_token(world, "anna")
    assert caught.value.reason == "IDENTITY_REVOKED"
    listed = await rpc.unary(world.stub(world.admin()).ListApiTokens, pb.ListApiTokensRequest())
    revoked = {token.id for token in listed.api_tokens if token.HasField("revoke_time")}
    assert revoked == {first.id, second.id}
    assert other.id not in revoked


async def test_api_token_when_revoked_is_denied_once(world: World) -> None:
    token = await api_token(world, "ci")
    for _ in range(2):
        await rpc.unary(world.stub(world.admin()).RevokeApiToken, pb.RevokeApiTokenRequest(id=token.id))
    assert set(await denials(world, least=1)) == {f"token:{token.id}"}
    told = [event for event in world.events() if event["type"] == "api_token.revoked"]
    assert [(event["resource"], event["data"]) for event in told] == [(token.id, {"subject": "ci"})]


async def test_revocation_when_nobody_knows_the_target_is_not_found(world: World) -> None:
    for fields in ({"serial": "abc123"}, {"identity": f"/node/{UNKNOWN}"}, {"identity": "/user/nobody"}):
        with pytest.raises(errors.NotFound):
            await revoke(world, **fields)
    with pytest.raises(errors.NotFound):
        await rpc.unary(world.stub(world.admin()).RevokeApiToken, pb.RevokeApiTokenRequest(id=UNKNOWN))
    assert await denials(world) == {}


@pytest.mark.parametrize("fields", [{}, {"serial": ""}, {"serial": "XYZ"}, {"identity": "node/x"}, {"identity": "/user/../admin"}])
async def test_revocation_when_the_target_is_none_is_an_invalid_argument(world: World, fields: dict[str, str]) -> None:
    with pytest.raises(errors.InvalidArgument):
        await revoke(world, **fields)


async def test_revocation_when_the_control_plane_would_shut_itself_out_is_refused(world: World) -> None:
    for path in ("/svc/identity", "/svc/gateway", "/gateway", "/user/admin"):
        with pytest.raises(errors.FailedPrecondition) as caught:
            await revoke(world, identity=path)
        assert caught.value.reason == "IDENTITY_OWN"
    assert await denials(world) == {}


async def test_admin_when_revoking_its_own_certificate_is_allowed_and_gets_another_from_this_machine(world: World) -> None:
    admin = world.admin()
    assert list((await revoke(world, admin, serial=admin.credentials.serial)).serials) == [admin.credentials.serial]


async def test_identity_when_it_has_returned_keeps_what_it_got_since(world: World) -> None:
    left = await node(world)
    node_id, gone = left.credentials.spiffe_id.name, Timestamp()
    gone.FromDatetime(world.clock.now())
    back = await node(world, "back", node_id=node_id)
    unused = await world.join_token(node_id=node_id)
    answer = await revoke(world, identity=f"/node/{node_id}", may_return=True, issued_before=gone)
    assert list(answer.serials) == [left.credentials.serial]
    assert set(await denials(world, least=1)) == {f"certificate:{left.credentials.serial}"}
    assert await issue(world, unused, request_for_new_key()[1])
    assert back.credentials.serial in (await revoke(world, identity=f"/node/{node_id}", may_return=True)).serials


@pytest.mark.parametrize(("may_return", "seconds"), [(False, 1_800_000_000), (True, 10**15), (True, -(10**15))])
async def test_identity_when_the_time_can_not_be_right_is_refused_and_loses_nothing(world: World, may_return: bool, seconds: int) -> None:
    member = await node(world)
    with pytest.raises(errors.InvalidArgument) as caught:
        await revoke(
            world,
            identity=f"/node/{member.credentials.spiffe_id.name}",
            may_return=may_return,
            issued_before=Timestamp(seconds=seconds),
        )
    assert [violation.field for violation in caught.value.violations] == ["issued_before"]
    assert await denials(world) == {}


async def test_service_when_it_revokes_may_only_revoke_nodes(world: World) -> None:
    member = await node(world)
    discovery = await _service(world, "discovery")
    for fields in ({"serial": member.credentials.serial}, {"identity": "/user/admin", "may_return": True}):
        with pytest.raises(errors.PermissionDenied) as caught:
            await revoke(world, discovery, **fields)
        assert caught.value.reason == "NODES_ONLY"
    for other in (world.folder("gpio"), member):
        with pytest.raises(errors.PermissionDenied):
            await revoke(world, other, identity=f"/node/{member.credentials.spiffe_id.name}")
    answer = await revoke(world, discovery, identity=f"/node/{member.credentials.spiffe_id.name}")
    assert list(answer.serials) == [member.credentials.serial]


async def _service(world: World, name: str) -> IdentityFolder:
    key, csr = request_for_new_key()
    return folder_of(world, name, key, await issue(world, await world.join_token(service=name), csr))


async def test_own_identities_when_revoked_are_made_anew_at_the_next_start(tmp_path: Any) -> None:
    from tests.rpc.identity.world import running

    async with running(tmp_path, Settings()) as world:
        gpio = world.folder("gpio").credentials.serial
        await revoke(world, identity="/svc/gpio", may_return=True)
    async with wiring.opened(tmp_path / "identity", Settings(), world.clock) as registry:
        done = await local.provision(registry, tmp_path, MEMBERS, world.clock)
        again = await local.provision(registry, tmp_path, MEMBERS, world.clock)
    assert (done.renewed, again.renewed) == (("/svc/gpio",), ())
    assert world.folder("gpio").credentials.serial != gpio


async def test_admin_when_it_revoked_all_of_its_own_has_another_credential_at_once(world: World) -> None:
    before, certificate = world.admin().credentials.serial, world.root / "admin" / "client.pem"
    kept, token = certificate.read_bytes(), world.root / "admin" / "token"
    old_token = token.read_text()
    await revoke(world, identity="/user/admin", may_return=True)
    async with asyncio.timeout(5):  # far less than the hour between rounds of upkeep; the token is written last
        while certificate.read_bytes() == kept or token.read_text() == old_token:
            await asyncio.sleep(0.01)
    assert world.admin().credentials.serial != before
    assert not (await revoke(world, identity="/svc/gpio", may_return=True)).api_tokens, "the new one is taken"


async def test_denials_when_what_they_deny_has_ended_are_told_all_the_same_and_barring_is_not_forgotten(world: World) -> None:
    await api_token(world, "anna", ttl=timedelta(seconds=60))
    await revoke(world, identity="/user/anna")
    assert len(await denials(world, least=2)) == 2
    world.clock.shift = timedelta(minutes=2)  # the token has ended, and verifiers forgive a minute
    first = await api_token(world, "ci")
    await rpc.unary(world.stub(world.admin()).RevokeApiToken, pb.RevokeApiTokenRequest(id=first.id))
    assert len(await denials(world, least=3)) == 3
    world.clock.shift = timedelta(minutes=4)
    second = await api_token(world, "ci")
    await rpc.unary(world.stub(world.admin()).RevokeApiToken, pb.RevokeApiTokenRequest(id=second.id))
    assert len(await denials(world, least=4)) == 4, "whose clock is right?"
    with pytest.raises(errors.FailedPrecondition):
        await api_token(world, "anna")


async def test_denials_when_the_clock_was_ahead_are_kept_and_are_forgotten_at_last(tmp_path: Path) -> None:
    clock = FakeClock()
    async with await Database.open(tmp_path / "identity.db", SCRIPTS) as database:
        tokens, revocations = IdentityStore(database), RevocationStore(database)
        news = News(lambda: Trust(1, "pi-controller.local", b"", ""), revocations, clock)
        following = asyncio.create_task(news.run())

        async def revoke_fresh(token_id: str) -> None:
            now = clock.now()
            token = ApiToken(token_id, "ci", (Role.MONITOR,), now, now + timedelta(days=1))
            await tokens.add_api_token(token, Event("api_token.created", now, resource=token_id))
            await revocations.revoke_api_token(token_id, now)

        async def told_to_a_new_member(version: int) -> list[str]:
            found: dict[int, list[str]] = {}
            while version not in found:
                news.wake()
                await asyncio.sleep(0.005)  # a listener that lacks something does not wait
                async with asyncio.timeout(5), aclosing(news.listen(1, 0)) as heard:
                    tidings = await anext(heard)
                found[tidings.denials_version] = [denial.proof for denial in tidings.denials]
            return found[version]

        await revoke_fresh("a")
        assert await told_to_a_new_member(1) == ["token:a"]
        clock.jump(31 * 86400)
        await revoke_fresh("b")
        clock.jump(-31 * 86400)
        assert await tokens.is_revoked("token:a")
        assert await told_to_a_new_member(2) == ["token:a", "token:b"]
        assert [denial.proof for _, denial in await revocations.denials_after(0)] == ["token:a", "token:b"]
        clock.jump(42 * 86400)
        await revoke_fresh("c")
        assert await told_to_a_new_member(3) == ["token:b", "token:c"]
        assert not await tokens.is_revoked("token:a")
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
