"""What methods declare: a permission that is missing, or that could not be checked as it is meant, keeps a server from starting."""

from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from picontroller.core.callers import ANONYMOUS, Caller, Role, SpiffeId
from picontroller.core.errors import PermissionDenied, Unauthenticated
from picontroller.core.rpc.permissions import CallClass, Permission, declared
from picontroller.core.rpc.server import Server, permission_of
from picontroller.v1 import options_pb2

ADMIN = Caller(SpiffeId("d", "user", "anna"), frozenset({Role.CLUSTER_ADMIN}), "certificate", float("inf"))
AGENT = Caller(SpiffeId("d", "node", "n1"), frozenset({Role.AGENT}), "certificate", float("inf"))
GPIO = Caller(SpiffeId("d", "svc", "gpio"), frozenset({Role.SERVICE}), "certificate", float("inf"))
ROLES = options_pb2.Role


def service(name: str, permission: options_pb2.Permission | None, *, streaming: bool = False) -> str:
    """Put a service with one method ``Do`` into the pool of descriptors and return its name; its request has a text, a number, a list."""
    kinds = descriptor_pb2.FieldDescriptorProto
    request = descriptor_pb2.DescriptorProto(name=f"{name}Request")
    request.field.add(name="id", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    request.field.add(name="count", number=2, type=kinds.TYPE_INT32, label=kinds.LABEL_OPTIONAL)
    request.field.add(name="ids", number=3, type=kinds.TYPE_STRING, label=kinds.LABEL_REPEATED)
    file = descriptor_pb2.FileDescriptorProto(name=f"tests/declaring/{name}.proto", package="tests.declaring", syntax="proto3")
    file.message_type.append(request)
    path = f".tests.declaring.{name}Request"
    method = file.service.add(name=name).method.add(name="Do", input_type=path, output_type=path, client_streaming=streaming)
    if permission is not None:
        method.options.Extensions[options_pb2.permission].CopyFrom(permission)
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
    return f"tests.declaring.{name}"


def built(name: str) -> Server:
    def register(server: Any) -> None:
        handler = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
        server.add_registered_method_handlers(name, {"Do": handler})

    return Server([register], [])


READ = options_pb2.CallClass.READ
BAD: dict[str, tuple[options_pb2.Permission | None, bool]] = {
    "Nothing": (None, False),
    "NoRole": (options_pb2.Permission(call_class=READ), False),
    "NoClass": (options_pb2.Permission(roles=[ROLES.CLUSTER_ADMIN]), False),
    "UnspecifiedRole": (options_pb2.Permission(roles=[ROLES.UNSPECIFIED, ROLES.MONITOR], call_class=READ), False),
    "NamesWithoutService": (options_pb2.Permission(roles=[ROLES.MONITOR], services=["gpio"], call_class=READ), False),
    "FieldWithoutAgent": (options_pb2.Permission(roles=[ROLES.MONITOR], own_node_field="id", call_class=READ), False),
    "FieldThatIsNot": (options_pb2.Permission(roles=[ROLES.AGENT], own_node_field="node_id", call_class=READ), False),
    "FieldOfNumbers": (options_pb2.Permission(roles=[ROLES.AGENT], own_node_field="count", call_class=READ), False),
    "FieldOfMany": (options_pb2.Permission(roles=[ROLES.AGENT], own_node_field="ids", call_class=READ), False),
    "FieldOfStream": (options_pb2.Permission(roles=[ROLES.AGENT], own_node_field="id", call_class=READ), True),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_abuse_37_method_without_a_sound_permission_keeps_its_server_from_starting(name: str) -> None:
    permission, streaming = BAD[name]
    made = service(name, permission, streaming=streaming)
    with pytest.raises(LookupError, match=f"{made}/Do"):
        built(made)


@pytest.mark.parametrize("caller", [ADMIN, AGENT, GPIO])
def test_abuse_37_method_that_is_served_by_force_without_a_permission_is_denied_to_everyone(caller: Caller) -> None:
    with pytest.raises(PermissionDenied) as caught:
        Permission(frozenset()).check("Do", caller, None)
    assert caught.value.reason == "ROLE_MISSING"
    with pytest.raises(Unauthenticated):
        Permission(frozenset()).check("Do", ANONYMOUS, None)


async def test_method_when_its_permission_is_sound_is_served_with_it() -> None:
    asked = options_pb2.Permission(roles=[ROLES.AGENT, ROLES.SERVICE], services=["gpio"], own_node_field="id", call_class=READ)
    name = service("Sound", asked)
    built(name)
    found = permission_of(name, "Do")
    assert found == Permission(frozenset({Role.AGENT, Role.SERVICE}), frozenset({"gpio"}), "id", call_class=CallClass.READ)
    assert declared(descriptor_pool.Default().FindServiceByName(name).methods_by_name["Do"]) == found


def test_permission_when_it_names_services_and_a_field_narrows_each_kind_by_its_own() -> None:
    permission = Permission(frozenset({Role.AGENT, Role.SERVICE}), frozenset({"gpio"}), "id")
    permission.check("Do", AGENT, "n1")
    permission.check("Do", GPIO, "n1")
    other = Caller(SpiffeId("d", "svc", "events"), frozenset({Role.SERVICE}), "certificate", float("inf"))
    for caller, node, reason in ((AGENT, "n2", "NOT_OWN_NODE"), (AGENT, "", "NOT_OWN_NODE"), (other, "n1", "ROLE_MISSING")):
        with pytest.raises(PermissionDenied) as caught:
            permission.check("Do", caller, node)
        assert caught.value.reason == reason
