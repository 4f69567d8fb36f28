"""The gateway carries its callers' authority and has none; nobody else can carry anything."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from picontroller.core.version import version
from picontroller.v1 import discovery_pb2, discovery_pb2_grpc, identity_pb2, identity_pb2_grpc
from tests.fakes.authority import FakeAuthority
from tests.permissions.requests import NODE, OTHER
from tests.permissions.world import Caller, World, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

DOMAIN = "spiffe://pi-controller.local"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with running(tmp_path_factory.mktemp("carrying")) as world:
        yield world


async def who(world: World, caller: Caller) -> identity_pb2.Principal:
    stub = identity_pb2_grpc.IdentityServiceStub(world.channel(caller, "identity"))
    answer: identity_pb2.Principal = await stub.WhoAmI(identity_pb2.WhoAmIRequest(), timeout=10, metadata=caller.metadata)
    return answer


async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


@pytest.mark.parametrize("caller", ["own agent", "operator", "monitor", "svc/gpio", "svc/gateway"])
async def test_proofs_when_anybody_but_the_gateway_carries_them_change_nothing(world: World, caller: str) -> None:
    honest = world.callers[caller]
    before = await who(world, honest)
    admin = world.callers["admin"].identity
    assert admin is not None
    for spoofed in (
        world.bearer("CLUSTER_ADMIN"),
        world.carried(admin),
        (("authorization", "Bearer rubbish"),),
        (("x-forwarded-client-cert", "rubbish"), ("x-client-address", "192.0.2.99"), ("x-forwarded-for", "192.0.2.99")),
    ):
        assert await who(world, Caller(honest.identity, spoofed)) == before
        lists = identity_pb2_grpc.IdentityServiceStub(world.channel(honest, "identity")).ListCertificates
        code, _ = await refusal(lists(identity_pb2.ListCertificatesRequest(), timeout=10, metadata=spoofed))
        assert code is grpc.StatusCode.PERMISSION_DENIED


async def test_gateway_when_it_carries_nothing_is_nobody(world: World) -> None:
    assert (await refusal(who(world, world.callers["gateway alone"])))[0] is grpc.StatusCode.UNAUTHENTICATED


async def test_gateway_when_it_carries_a_certificate_that_is_not_good_is_refused(world: World) -> None:
    edge, foreign = world.callers["gateway alone"], FakeAuthority()
    expired, gateway = world.callers["expired"].identity, edge.identity
    assert expired is not None
    assert gateway is not None
    stranger = foreign.identity(world.folder / "stranger", "user/anna", roles=("cluster-admin",))
    for identity in (stranger, expired, gateway):
        code, text = await refusal(who(world, Caller(edge.identity, world.carried(identity))))
        assert code is grpc.StatusCode.UNAUTHENTICATED, identity.credentials.spiffe_id
        assert "certificate" in text
    for header in ("rubbish", "Cert=", 'Cert="x"', "By=a;Hash=b", f"{world.carried(expired)[0][1]},{world.carried(expired)[0][1]}"):
        code, _ = await refusal(who(world, Caller(edge.identity, (("x-forwarded-client-cert", header),))))
        assert code is grpc.StatusCode.UNAUTHENTICATED, header


async def test_certificate_when_shown_as_somebodys_token_is_no_token(world: World) -> None:
    """A certificate is no secret: who knows the header that the gateway wrote for another must not pass for that one."""
    carried = world.callers["carried admin"]
    assert (await who(world, carried)).spiffe_id == f"{DOMAIN}/user/anna"
    header = dict(carried.metadata)["x-forwarded-client-cert"]
    code, _ = await refusal(who(world, Caller(carried.identity, (("authorization", f"Bearer {header}"),))))
    assert code is grpc.StatusCode.UNAUTHENTICATED


async def test_gateway_when_it_carries_token_and_certificate_counts_the_token_alone(world: World) -> None:
    edge, admin = world.callers["gateway alone"], world.callers["admin"].identity
    assert admin is not None
    both = (*world.bearer("MONITOR", subject="mona"), *world.carried(admin))
    assert (await who(world, Caller(edge.identity, both))).spiffe_id == f"{DOMAIN}/user/mona"
    code, _ = await refusal(who(world, Caller(edge.identity, (("authorization", "Bearer rubbish"), *world.carried(admin)))))
    assert code is grpc.StatusCode.UNAUTHENTICATED


async def test_abuse_35_call_outside_the_matrix_changes_nothing(world: World) -> None:
    admin = discovery_pb2_grpc.DiscoveryServiceStub(world.channel(world.callers["admin"], "discovery"))
    agent = discovery_pb2_grpc.DiscoveryServiceStub(world.channel(world.callers["own agent"], "discovery"))
    await agent.RegisterNode(registration(NODE), timeout=10)
    before = await admin.ListNodes(discovery_pb2.ListNodesRequest(), timeout=10)
    for caller in ("monitor", "operator", "svc/gpio", "other agent"):
        stub = discovery_pb2_grpc.DiscoveryServiceStub(world.channel(world.callers[caller], "discovery"))
        for call in (
            stub.UpdateNode(discovery_pb2.UpdateNodeRequest(id=NODE, labels={"a": "1"}), timeout=10),
            stub.DeleteNode(discovery_pb2.DeleteNodeRequest(id=NODE), timeout=10),
        ):
            assert (await refusal(call))[0] is grpc.StatusCode.PERMISSION_DENIED
    assert await admin.ListNodes(discovery_pb2.ListNodesRequest(), timeout=10) == before


@pytest.mark.parametrize("way", ["direct", "through the gateway"])
async def test_abuse_36_agent_that_speaks_for_another_node_is_denied_and_changes_nothing(world: World, way: str) -> None:
    admin = discovery_pb2_grpc.DiscoveryServiceStub(world.channel(world.callers["admin"], "discovery"))
    own = discovery_pb2_grpc.DiscoveryServiceStub(world.channel(world.callers["own agent"], "discovery"))
    await own.RegisterNode(registration(NODE), timeout=10)
    before = await admin.GetNode(discovery_pb2.GetNodeRequest(id=NODE), timeout=10)
    caller = world.callers["other agent" if way == "direct" else "carried other agent"]
    stub = discovery_pb2_grpc.DiscoveryServiceStub(world.channel(caller, "discovery"))
    for call in (
        stub.RegisterNode(registration(NODE, hostname="taken-over"), timeout=10, metadata=caller.metadata),
        stub.ReportHealth(discovery_pb2.ReportHealthRequest(id=NODE, problems=["LIE: all is lost"]), timeout=10, metadata=caller.metadata),
        stub.UnregisterNode(discovery_pb2.UnregisterNodeRequest(id=NODE), timeout=10, metadata=caller.metadata),
        stub.GetNode(discovery_pb2.GetNodeRequest(id=NODE), timeout=10, metadata=caller.metadata),
        stub.ListNodes(discovery_pb2.ListNodesRequest(), timeout=10, metadata=caller.metadata),
    ):
        assert (await refusal(call))[0] is grpc.StatusCode.PERMISSION_DENIED
    assert await admin.GetNode(discovery_pb2.GetNodeRequest(id=NODE), timeout=10) == before
    code, _ = await refusal(admin.GetNode(discovery_pb2.GetNodeRequest(id=OTHER), timeout=10))
    assert code is grpc.StatusCode.NOT_FOUND


def registration(node_id: str, hostname: str = "pi-1") -> discovery_pb2.RegisterNodeRequest:
    """Return what a Pi says of itself."""
    request = discovery_pb2.RegisterNodeRequest(
        id=node_id,
        hostname=hostname,
        ip_address="192.0.2.7",
        architecture="aarch64",
        agent_version=version(),
        agent_address="192.0.2.7:7450",
    )
    request.capabilities.model = "Raspberry Pi 3 Model B"
    return request
