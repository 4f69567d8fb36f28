"""API tokens and the trust bundle: what one service signs, every other can verify."""

import json
from datetime import UTC, timedelta

import jwt
import pytest

from picontroller.core import errors
from picontroller.core.callers import Role
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc import renewal
from picontroller.core.rpc.forwarding import ForwardedProofs
from picontroller.v1 import identity_pb2 as pb
from picontroller.v1 import options_pb2, trust_pb2
from tests.rpc.identity.world import World

OPERATOR, MONITOR, AGENT = options_pb2.Role.GPIO_OPERATOR, options_pb2.Role.MONITOR, options_pb2.Role.AGENT


async def make(world: World, **fields: object) -> pb.ApiToken:
    request = pb.CreateApiTokenRequest(**{"subject": "ci", "roles": [MONITOR], **fields})  # type: ignore[arg-type]  # fields of the request
    made: pb.ApiToken = await rpc.unary(world.stub(world.admin()).CreateApiToken, request)
    return made


async def trust_of(world: World) -> trust_pb2.TrustBundle:
    answer: trust_pb2.TrustBundle = await rpc.unary(world.stub(world.folder("gpio")).GetTrustBundle, trust_pb2.GetTrustBundleRequest())
    return answer


async def test_api_token_when_made_is_believed_by_every_service(world: World) -> None:
    token = await make(world, roles=[OPERATOR, MONITOR], ttl=timedelta(hours=1))
    trust = renewal.trust_from(await trust_of(world))
    caller = ForwardedProofs(lambda: trust).caller({"authorization": f"Bearer {token.token}"})
    assert caller is not None
    assert str(caller.identity) == "spiffe://pi-controller.local/user/ci"
    assert caller.roles == {Role.GPIO_OPERATOR, Role.MONITOR}
    assert caller.expires == token.expire_time.ToDatetime(UTC).timestamp()


async def test_api_token_when_made_says_what_was_asked(world: World) -> None:
    token = await make(world, roles=[OPERATOR])
    claims = jwt.decode(token.token, options={"verify_signature": False})
    assert claims["jti"] == token.id
    assert (claims["iss"], claims["aud"], claims["sub"], claims["roles"]) == (
        "pi-controller.local",
        "pi-controller",
        "ci",
        ["GPIO_OPERATOR"],
    )
    assert claims["exp"] - claims["iat"] == 24 * 3600
    keys = json.loads((await trust_of(world)).jwks_json)["keys"]
    assert [(key["kid"], key["alg"], key["use"]) for key in keys] == [(jwt.get_unverified_header(token.token)["kid"], "ES256", "sig")]


async def test_api_token_when_it_has_ended_is_not_believed(world: World) -> None:
    world.clock.shift = timedelta(minutes=-3)  # verifiers go by the machine's clock and forgive a minute
    token = await make(world, ttl=timedelta(seconds=60))
    world.clock.shift = timedelta(0)
    stub = world.stub(world.folder("gateway/edge"))
    with pytest.raises(errors.Unauthenticated) as caught:
        await rpc.unary(stub.WhoAmI, pb.WhoAmIRequest(), metadata={"authorization": f"Bearer {token.token}"})
    assert caught.value.reason == "TOKEN_EXPIRED"


async def test_api_tokens_when_listed_show_no_secret(world: World) -> None:
    made = await make(world)
    page: pb.ListApiTokensResponse = await rpc.unary(world.stub(world.admin()).ListApiTokens, pb.ListApiTokensRequest(page_size=1))
    assert [(token.id, token.subject, list(token.roles), token.token) for token in page.api_tokens] == [(made.id, "ci", [MONITOR], "")]
    rest = pb.ListApiTokensRequest(page_token=page.next_page_token)
    page = await rpc.unary(world.stub(world.admin()).ListApiTokens, rest)
    assert [token.subject for token in page.api_tokens] == ["admin"]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"subject": ""}, "subject"),
        ({"subject": "../admin"}, "subject"),
        ({"roles": []}, "roles"),
        ({"roles": [AGENT]}, "roles[0]"),
        ({"roles": [MONITOR, MONITOR]}, "roles"),
        ({"ttl": timedelta(days=367)}, "ttl"),
        ({"ttl": timedelta(seconds=59)}, "ttl"),
    ],
)
async def test_api_token_when_wish_is_wrong_names_the_field(world: World, fields: dict[str, object], wrong: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        await make(world, **fields)
    assert {violation.field for violation in caught.value.violations} == {wrong}


async def test_certificates_when_listed_are_what_was_issued(world: World) -> None:
    stub = world.stub(world.admin())
    page: pb.ListCertificatesResponse = await rpc.unary(stub.ListCertificates, pb.ListCertificatesRequest())
    paths = [certificate.spiffe_id.removeprefix("spiffe://pi-controller.local") for certificate in page.certificates]
    assert paths == ["/user/admin", "/gateway", "/svc/gateway", "/svc/gpio", "/svc/identity"]
    gpio = world.folder("gpio").credentials
    assert page.certificates[3].serial == gpio.serial
    assert page.certificates[3].expire_time.ToDatetime(UTC) == gpio.not_after
    assert page.certificates[3].start_time.ToDatetime(UTC) == gpio.not_before


async def test_trust_bundle_when_nothing_changed_keeps_its_version(world: World) -> None:
    bundle = await trust_of(world)
    assert renewal.trust_from(bundle) == world.folder("gpio").trust
    assert bundle.version == 1
