"""Who may call what: the matrix of roles and methods, and agents that act for others."""

from typing import Any

import pytest

from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.v1 import discovery_pb2 as v1
from tests.rpc.discovery.world import World, new_node_id, registration

ME, OTHER = new_node_id(), new_node_id()
CALLERS = {
    "admin": ("user/anna", "cluster-admin"),
    "operator": ("user/otto", "gpio-operator"),
    "monitor": ("user/mona", "monitor"),
    "nobody": ("user/nick", "no-role-of-ours"),
    "agent": (f"node/{ME}",),
    "gpio": ("svc/gpio",),
    "provisioner": ("svc/provisioner",),
    "clusters": ("svc/clusters",),
}
SERVICES = {"gpio", "provisioner", "clusters"}
ALLOWED = {
    "ListNodes": {"admin", "operator", "monitor"} | SERVICES,
    "GetNode": {"admin", "operator", "monitor", "agent"} | SERVICES,
    "UpdateNode": {"admin", "provisioner", "clusters"},
    "DeleteNode": {"admin"},
    "RegisterNode": {"agent"},
    "UnregisterNode": {"agent"},
    "ReportHealth": {"agent"},
    "WatchNodes": {"admin", "operator", "monitor"} | SERVICES,
}
REQUESTS: dict[str, Any] = {
    "ListNodes": v1.ListNodesRequest(),
    "GetNode": v1.GetNodeRequest(id=ME),
    "UpdateNode": v1.UpdateNodeRequest(id=ME, labels={"a": "1"}),
    "DeleteNode": v1.DeleteNodeRequest(id=ME),
    "RegisterNode": registration(ME),
    "UnregisterNode": v1.UnregisterNodeRequest(id=ME),
    "ReportHealth": v1.ReportHealthRequest(id=ME),
    "WatchNodes": v1.WatchNodesRequest(),
}


def test_matrix_when_the_proto_grows_has_every_method() -> None:
    assert set(ALLOWED) == set(REQUESTS) == set(v1.DESCRIPTOR.services_by_name["DiscoveryService"].methods_by_name)


@pytest.mark.parametrize("method", sorted(ALLOWED))
async def test_method_when_called_by_each_role_serves_only_those_listed(world: World, method: str) -> None:
    let_in, refusals = set(), set()
    for name, caller in CALLERS.items():
        call = getattr(world.stub(*caller), method)
        try:
            if method == "WatchNodes":
                async for _ in rpc.stream(call, REQUESTS[method]):
                    break
            else:
                await rpc.unary(call, REQUESTS[method])
            let_in.add(name)
        except errors.PermissionDenied as error:
            refusals.add(error.reason)
        except errors.NotFound:
            let_in.add(name)
    assert let_in == ALLOWED[method]
    assert refusals == {"ROLE_MISSING"}


@pytest.mark.parametrize("method", ["GetNode", "RegisterNode", "UnregisterNode", "ReportHealth"])
async def test_agent_when_it_acts_for_another_node_is_refused(world: World, method: str) -> None:
    before = await world.register(ME)
    with pytest.raises(errors.PermissionDenied) as caught:
        await rpc.unary(getattr(world.stub(f"node/{OTHER}"), method), REQUESTS[method])
    assert caught.value.reason == "NOT_OWN_NODE"
    assert await world.get(ME) == before
    assert await world.event_types() == ["node.discovered"]
