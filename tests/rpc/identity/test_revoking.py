"""Revoking: what was good a moment ago is refused, and whoever is to stay out gets nothing any more."""

from datetime import timedelta
from typing import Any

import pytest

from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.core.tls.identity import IdentityFolder
from picontroller.identity import local, wiring
from picontroller.identity.settings import Settings
from picontroller.v1 import identity_pb2 as pb
from picontroller.v1 import options_pb2, trust_pb2
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


async def denials(world: World, after: int = 0) -> dict[str, float]:
    """Return the denials that a member without any is told first."""
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
    told = await denials(world)
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
    told = await denials(world)
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
    assert set(await denials(world)) == {f"certificate:{member.credentials.serial}"}
    assert (await renewal_refused(world, member)).reason == "PROOF_REVOKED"
    assert (await refused(world, older, request_for_new_key()[1])).reason == "TOKEN_INVALID"
    again = await node(world, "again", node_id=NODE)
    who = await rpc.unary(world.stub(again).WhoAmI, pb.WhoAmIRequest())
    assert who.spiffe_id == str(member.credentials.spiffe_id)


async def test_user_when_revoked_loses_tokens_and_gets_no_more(world: World) -> None:
    first, second, other = await api_token(world, "anna"), await api_token(world, "anna"), await api_token(world, "bert")
    answer = await revoke(world, identity="/user/anna", reason="left")
    assert set(answer.api_tokens) == {first.id, second.id}
    assert set(await denials(world)) == {f"token:{first.id}", f"token:{second.id}", "spiffe://pi-controller.local/user/anna"}
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
    assert set(await denials(world)) == {f"token:{token.id}"}
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
        gpio, admin = world.folder("gpio").credentials.serial, world.admin().credentials.serial
        token = (tmp_path / "admin" / "token").read_text()
        await revoke(world, identity="/svc/gpio", may_return=True)
        await revoke(world, identity="/user/admin", may_return=True)
    async with wiring.opened(tmp_path / "identity", Settings(), world.clock) as registry:
        done = await local.provision(registry, tmp_path, MEMBERS, world.clock)
        again = await local.provision(registry, tmp_path, MEMBERS, world.clock)
    assert (done.renewed, again.renewed) == (("/svc/gpio", "/user/admin"), ())
    assert world.folder("gpio").credentials.serial != gpio
    assert world.admin().credentials.serial != admin
    assert (tmp_path / "admin" / "token").read_text() != token


async def test_denials_when_what_they_deny_has_ended_are_forgotten_and_barring_is_not(world: World) -> None:
    await api_token(world, "anna", ttl=timedelta(seconds=60))
    await revoke(world, identity="/user/anna")
    assert len(await denials(world)) == 2
    world.clock.shift = timedelta(minutes=2)  # the token has ended, and verifiers forgive a minute
    first = await api_token(world, "ci")
    await rpc.unary(world.stub(world.admin()).RevokeApiToken, pb.RevokeApiTokenRequest(id=first.id))
    assert len(await denials(world)) == 3
    world.clock.shift = timedelta(minutes=4)
    second = await api_token(world, "ci")
    await rpc.unary(world.stub(world.admin()).RevokeApiToken, pb.RevokeApiTokenRequest(id=second.id))
    assert set(await denials(world)) == {f"token:{first.id}", f"token:{second.id}"}
    with pytest.raises(errors.FailedPrecondition):
        await api_token(world, "anna")
