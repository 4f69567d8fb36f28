"""Renewing: the caller gets a new certificate for what it is, and nothing else."""

from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from picontroller.core import errors
from picontroller.core.callers import Role
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc import renewal
from picontroller.core.rpc.authentication import roles_in
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.tls.identity import IdentityFolder, signing_request, spiffe_id_of
from picontroller.v1 import identity_pb2 as pb
from picontroller.v1 import options_pb2
from tests.rpc.identity.test_joining import folder_of, issue
from tests.rpc.identity.world import ShiftedClock, World, request_for_new_key


async def renew(world: World, member: IdentityFolder, **fields: object) -> x509.Certificate:
    csr = fields.pop("csr_pem", None) or request_for_new_key()[1]
    request = pb.RenewCertificateRequest(csr_pem=csr, **fields)  # type: ignore[arg-type]  # fields of the request
    answer: pb.IssuedCertificate = await rpc.unary(world.stub(member).RenewCertificate, request)
    return x509.load_pem_x509_certificates(answer.certificate_chain_pem.encode())[0]


def names_in(leaf: x509.Certificate) -> set[str]:
    found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {*found.get_values_for_type(x509.DNSName), *(str(a) for a in found.get_values_for_type(x509.IPAddress))}


async def node(world: World) -> IdentityFolder:
    key, csr = request_for_new_key()
    return folder_of(world, "node", key, await issue(world, await world.join_token(), csr))


async def test_renewal_when_asked_by_a_member_is_for_that_member(world: World) -> None:
    for identity in (await node(world), world.folder("gpio"), world.folder("gateway")):
        leaf = await renew(world, identity)
        assert spiffe_id_of(leaf) == identity.credentials.spiffe_id
        assert f"{leaf.serial_number:x}" != identity.credentials.serial


async def test_renewal_when_asked_by_a_person_keeps_the_roles(world: World) -> None:
    admin = world.admin()
    leaf = await renew(world, admin)
    assert roles_in(leaf, spiffe_id_of(leaf)) == {Role.CLUSTER_ADMIN}
    assert leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value == x509.ExtendedKeyUsage(
        [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    )


async def test_renewal_when_asked_in_haste_is_refused_while_the_others_renew(world: World) -> None:
    hasty, other = await node(world), world.folder("gpio")
    for _ in range(4):  # with the one that it joined with: five
        await renew(world, hasty)
    with pytest.raises(errors.QuotaExceeded) as caught:
        await renew(world, hasty)
    tenth = world.settings.certificate_seconds / 10
    assert caught.value.reason == "RATE_LIMITED"
    assert caught.value.retry_after == pytest.approx(tenth, abs=60)
    await renew(world, other)
    world.clock.shift = timedelta(seconds=tenth)
    await renew(world, hasty)


async def test_renewal_when_asked_with_a_token_is_refused(world: World) -> None:
    token = (world.root / "admin" / "token").read_text().strip()
    stub = world.stub(world.folder("gateway/edge"))
    request = pb.RenewCertificateRequest(csr_pem=request_for_new_key()[1])
    with pytest.raises(errors.PermissionDenied) as caught:
        await rpc.unary(stub.RenewCertificate, request, metadata={"authorization": f"Bearer {token}"})
    assert caught.value.reason == "CERTIFICATE_NEEDED"


async def test_renewal_when_forwarded_with_the_callers_certificate_is_for_the_caller(world: World) -> None:
    member = await node(world)
    header = f'Cert="{quote(member.credentials.chain_pem.decode().split("-----END")[0] + "-----END CERTIFICATE-----")}"'
    header += f';Chain="{quote(member.credentials.chain_pem.decode())}"'
    stub = world.stub(world.folder("gateway/edge"))
    request = pb.RenewCertificateRequest(csr_pem=request_for_new_key()[1])
    answer: pb.IssuedCertificate = await rpc.unary(stub.RenewCertificate, request, metadata={"x-forwarded-client-cert": header})
    assert answer.spiffe_id == str(member.credentials.spiffe_id)


async def test_gateway_identity_when_renewed_by_the_gateway_keeps_its_names(world: World) -> None:
    leaf = await renew(world, world.folder("gateway"), identity="/gateway")
    assert str(spiffe_id_of(leaf)) == "spiffe://pi-controller.local/gateway"
    assert names_in(leaf) == {"gateway.pi-controller.local", "localhost", "127.0.0.1", "::1", "192.0.2.7", "pi.example.org"}


async def test_gateway_identity_when_renewed_by_others_is_refused(world: World) -> None:
    for identity in (world.folder("gpio"), world.admin(), await node(world)):
        with pytest.raises(errors.PermissionDenied) as caught:
            await renew(world, identity, identity="/gateway")
        assert caught.value.reason == "NOT_GATEWAY"


async def test_names_when_added_are_kept_for_the_next_renewal(world: World) -> None:
    gateway = world.folder("gateway")
    leaf = await renew(world, gateway, identity="/gateway", san=["Pi4.Example.ORG", "fe80::1"])
    assert {"pi4.example.org", "fe80::1", "pi.example.org"} <= names_in(leaf)
    assert names_in(await renew(world, gateway, identity="/gateway")) == names_in(leaf)


@pytest.mark.parametrize("name", ["identity.pi-controller.local", "events.pi-controller.local", "pi-controller.local", "pi.example.org"])
async def test_names_when_they_belong_to_others_are_refused(world: World, name: str) -> None:
    with pytest.raises(errors.PermissionDenied) as caught:
        await renew(world, world.folder("gpio"), san=[name])
    assert caught.value.reason == "NAMES_REFUSED"


async def test_names_when_addresses_are_shared_by_members_of_one_machine(world: World) -> None:
    assert "192.0.2.7" in names_in(await renew(world, world.folder("gpio"), san=["192.0.2.7"]))


async def test_names_when_asked_by_agents_or_people_are_refused(world: World) -> None:
    for identity in (await node(world), world.admin()):
        with pytest.raises(errors.PermissionDenied) as caught:
            await renew(world, identity, san=["pi7.example.org"])
        assert caught.value.reason == "NAMES_REFUSED"


@pytest.mark.parametrize("name", ["0.0.0.0", "::", "1.2.3", "-a.example", "a..b", "a.", "224.0.0.1", "x" * 64 + ".org"])
async def test_names_when_they_are_none_are_an_invalid_argument(world: World, name: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        await renew(world, world.folder("gpio"), san=["good.example.org", name])
    assert [violation.field for violation in caught.value.violations] == ["san[1]"]


async def test_renewal_when_the_key_is_the_old_one_is_refused(world: World) -> None:
    gpio = world.folder("gpio")
    key = serialization.load_pem_private_key(gpio.credentials.key_pem, None)
    world.clock.shift = timedelta(minutes=2)
    with pytest.raises(errors.InvalidArgument) as caught:
        await renew(world, gpio, csr_pem=signing_request(key).decode())  # type: ignore[arg-type]  # an EC key
    assert caught.value.reason == "KEY_REUSED"


async def test_renewal_when_repeated_with_the_same_key_gives_the_same_certificate(world: World) -> None:
    _, csr = request_for_new_key()
    gpio = world.folder("gpio")
    assert await renew(world, gpio, csr_pem=csr) == await renew(world, gpio, csr_pem=csr)
    with pytest.raises(errors.InvalidArgument):
        await renew(world, world.folder("gateway"), csr_pem=csr)


async def test_renewal_when_made_by_the_background_work_is_stored(world: World) -> None:
    later = ShiftedClock()
    later.shift = timedelta(days=25)
    gateway = world.folder("gateway")
    edge = world.folder("gateway/edge")
    mesh = Mesh(gateway, {"identity": world.address})
    before = (gateway.credentials.serial, edge.credentials.serial)
    await renewal.for_service(mesh, later).step()
    await renewal.for_edge(mesh, edge, later).step()
    assert gateway.credentials.serial != before[0]
    assert edge.credentials.serial != before[1]
    read = IdentityFolder(Path(gateway.path))
    read.load()
    assert read.credentials == gateway.credentials
    await mesh.close()


async def test_events_when_identities_change_tell_who_and_until_when(world: World) -> None:
    member = await node(world)
    leaf = await renew(world, member)
    used, issued, renewed = world.events()[-3:]
    node_id, spiffe_id = member.credentials.spiffe_id.name, str(member.credentials.spiffe_id)
    assert (used["type"], used["data"]) == ("token.used", {"used_by": spiffe_id})
    assert (issued["type"], issued["resource"], issued["node_id"]) == ("certificate.issued", spiffe_id, node_id)
    data = {"serial": f"{leaf.serial_number:x}", "expire_time": leaf.not_valid_after_utc.isoformat()}
    assert (renewed["type"], renewed["resource"], renewed["data"]) == ("certificate.renewed", spiffe_id, data)


async def test_who_am_i_when_called_with_a_token_says_so(world: World) -> None:
    token = (world.root / "admin" / "token").read_text().strip()
    stub = world.stub(world.folder("gateway/edge"))
    who: pb.Principal = await rpc.unary(stub.WhoAmI, pb.WhoAmIRequest(), metadata={"authorization": f"Bearer {token}"})
    assert (who.spiffe_id, who.method) == ("spiffe://pi-controller.local/user/admin", "token")
    assert list(who.roles) == [options_pb2.Role.CLUSTER_ADMIN]
