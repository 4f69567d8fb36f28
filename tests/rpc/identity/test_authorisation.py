"""Who may call what of the identity service: every method by every kind of caller."""

from collections.abc import Mapping
from typing import Any

import pytest

from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.core.tls.identity import IdentityFolder
from picontroller.v1 import identity_pb2 as pb
from picontroller.v1 import options_pb2, trust_pb2
from tests.rpc.identity.test_renewing import node
from tests.rpc.identity.world import World, request_for_new_key

ADMIN_ONLY = {
    "CreateJoinToken": pb.CreateJoinTokenRequest(),
    "ListJoinTokens": pb.ListJoinTokensRequest(),
    "RevokeJoinToken": pb.RevokeJoinTokenRequest(id="nobody22"),
    "ListCertificates": pb.ListCertificatesRequest(),
    "CreateApiToken": pb.CreateApiTokenRequest(subject="a", roles=[3]),
    "ListApiTokens": pb.ListApiTokensRequest(),
}
MEMBERS_TOO = {"GetTrustBundle": trust_pb2.GetTrustBundleRequest(), "WhoAmI": pb.WhoAmIRequest()}


async def outcome(world: World, identity: IdentityFolder, method: str, request: Any, proof: Mapping[str, str] | None = None) -> type | None:
    try:
        await rpc.unary(getattr(world.stub(identity), method), request, metadata=proof)
    except errors.Error as error:
        return type(error)
    return None


async def test_methods_when_called_by_services_or_agents_are_only_those_for_members(world: World) -> None:
    for identity in (world.folder("gpio"), await node(world)):
        assert {await outcome(world, identity, name, request) for name, request in ADMIN_ONLY.items()} == {errors.PermissionDenied}
        assert {await outcome(world, identity, name, request) for name, request in MEMBERS_TOO.items()} == {None}


async def test_methods_when_called_by_the_admin_are_all(world: World) -> None:
    outcomes = {name: await outcome(world, world.admin(), name, request) for name, request in (ADMIN_ONLY | MEMBERS_TOO).items()}
    assert outcomes.pop("RevokeJoinToken") is errors.NotFound
    assert set(outcomes.values()) == {None}


@pytest.mark.parametrize("role", [options_pb2.Role.GPIO_OPERATOR, options_pb2.Role.MONITOR])
async def test_methods_when_called_by_other_people_are_only_those_for_members(world: World, role: options_pb2.Role.Value.ValueType) -> None:
    wish = pb.CreateApiTokenRequest(subject="anna", roles=[role])
    token: pb.ApiToken = await rpc.unary(world.stub(world.admin()).CreateApiToken, wish)
    edge, proof = world.folder("gateway/edge"), {"authorization": f"Bearer {token.token}"}
    assert {await outcome(world, edge, name, request, proof) for name, request in ADMIN_ONLY.items()} == {errors.PermissionDenied}
    assert {await outcome(world, edge, name, request, proof) for name, request in MEMBERS_TOO.items()} == {None}


async def test_methods_when_called_by_nobody_are_refused_but_joining(world: World) -> None:
    edge = world.folder("gateway/edge")
    renewal = {"RenewCertificate": pb.RenewCertificateRequest(csr_pem=request_for_new_key()[1])}
    for name, request in (ADMIN_ONLY | MEMBERS_TOO | renewal).items():
        assert await outcome(world, edge, name, request) is errors.Unauthenticated, name
    joining = pb.IssueCertificateRequest(token=await world.join_token(), csr_pem=request_for_new_key()[1])
    assert await outcome(world, edge, "IssueCertificate", joining) is None
