"""Messages as JSON Schema, in protobuf's JSON form with the names of the protos, and with as much of the ``buf.validate`` rules as fits.

A rule that JSON Schema can't say (CEL, ranges of durations) is left to the services: a description may allow more than they do, never less.
"""

from collections.abc import Collection, Iterable
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto

from picontroller.gateway.openapi.sources import Protos
from picontroller.internal.buf.validate import validate_pb2

Json = dict[str, Any]

_LONG = "^-?[0-9]{1,20}$"
_FOREIGN: dict[str, Json] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$", "examples": ["1.5s"]},
    "google.protobuf.FieldMask": {"type": "string", "description": "Names of fields, joined by commas."},
    "google.protobuf.Empty": {"type": "object"},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Value": {},
    "google.protobuf.ListValue": {"type": "array"},
    "google.protobuf.Any": {"type": "object", "properties": {"@type": {"type": "string"}}, "required": ["@type"]},
}
_F = FieldDescriptorProto
_WHOLE: dict[int, tuple[str, int, int]] = {
    _F.TYPE_INT32: ("int32", -(2**31), 2**31 - 1),
    _F.TYPE_SINT32: ("sint32", -(2**31), 2**31 - 1),
    _F.TYPE_SFIXED32: ("sfixed32", -(2**31), 2**31 - 1),
    _F.TYPE_UINT32: ("uint32", 0, 2**32 - 1),
    _F.TYPE_FIXED32: ("fixed32", 0, 2**32 - 1),
}
_TEXT: Json = {"type": "string"}


class Schemas:
    """Collects the components that are referred to. ``components`` is complete once nothing new is asked for."""

    def __init__(self, protos: Protos) -> None:
        self._protos = protos
        self.components: dict[str, Json] = {}

    def refer(self, full_name: str) -> Json:
        """Return a schema for a message or an enum: in place for what protobuf's JSON writes as a scalar, otherwise a reference."""
        name = full_name.removeprefix(".")
        if name in _FOREIGN:
            return dict(_FOREIGN[name])
        short = name.removeprefix("picontroller.v1.").removesuffix(".Value")
        if short not in self.components:
            self.components[short] = {}  # a message within itself ends here
            enum = self._protos.enums.get(name)
            if enum is not None:
                self.components[short] = {"type": "string", "enum": [value.name for value in enum.value]}
            else:
                self.components[short] = self.message(name)
            if comment := self._comment(name):
                self.components[short]["description"] = comment
        return {"$ref": f"#/components/schemas/{short}"}

    def message(self, full_name: str, *, without: Collection[str] = ()) -> Json:
        """Return the schema of a message in place. Fields named in ``without`` travel elsewhere (in the path)."""
        message = self._protos.messages[full_name]
        comments = self._protos.sources[full_name].parts
        fields = [field for field in message.field if field.name not in without]
        made: Json = {"type": "object"}
        if fields:
            made["properties"] = {field.name: _described(self.field(field), comments.get(field.name, "")) for field in fields}
        if needed := [field.name for field in fields if needs(field)]:
            made["required"] = needed
        choices = list(_required_choices(message, fields))
        if len(choices) == 1:
            made["oneOf"] = choices[0]
        elif choices:
            made["allOf"] = [{"oneOf": choice} for choice in choices]
        return made

    def field(self, field: FieldDescriptorProto) -> Json:
        """Return the schema of one field's value with its rules."""
        rules = field.options.Extensions[validate_pb2.field]
        if field.label != _F.LABEL_REPEATED:
            return self._value(field, rules)
        entry = self._protos.messages.get(field.type_name.removeprefix(".")) if field.type == _F.TYPE_MESSAGE else None
        if entry is not None and entry.options.map_entry:
            key, value = entry.field
            made: Json = {"type": "object", "additionalProperties": self._value(value, rules.map.values)}
            made["propertyNames"] = self._value(key, rules.map.keys) if key.type == _F.TYPE_STRING else _TEXT
            return made | _sizes(rules.map.min_pairs, rules.map.max_pairs, "Properties")
        listed = rules.repeated
        made = {"type": "array", "items": self._value(field, listed.items)} | _sizes(listed.min_items, listed.max_items, "Items")
        return made | ({"uniqueItems": True} if listed.unique else {})

    def _value(self, field: FieldDescriptorProto, rules: validate_pb2.FieldRules) -> Json:
        kind = field.type
        if kind == _F.TYPE_MESSAGE:
            return self.refer(field.type_name)
        if kind == _F.TYPE_ENUM:
            return self._enum(field, rules)
        if kind == _F.TYPE_STRING:
            return _string(rules)
        if kind == _F.TYPE_BYTES:
            return {"type": "string", "contentEncoding": "base64"}
        if kind == _F.TYPE_BOOL:
            return {"type": "boolean"}
        if kind in (_F.TYPE_DOUBLE, _F.TYPE_FLOAT):
            return {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
        if kind in _WHOLE:
            return _whole(rules, *_WHOLE[kind])
        return {"type": "string", "pattern": _LONG, "description": "A whole number of 64 bits, as text."}

    def _enum(self, field: FieldDescriptorProto, rules: validate_pb2.FieldRules) -> Json:
        referred = self.refer(field.type_name)
        known = self._protos.enums[field.type_name.removeprefix(".")].value
        listed, refused = set(getattr(rules.enum, "in")), set(rules.enum.not_in)
        if not listed and not refused:
            return referred
        return {"type": "string", "enum": [v.name for v in known if (not listed or v.number in listed) and v.number not in refused]}

    def _comment(self, name: str) -> str:
        """Return what stands above a declaration; enums stand in a message of their own, which has the better text."""
        holder = self._protos.sources.get(name.removesuffix(".Value"))
        return holder.comment if holder else ""


def needs(field: FieldDescriptorProto) -> bool:
    """Return whether a request without the field is refused."""
    rules = field.options.Extensions[validate_pb2.field]
    if rules.required:
        return True
    absent_is_wrong = rules.string.min_len or rules.string.uuid or rules.string.ip or rules.repeated.min_items or 0 in rules.enum.not_in
    optional = field.proto3_optional or field.HasField("oneof_index") or rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE
    return bool(absent_is_wrong) and not optional


def _required_choices(message: DescriptorProto, fields: Iterable[FieldDescriptorProto]) -> Iterable[list[Json]]:
    """Yield for each oneof that must be set what is required by each of its members."""
    members = list(fields)
    for index, choice in enumerate(message.oneof_decl):
        if choice.options.Extensions[validate_pb2.oneof].required:
            own = [field.name for field in members if field.HasField("oneof_index") and field.oneof_index == index]
            yield [{"required": [name]} for name in own]


def _string(rules: validate_pb2.FieldRules) -> Json:
    text = rules.string
    made = dict(_TEXT) | _sizes(text.min_len, text.max_len, "Length")
    if text.pattern:
        made["pattern"] = text.pattern
    if text.uuid:
        made["format"] = "uuid"
    if text.ip:
        made = {"anyOf": [made | {"format": "ipv4"}, made | {"format": "ipv6"}]}
    empty_is_fine = rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE and len(made) > 1
    return {"anyOf": [made, {"const": ""}]} if empty_is_fine else made


def _whole(rules: validate_pb2.FieldRules, kind: str, low: int, high: int) -> Json:
    limits: Any = getattr(rules, kind)
    made: Json = {"type": "integer", "minimum": low, "maximum": high}
    for name, word in (("gte", "minimum"), ("lte", "maximum"), ("gt", "exclusiveMinimum"), ("lt", "exclusiveMaximum")):
        if limits.HasField(name):
            made[word] = getattr(limits, name)
    return made


def _sizes(least: int, most: int, what: str) -> Json:
    return ({f"min{what}": least} if least else {}) | ({f"max{what}": most} if most else {})


def _described(schema: Json, comment: str) -> Json:
    return schema | {"description": comment} if comment else schema
