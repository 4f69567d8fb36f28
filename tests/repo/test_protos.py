"""Rules of the contract that buf does not know."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

import picontroller.v1
from picontroller.core.callers import Role
from picontroller.core.rpc.permissions import declared
from picontroller.internal.buf.validate import validate_pb2
from picontroller.v1 import options_pb2


def methods() -> Iterator[MethodDescriptor]:
    for module in pkgutil.iter_modules(picontroller.v1.__path__):
        if module.name.endswith("_pb2"):
            file = import_module(f"picontroller.v1.{module.name}").DESCRIPTOR
            for service in file.services_by_name.values():
                yield from service.methods


METHODS = list(methods())


def test_there_are_methods() -> None:
    assert len(METHODS) >= 36


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_method_declares_a_permission_that_fits_its_request(method: MethodDescriptor) -> None:
    permission = declared(method)
    assert permission is not None
    assert permission.roles or permission.anonymous
    if permission.own_node_field:
        assert Role.AGENT in permission.roles
        assert permission.own_node_field in method.input_type.fields_by_name
    if Role.AGENT in permission.roles and method.containing_service.name != "IdentityService":
        assert permission.own_node_field, "an agent acts only for its own node"
    if permission.services:
        assert Role.SERVICE in permission.roles


def test_anonymous_callers_may_only_join() -> None:
    open_to_all = [method.full_name for method in METHODS if method.GetOptions().Extensions[options_pb2.permission].anonymous]
    assert open_to_all == ["picontroller.v1.IdentityService.IssueCertificate"]


def requests() -> dict[str, Descriptor]:
    found: dict[str, Descriptor] = {}

    def visit(message: Descriptor) -> None:
        if message.full_name in found or not message.full_name.startswith("picontroller."):
            return
        found[message.full_name] = message
        for field in message.fields:
            if field.message_type is not None:
                visit(field.message_type)

    for method in METHODS:
        visit(method.input_type)
    return found


# What an agent reports of itself comes under the limit of a message, and is shown as it is.
UNBOUNDED = {"picontroller.v1.Capabilities", "picontroller.v1.GpioChip", "picontroller.v1.HeaderLine", "picontroller.v1.ResolvedPin"}


@pytest.mark.parametrize("message", requests().values(), ids=lambda message: message.full_name)
def test_request_field_that_can_grow_has_a_limit(message: Descriptor) -> None:
    if message.full_name in UNBOUNDED or message.GetOptions().map_entry:
        return
    for field in message.fields:
        rules = field.GetOptions().Extensions[validate_pb2.field]
        if field.is_repeated and not (field.message_type and field.message_type.GetOptions().map_entry):
            assert rules.repeated.HasField("max_items"), field.full_name
        elif field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
            string = rules.string
            bounded = string.HasField("max_len") or string.WhichOneof("well_known") or string.HasField("pattern")
            assert bounded, field.full_name
        elif field.type == FieldDescriptor.TYPE_ENUM:
            assert rules.enum.defined_only or getattr(rules.enum, "in"), field.full_name
