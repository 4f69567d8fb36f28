"""Third-party descriptors, taken out of installed packages: no .proto of others stands in this repository.

google.* come from pb2 modules. buf/validate/validate.proto comes from the descriptor that protovalidate 2.x embeds: it ships neither
the .proto nor a google.protobuf module for it.
"""

import importlib

from google.protobuf import descriptor, descriptor_pb2

from tools.proto import places
from tools.proto.running import ProtoError

_MODULES = (
    "google.protobuf.any_pb2",
    "google.protobuf.descriptor_pb2",
    "google.protobuf.duration_pb2",
    "google.protobuf.empty_pb2",
    "google.protobuf.field_mask_pb2",
    "google.protobuf.struct_pb2",
    "google.protobuf.timestamp_pb2",
    "google.protobuf.wrappers_pb2",
    "google.api.annotations_pb2",
    "google.api.field_behavior_pb2",
    "google.api.http_pb2",
    "google.api.httpbody_pb2",
    "google.rpc.error_details_pb2",
    "google.rpc.status_pb2",
)

# Private to protovalidate, so an upgrade may move it: the error below then names this line.
_VALIDATE_MODULE = "protovalidate._gen.buf.validate.validate_pb"


def descriptors() -> descriptor_pb2.FileDescriptorSet:
    """Answers all third-party files, each after the files it imports."""
    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    for name in _MODULES:
        _add(importlib.import_module(name).DESCRIPTOR, found)
    validate = _validate()
    missing = sorted(set(validate.dependency) - found.keys())
    if missing:
        raise ProtoError(f"{places.VALIDATE_PROTO} imports {', '.join(missing)}: add its module to {__name__}._MODULES")
    found[validate.name] = validate
    return descriptor_pb2.FileDescriptorSet(file=found.values())


def _add(file: descriptor.FileDescriptor, found: dict[str, descriptor_pb2.FileDescriptorProto]) -> None:
    if file.name in found:
        return
    for imported in file.dependencies:
        _add(imported, found)
    found[file.name] = descriptor_pb2.FileDescriptorProto.FromString(file.serialized_pb)


def _validate() -> descriptor_pb2.FileDescriptorProto:
    try:
        # It registers itself in protobuf-py's own pool, not in google.protobuf's: importing it here has no effect on our modules.
        embedded = importlib.import_module(_VALIDATE_MODULE).desc().proto.to_binary()
    except (ImportError, AttributeError) as error:
        raise ProtoError(f"no descriptor of {places.VALIDATE_PROTO} at {_VALIDATE_MODULE} (protovalidate 2.x): {error}") from error
    file = descriptor_pb2.FileDescriptorProto.FromString(embedded)
    if file.name != places.VALIDATE_PROTO:
        raise ProtoError(f"{_VALIDATE_MODULE} describes {file.name}, not {places.VALIDATE_PROTO}")
    return file
