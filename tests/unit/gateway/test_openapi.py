"""The description of the REST API: of protos made here, and of ours as it is committed."""

import json
import re
from typing import Any

import pytest
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2

from picontroller.gateway.bridge.description import FILE
from picontroller.gateway.openapi.document import document
from picontroller.internal.buf.validate import validate_pb2
from picontroller.v1 import options_pb2

F = descriptor_pb2.FieldDescriptorProto
COMMITTED: dict[str, Any] = json.loads(FILE.read_text())


def shop() -> descriptor_pb2.FileDescriptorSet:
    """A service with a method that changes an item named in its path, and one that lists."""
    file = descriptor_pb2.FileDescriptorProto(name="shop.proto", package="shop", syntax="proto3")
    colour = file.message_type.add(name="Colour").enum_type.add(name="Value")
    for number, name in enumerate(("UNSPECIFIED", "RED", "BLUE")):
        colour.value.add(name=name, number=number)
    update = file.message_type.add(name="UpdateItemRequest")
    update.field.add(name="id", number=1, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL)
    title = update.field.add(name="title", number=2, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL)
    title.options.Extensions[validate_pb2.field].string.MergeFrom(validate_pb2.StringRules(min_len=1, max_len=9, pattern="^[a-z]+$"))
    kind = update.field.add(name="colour", number=3, type=F.TYPE_ENUM, label=F.LABEL_OPTIONAL, type_name=".shop.Colour.Value")
    kind.options.Extensions[validate_pb2.field].enum.MergeFrom(validate_pb2.EnumRules(defined_only=True, not_in=[0]))
    update.field.add(name="etag", number=4, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL)
    pieces = update.field.add(name="pieces", number=5, type=F.TYPE_INT32, label=F.LABEL_OPTIONAL)
    pieces.options.Extensions[validate_pb2.field].int32.gte = 0
    choice = update.oneof_decl.add(name="place")
    choice.options.Extensions[validate_pb2.oneof].required = True
    for number, name in ((6, "shelf"), (7, "box")):
        update.field.add(name=name, number=number, type=F.TYPE_UINT64, label=F.LABEL_OPTIONAL, oneof_index=0)
    item = file.message_type.add(name="Item")
    item.field.add(name="parts", number=1, type=F.TYPE_MESSAGE, label=F.LABEL_REPEATED, type_name=".shop.Item")
    listing = file.message_type.add(name="ListItemsRequest")
    listing.field.add(name="colour", number=1, type=F.TYPE_ENUM, label=F.LABEL_REPEATED, type_name=".shop.Colour.Value")
    service = file.service.add(name="Shop")
    for name, asked, streams in (("UpdateItem", "UpdateItemRequest", False), ("ListItems", "ListItemsRequest", True)):
        method = service.method.add(name=name, input_type=f".shop.{asked}", output_type=".shop.Item", server_streaming=streams)
        method.options.Extensions[options_pb2.permission].roles.append(options_pb2.Role.MONITOR)
    http: Any = annotations_pb2.http
    service.method[0].options.Extensions[http].put = "/items/{id}"
    service.method[0].options.Extensions[http].body = "*"
    service.method[1].options.Extensions[http].get = "/items"
    service.method.add(name="Hidden", input_type=".shop.Item", output_type=".shop.Item")
    for path, text in (((6, 0, 2, 0), " UpdateItem changes\n an item.\n"), ((4, 1, 2, 1), " What it is called.\n")):
        file.source_code_info.location.add(path=path, leading_comments=text)
    return descriptor_pb2.FileDescriptorSet(file=[file])


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return document(shop(), "1.2.3")


def test_methods_when_they_have_a_path_are_operations_with_their_comments(made: dict[str, Any]) -> None:
    assert {path: set(verbs) for path, verbs in made["paths"].items()} == {"/items": {"get"}, "/items/{id}": {"put"}}
    update = made["paths"]["/items/{id}"]["put"]
    assert (update["operationId"], update["description"], update["x-roles"]) == ("UpdateItem", "UpdateItem changes an item.", ["MONITOR"])


def test_body_when_a_field_is_in_the_path_is_without_it(made: dict[str, Any]) -> None:
    update = made["paths"]["/items/{id}"]["put"]
    body = update["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == {"title", "colour", "etag", "pieces", "shelf", "box"}
    assert {(each["name"], each["in"], each["required"]) for each in update["parameters"]} == {
        ("id", "path", True), ("If-Match", "header", False),
    }  # fmt: skip


def test_rules_when_they_fit_are_said(made: dict[str, Any]) -> None:
    body = made["paths"]["/items/{id}"]["put"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["title"] == {
        "type": "string", "minLength": 1, "maxLength": 9, "pattern": "^[a-z]+$", "description": "What it is called.",
    }  # fmt: skip
    assert body["properties"]["colour"] == {"type": "string", "enum": ["RED", "BLUE"]}
    assert body["properties"]["pieces"] == {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
    assert body["required"] == ["title", "colour"]
    assert body["oneOf"] == [{"required": ["shelf"]}, {"required": ["box"]}]
    assert body["properties"]["shelf"]["type"] == "string"  # 64 bits are text in JSON


def test_list_when_asked_for_by_query_repeats_its_parameter(made: dict[str, Any]) -> None:
    (colour,) = made["paths"]["/items"]["get"]["parameters"]
    assert (colour["in"], colour["explode"], colour["schema"]["type"]) == ("query", True, "array")


def test_message_when_it_contains_itself_is_a_reference(made: dict[str, Any]) -> None:
    assert made["components"]["schemas"]["shop.Item"]["properties"]["parts"]["items"] == {"$ref": "#/components/schemas/shop.Item"}


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {value["$ref"]} if "$ref" in value else set().union(*map(references, value.values()), set())
    return set().union(*map(references, value), set()) if isinstance(value, list) else set()


def test_committed_description_when_read_is_whole() -> None:
    for reference in references(COMMITTED):
        place: Any = COMMITTED
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]
        assert place, reference
    for path, verbs in COMMITTED["paths"].items():
        for operation in verbs.values():
            assert operation["description"], operation["operationId"]
            named = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
            assert named == set(re.findall(r"\{([^}]+)\}", path))
    identifiers = [operation["operationId"] for verbs in COMMITTED["paths"].values() for operation in verbs.values()]
    assert len(identifiers) == len(set(identifiers)) >= 30
    assert COMMITTED["paths"]["/api/v1/certificates:issue"]["post"]["security"] == []
