"""The versions that shape the generated code, so that everybody's `check` compares the same thing. pyproject.toml pins the same ones.

grpcio-tools is the oldest whose protoc speaks protobuf 7: its version is the least grpcio, and its protoc's (7.35.0) the least protobuf,
that the generated modules accept when imported. It installs beside newer grpcio and protobuf; 1.81 and before demand protobuf < 7.
"""

from importlib import metadata

from tools.proto.running import ProtoError

_PINS = {
    "grpcio-tools": "1.82.1",
    "mypy-protobuf": "5.1.0",
    # Its embedded descriptor becomes picontroller.internal.buf.validate.
    "protovalidate": "2.1.0",
}


def require() -> None:
    """Raises ProtoError unless exactly the pinned versions are installed."""
    for name, version in _PINS.items():
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed = "nothing"
        if installed != version:
            raise ProtoError(f"generated code is made with {name} {version}, installed is {installed}: pip install {name}=={version}")
