"""Joining: token in, identity out."""

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509

from picontroller.core import errors
from picontroller.core.callers import parse_spiffe_id
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc import renewal
from picontroller.core.tls import joining
from picontroller.core.tls.identity import IdentityFolder
from picontroller.v1 import identity_pb2 as pb
from tests.rpc.identity.world import World, request_for_new_key

NODE = "5f0c1e6a-2b7e-4a57-9b6f-0d9f6a7d1c11"


async def issue(world: World, token: str, csr: str) -> pb.IssuedCertificate:
    """Join as a stranger does: through the gateway, without any proof."""
    stub = world.stub(world.folder("gateway/edge"))
    answer: pb.IssuedCertificate = await rpc.unary(stub.IssueCertificate, pb.IssueCertificateRequest(token=token, csr_pem=csr))
    return answer


async def refused(world: World, token: str, csr: str) -> errors.Error:
    with pytest.raises(errors.Error) as caught:
        await issue(world, token, csr)
    return caught.value


def folder_of(world: World, name: str, key: bytes, answer: pb.IssuedCertificate) -> IdentityFolder:
    issued = renewal.issued_from(answer)
    folder = IdentityFolder(world.root / name)
    folder.store(renewal.accepted(key, issued, parse_spiffe_id(answer.spiffe_id)), issued.trust)
    return folder


async def test_join_when_token_is_good_gives_an_identity_that_works(world: World) -> None:
    token = await world.join_token(description="kitchen")
    key, csr = request_for_new_key()
    answer = await issue(world, token, csr)
    assert answer.spiffe_id == f"spiffe://pi-controller.local/node/{answer.node_id}"
    assert joining.pinned(answer.trust_bundle.roots_pem.encode(), joining.parse_token(token).root_hash)
    who: pb.Principal = await rpc.unary(world.stub(folder_of(world, "node", key, answer)).WhoAmI, pb.WhoAmIRequest())
    assert (who.spiffe_id, who.method) == (answer.spiffe_id, "certificate")
    assert who.expire_time == answer.expire_time


async def test_join_when_twice_with_two_tokens_gives_two_nodes(world: World) -> None:
    first = await issue(world, await world.join_token(), request_for_new_key()[1])
    second = await issue(world, await world.join_token(), request_for_new_key()[1])
    assert first.node_id != second.node_id
    assert first.serial != second.serial


async def test_join_when_token_is_bound_to_a_node_gives_that_node(world: World) -> None:
    answer = await issue(world, await world.join_token(node_id=NODE), request_for_new_key()[1])
    assert (answer.node_id, answer.spiffe_id) == (NODE, f"spiffe://pi-controller.local/node/{NODE}")


@pytest.mark.parametrize("service", ["gpio", "gateway"])
async def test_join_when_token_is_bound_to_a_service_gives_that_service(world: World, service: str) -> None:
    answer = await issue(world, await world.join_token(service=service), request_for_new_key()[1])
    assert (answer.spiffe_id, answer.node_id) == (f"spiffe://pi-controller.local/svc/{service}", "")
    leaf = x509.load_pem_x509_certificates(answer.certificate_chain_pem.encode())[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    dns = names.get_values_for_type(x509.DNSName)
    assert dns[:2] == [f"{service}.pi-controller.local", "localhost"]


async def test_join_when_repeated_with_the_same_key_gives_the_same_certificate(world: World) -> None:
    token, (_, csr) = await world.join_token(), request_for_new_key()
    first = await issue(world, token, csr)
    world.clock.shift = timedelta(seconds=50)
    assert await issue(world, token, csr) == first


async def test_join_when_repeated_too_late_is_refused(world: World) -> None:
    token, (_, csr) = await world.join_token(), request_for_new_key()
    await issue(world, token, csr)
    world.clock.shift = timedelta(seconds=62)
    assert (await refused(world, token, csr)).reason == "TOKEN_USED"


async def test_join_when_token_is_of_no_use_gives_one_and_the_same_answer(world: World) -> None:
    token, revoked, late = await world.join_token(), await world.join_token(), await world.join_token(ttl=timedelta(seconds=10))
    admin = world.stub(world.admin())
    await rpc.unary(admin.RevokeJoinToken, pb.RevokeJoinTokenRequest(id=joining.parse_token(revoked).id))
    parts = joining.parse_token(token)
    unknown = joining.JoinTokenParts(parts.root_hash, "nobody22", parts.secret).text()
    wrong = joining.JoinTokenParts(parts.root_hash, parts.id, joining.new_secret()).text()
    foreign = joining.JoinTokenParts(bytes(32), parts.id, parts.secret).text()
    world.clock.shift = timedelta(seconds=11)
    answers = [await refused(world, text, request_for_new_key()[1]) for text in (revoked, late, unknown, wrong, foreign)]
    assert {type(error) for error in answers} == {errors.Unauthenticated}
    assert len({(error.reason, error.message) for error in answers}) == 1
    assert answers[0].reason == "TOKEN_INVALID"
    assert (await issue(world, token, request_for_new_key()[1])).node_id


async def test_join_when_text_is_no_token_is_an_invalid_argument(world: World) -> None:
    secret = joining.new_secret()
    for text in ("x", f"PC1.AAAA.id.{secret}", f"PC2.{'A' * 52}.id.{secret}", f"PC1.{'A' * 52}.id.{secret}x"):
        error = await refused(world, text, request_for_new_key()[1])
        assert isinstance(error, errors.InvalidArgument)
        assert error.reason == "TOKEN_MALFORMED"
        assert secret not in error.message


async def test_join_when_key_is_another_members_is_refused_and_keeps_the_token(world: World) -> None:
    _, csr = request_for_new_key()
    await issue(world, await world.join_token(), csr)
    token = await world.join_token()
    error = await refused(world, token, csr)
    assert isinstance(error, errors.InvalidArgument)
    assert error.reason == "KEY_REUSED"
    assert (await issue(world, token, request_for_new_key()[1])).node_id


async def test_join_token_when_used_says_by_whom(world: World) -> None:
    answer = await issue(world, await world.join_token(description="roof"), request_for_new_key()[1])
    listed: pb.ListJoinTokensResponse = await rpc.unary(world.stub(world.admin()).ListJoinTokens, pb.ListJoinTokensRequest())
    token = listed.tokens[0]
    assert (token.description, token.used_by, token.token) == ("roof", answer.spiffe_id, "")
    assert token.HasField("use_time")


async def test_join_tokens_when_listed_by_pages_are_complete_and_newest_first(world: World) -> None:
    stub = world.stub(world.admin())
    made = [joining.parse_token(await world.join_token()).id for _ in range(5)]
    found: list[str] = []
    request = pb.ListJoinTokensRequest(page_size=2)
    for _ in range(3):
        page: pb.ListJoinTokensResponse = await rpc.unary(stub.ListJoinTokens, request)
        found += [token.id for token in page.tokens]
        request.page_token = page.next_page_token
    assert found == made[::-1]
    assert not request.page_token


async def test_page_token_when_of_another_listing_is_refused(world: World) -> None:
    stub = world.stub(world.admin())
    page: Any = await rpc.unary(stub.ListCertificates, pb.ListCertificatesRequest(page_size=1))
    with pytest.raises(errors.InvalidArgument) as caught:
        await rpc.unary(stub.ListJoinTokens, pb.ListJoinTokensRequest(page_token=page.next_page_token))
    assert caught.value.reason == "PAGE_TOKEN_INVALID"


async def test_join_token_when_revoked_twice_stays_revoked(world: World) -> None:
    stub = world.stub(world.admin())
    token_id = joining.parse_token(await world.join_token()).id
    for _ in range(2):
        await rpc.unary(stub.RevokeJoinToken, pb.RevokeJoinTokenRequest(id=token_id))
    with pytest.raises(errors.NotFound):
        await rpc.unary(stub.RevokeJoinToken, pb.RevokeJoinTokenRequest(id="nobody22"))


async def test_join_token_when_used_can_not_be_revoked(world: World) -> None:
    token = await world.join_token()
    await issue(world, token, request_for_new_key()[1])
    with pytest.raises(errors.FailedPrecondition) as caught:
        await rpc.unary(world.stub(world.admin()).RevokeJoinToken, pb.RevokeJoinTokenRequest(id=joining.parse_token(token).id))
    assert caught.value.reason == "TOKEN_USED"


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"ttl": timedelta(seconds=9)}, "ttl"),
        ({"ttl": timedelta(hours=25)}, "ttl"),
        ({"node_id": "kitchen"}, "node_id"),
        ({"service": "root"}, "service"),
        ({"node_id": NODE, "service": "gpio"}, "(message)"),
        ({"description": "x" * 201}, "description"),
    ],
)
async def test_join_token_when_wish_is_wrong_names_the_field(world: World, fields: dict[str, object], wrong: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        await world.join_token(**fields)
    assert [violation.field for violation in caught.value.violations] == [wrong]
