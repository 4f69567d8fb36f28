"""Permissions as methods declare them in their protos. A method that declares none has none, and its server does not start."""

import enum
from dataclasses import dataclass

from google.protobuf.descriptor import MethodDescriptor

from picontroller.core.callers import Caller, Role
from picontroller.core.errors import PermissionDenied, Unauthenticated
from picontroller.v1 import options_pb2


class CallClass(enum.Enum):
    """What kind of call a method is. Names equal those of ``picontroller.v1.CallClass``."""

    READ = 1
    REPORT = 2
    DRIVE = 3
    CHANGE = 4
    JOIN = 5


@dataclass(frozen=True, slots=True)
class Permission:
    """Who may call a method; see ``picontroller/v1/options.proto``."""

    roles: frozenset[Role]
    services: frozenset[str] = frozenset()
    own_node_field: str = ""
    anonymous: bool = False
    call_class: CallClass = CallClass.READ

    def check(self, method: str, caller: Caller, own_node_id: str | None) -> None:
        """Raise Unauthenticated or PermissionDenied unless ``caller`` may call ``method``.

        ``own_node_id`` is the request's value of ``own_node_field``; None while the request can't be read.
        """
        if self.anonymous:
            return
        if caller.identity is None:
            raise Unauthenticated("give a client certificate or a token", reason="CREDENTIALS_MISSING")
        granted = caller.roles & self.roles
        if self.services and caller.service not in self.services:
            granted -= {Role.SERVICE}
        if not granted:
            raise PermissionDenied(f"{caller.principal} may not call {method}", reason="ROLE_MISSING")
        if granted == {Role.AGENT} and self.own_node_field and own_node_id is not None and own_node_id != caller.node_id:
            raise PermissionDenied("an agent acts only for its own node", reason="NOT_OWN_NODE")


EVERY_MEMBER = Permission(frozenset(Role))

# These come from libraries, so that they can't carry our option.
FOREIGN_SERVICES = {
    "grpc.health.v1.Health": EVERY_MEMBER,
    "grpc.reflection.v1.ServerReflection": EVERY_MEMBER,
    "grpc.reflection.v1alpha.ServerReflection": EVERY_MEMBER,
    "grpc.channelz.v1.Channelz": Permission(frozenset({Role.CLUSTER_ADMIN})),
}


def declared(method: MethodDescriptor) -> Permission | None:
    """Return what a method declares; None when it declares nothing, or something that could not be checked as it is meant."""
    options = method.GetOptions()
    if not options.HasExtension(options_pb2.permission):
        return None
    raw = options.Extensions[options_pb2.permission]
    known = {role.value for role in Role}
    if raw.call_class not in {kind.value for kind in CallClass} or not known.issuperset(raw.roles):
        return None
    roles = frozenset(Role(number) for number in raw.roles)
    if raw.services and Role.SERVICE not in roles:
        return None
    if raw.own_node_field and not (Role.AGENT in roles and _names_one_node(method, raw.own_node_field)):
        return None
    return Permission(roles, frozenset(raw.services), raw.own_node_field, raw.anonymous, CallClass(raw.call_class))


def _names_one_node(method: MethodDescriptor, field: str) -> bool:
    """Return whether a request has ``field`` as one text; of a stream of requests nobody would look at it."""
    found = method.input_type.fields_by_name.get(field)
    return found is not None and found.type == found.TYPE_STRING and not found.is_repeated and not method.client_streaming
