"""Compiling our .proto files against the third-party descriptors into one image, with comments and imports.

The compiler is grpcio-tools' protoc, so the language is the one of the pinned compiler, not of buf's own.
"""

import os
from pathlib import Path

from google.protobuf.message import Message

from tools.proto import dependencies, places, running


def build() -> Path:
    """Compiles everything below proto/ and answers the image's path. Messages of the compiler are passed on."""
    sources = sorted(str(path.relative_to(places.PROTO)) for path in places.PROTO.rglob("*.proto"))
    if not sources:
        raise running.ProtoError(f"no .proto file below {places.PROTO.relative_to(places.ROOT)}/")
    write(places.DEPENDENCIES, dependencies.descriptors())
    fresh = _beside(places.IMAGE)
    running.must(
        "compiling proto/",
        *("python", "-m", "grpc_tools.protoc", f"-I{places.PROTO}", f"--descriptor_set_in={places.DEPENDENCIES}"),
        *("--include_imports", "--include_source_info", f"-o{fresh}"),
        *sources,
    )
    fresh.replace(places.IMAGE)
    return places.IMAGE


def write(path: Path, message: Message) -> None:
    """Writes a message as a whole: a reader beside us (tests run in parallel) never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = _beside(path)
    fresh.write_bytes(message.SerializeToString(deterministic=True))
    fresh.replace(path)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
