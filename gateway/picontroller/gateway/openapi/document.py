"""The whole description: an operation for each HTTP rule of each method, with who may call it and what it may answer.

Only what a stranger to protobuf needs is said; names and types are those of the protos.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, cast

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet, MethodDescriptorProto

from picontroller.gateway.openapi.schemas import Json, Schemas, needs
from picontroller.gateway.openapi.sources import Protos, read
from picontroller.v1 import options_pb2

_F = FieldDescriptorProto
_VARIABLE = re.compile(r"\{([a-z_.]+)(?:=[^}]*)?\}")
_VERBS = ("get", "put", "post", "delete", "patch")
_DEEPEST_QUERY = 2

# Methods whose work is done on a node: it may be away, silent, or lack a feature.
_ON_NODES = {"CreateGpioResource", "GetGpioResource", "UpdateGpioResource", "DeleteGpioResource", "ReadPins", "WritePins"}
_ERRORS = {
    "400": "The request is not right: `details` names fields and reasons.",
    "401": "No proof of who calls, or one that is not good.",
    "403": "The caller may not do this.",
    "404": "There is no such thing.",
    "405": "There is no such method.",
    "408": "The request came too slowly.",
    "409": "It exists already, or changed meanwhile.",
    "413": "The body is too large.",
    "415": "The body is not declared as JSON.",
    "429": "Too much at once; try again after what `RetryInfo` says.",
    "431": "The headers are too large.",
}
_NODE_ERRORS = {
    "501": "The node's hardware can't do this.",
    "503": "The node does not answer; nothing was changed.",
    "504": "The node did not answer in time; whether it did what it was asked to is not known.",
}
_STATUS: Json = {
    "type": "object",
    "description": "What went wrong: google.rpc.Status as JSON.",
    "properties": {
        "code": {"type": "integer", "description": "Number of the google.rpc.Code."},
        "message": {"type": "string"},
        "details": {"type": "array", "items": {"type": "object"}, "description": "ErrorInfo with its `reason`; BadRequest; RetryInfo."},
    },
    "required": ["code", "message"],
}


def document(image: FileDescriptorSet, version: str) -> Json:
    """Return the description of every method with an HTTP rule in ``image``, which needs its comments to be worth reading."""
    protos = read(image)
    schemas = Schemas(protos)
    paths: dict[str, Json] = {}
    tags: list[Json] = []
    for service, declared in protos.services.items():
        source = protos.sources[service]
        operations = 0
        for method in declared.method:
            for verb, path, rule in _bindings(method):
                paths.setdefault(path, {})[verb] = _operation(protos, schemas, service, method, path, rule, source.parts[method.name])
                operations += 1
        if operations:
            tags.append({"name": declared.name, "description": source.comment})
    return {
        "openapi": "3.1.0",
        "info": {"title": "Pi-Controller", "version": version, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "tags": tags,
        "security": [{"token": []}, {"certificate": []}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(schemas.components.items())) | {"Status": _STATUS},
            "responses": _refusals(),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "certificate": {"type": "mutualTLS"},
            },
        },
    }


def _bindings(method: MethodDescriptorProto) -> Iterator[tuple[str, str, http_pb2.HttpRule]]:
    """Yield verb, path with plain ``{name}`` variables, and rule for each way to a method."""
    extension = cast("Any", annotations_pb2.http)  # has no types that say whom it extends
    if not method.options.HasExtension(extension):
        return
    first: http_pb2.HttpRule = method.options.Extensions[extension]
    for rule in (first, *first.additional_bindings):
        verb = rule.WhichOneof("pattern")
        if verb in _VERBS:
            yield verb, _VARIABLE.sub(r"{\1}", getattr(rule, verb)), rule


def _operation(
    protos: Protos, schemas: Schemas, service: str, method: MethodDescriptorProto, path: str, rule: http_pb2.HttpRule, comment: str
) -> Json:
    request = method.input_type.removeprefix(".")
    fields = {field.name: field for field in protos.messages[request].field}
    in_path = _VARIABLE.findall(path)
    parameters = [_parameter(name, "path", schemas.field(fields[name]), protos.sources[request].parts[name], True) for name in in_path]
    made: Json = {"operationId": method.name, "tags": [service.rpartition(".")[2]], "description": comment}
    permission = method.options.Extensions[options_pb2.permission]
    made["x-roles"] = [options_pb2.Role.Value.Name(role) for role in permission.roles]
    if permission.anonymous:
        made["security"] = []
    if rule.body:
        body = schemas.message(request, without=in_path) if rule.body == "*" else schemas.field(fields[rule.body])
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    else:
        rest = [field for name, field in fields.items() if name not in in_path]
        parameters += _query(protos, schemas, request, rest)
    if "etag" in fields:
        parameters.append(_parameter("If-Match", "header", {"type": "string", "maxLength": 64}, "The same as `etag`.", False))
    if parameters:
        made["parameters"] = parameters
    made["responses"] = _responses(schemas, method)
    return made


def _query(
    protos: Protos, schemas: Schemas, message: str, fields: Iterable[FieldDescriptorProto], prefix: str = "", depth: int = 0
) -> list[Json]:
    """Return fields as query parameters, those of messages within by their path."""
    found: list[Json] = []
    for field in fields:
        inner = field.type_name.removeprefix(".")
        schema = schemas.field(field)
        if field.type == _F.TYPE_MESSAGE and "type" not in schema:
            if field.label != _F.LABEL_REPEATED and depth < _DEEPEST_QUERY:
                found += _query(protos, schemas, inner, protos.messages[inner].field, f"{prefix}{field.name}.", depth + 1)
            continue
        comment = protos.sources[message].parts[field.name]
        made = _parameter(prefix + field.name, "query", schema, comment, needs(field) and not prefix)
        if field.label == _F.LABEL_REPEATED:
            made |= {"style": "form", "explode": True}
        found.append(made)
    return found


def _parameter(name: str, place: str, schema: Json, comment: str, required: bool) -> Json:
    made: Json = {"name": name, "in": place, "schema": schema, "required": required}
    return made | {"description": comment} if comment else made


def _responses(schemas: Schemas, method: MethodDescriptorProto) -> dict[str, Any]:
    good = schemas.refer(method.output_type)
    what = "The answer."
    if method.server_streaming:
        what = "One object a line, as things happen; the connection stays open."
    found: dict[str, Any] = {
        "200": {"description": what, "content": {"application/json": {"schema": {} if method.server_streaming else good}}}
    }
    errors = _ERRORS | (_NODE_ERRORS if method.name in _ON_NODES else {})
    return found | {status: {"$ref": f"#/components/responses/{status}"} for status in errors}


def _refusals() -> Json:
    """Return the answers that operations share, by HTTP status."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Status"}}}
    return {status: {"description": text, "content": content} for status, text in (_ERRORS | _NODE_ERRORS).items()}
