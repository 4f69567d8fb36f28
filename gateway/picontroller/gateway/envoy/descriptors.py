"""What Envoy transcodes: which services are public, and their descriptors as generated code carries them.

A service that is not listed here can't be reached from outside. NodeAgentService must never be: only our own services speak to agents.
"""

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor
from google.rpc import error_details_pb2

from picontroller.v1 import audit_pb2, discovery_pb2, events_pb2, gpio_pb2, identity_pb2

# Name of the mesh member that serves it, then the file that declares its public service.
_FILES: dict[str, FileDescriptor] = {
    "identity": identity_pb2.DESCRIPTOR,
    "events": events_pb2.DESCRIPTOR,
    "discovery": discovery_pb2.DESCRIPTOR,
    "gpio": gpio_pb2.DESCRIPTOR,
}
PUBLIC: dict[str, tuple[str, ...]] = {
    member: tuple(service.full_name for service in file.services_by_name.values()) for member, file in _FILES.items()
}

# Every member serves it, and from outside it is reached at the gateway, which merges their answers.
MERGED = tuple(service.full_name for service in audit_pb2.DESCRIPTOR.services_by_name.values())


def descriptor_set() -> bytes:
    """Return a serialised FileDescriptorSet of all public services with what they import, dependencies first.

    The details of errors are in it too: without their descriptors Envoy can't write a ``google.rpc.Status`` as JSON.
    """
    found: dict[str, FileDescriptor] = {}

    def add(file: FileDescriptor) -> None:
        if file.name not in found:
            for dependency in file.dependencies:
                add(dependency)
            found[file.name] = file

    for file in (*_FILES.values(), audit_pb2.DESCRIPTOR, error_details_pb2.DESCRIPTOR):
        add(file)
    files = [descriptor_pb2.FileDescriptorProto.FromString(file.serialized_pb) for file in found.values()]
    return descriptor_pb2.FileDescriptorSet(file=files).SerializeToString()
