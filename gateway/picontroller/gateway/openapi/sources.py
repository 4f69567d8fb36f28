"""Our protos as compiled with their comments: messages, enums and services by full name.

Descriptors in a running program have no comments any more, which is why the description is made when code is generated.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

_MESSAGE, _NESTED, _ENUM_IN, _ENUM, _SERVICE, _FIELD, _METHOD = 4, 3, 4, 5, 6, 2, 2  # field numbers within descriptor.proto


@dataclass(frozen=True, slots=True)
class Source:
    """One declaration: what it is called, what stands above it, and what stands above each of its parts (fields or methods)."""

    name: str
    comment: str
    parts: dict[str, str]


@dataclass(frozen=True, slots=True)
class Protos:
    """Everything declared, by full name without a leading dot."""

    messages: dict[str, DescriptorProto] = field(default_factory=dict)
    enums: dict[str, EnumDescriptorProto] = field(default_factory=dict)
    services: dict[str, ServiceDescriptorProto] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)


def read(image: FileDescriptorSet) -> Protos:
    """Return what an image declares. Files without comments are taken without."""
    found = Protos()
    for file in image.file:
        comments = {tuple(place.path): _text(place.leading_comments) for place in file.source_code_info.location}
        _file(found, file, comments)
    return found


def _text(comment: str) -> str:
    """Return a comment as running text."""
    return " ".join(line.strip() for line in comment.strip().splitlines())


def _file(found: Protos, file: FileDescriptorProto, comments: dict[tuple[int, ...], str]) -> None:
    for index, message in enumerate(file.message_type):
        _message(found, message, file.package, (_MESSAGE, index), comments)
    for enum in file.enum_type:
        found.enums[f"{file.package}.{enum.name}"] = enum
    for index, service in enumerate(file.service):
        name, path = f"{file.package}.{service.name}", (_SERVICE, index)
        found.services[name] = service
        found.sources[name] = _source(name, path, comments, _METHOD, [method.name for method in service.method])


def _message(found: Protos, message: DescriptorProto, scope: str, path: tuple[int, ...], comments: dict[tuple[int, ...], str]) -> None:
    name = f"{scope}.{message.name}"
    found.messages[name] = message
    found.sources[name] = _source(name, path, comments, _FIELD, [each.name for each in message.field])
    for index, enum in enumerate(message.enum_type):
        full = f"{name}.{enum.name}"
        found.enums[full] = enum
        found.sources[full] = _source(full, (*path, _ENUM_IN, index), comments, _FIELD, [value.name for value in enum.value])
    for index, nested in enumerate(message.nested_type):
        _message(found, nested, name, (*path, _NESTED, index), comments)


def _source(name: str, path: Sequence[int], comments: dict[tuple[int, ...], str], kind: int, parts: Iterable[str]) -> Source:
    own = {part: comments.get((*path, kind, index), "") for index, part in enumerate(parts)}
    return Source(name, comments.get(tuple(path), ""), own)
