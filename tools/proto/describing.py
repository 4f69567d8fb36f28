"""The description of the REST API, made of the image with its comments; it stands where the gateway serves it from."""

import json
from pathlib import Path

from google.protobuf import descriptor_pb2

from picontroller.core.version import version
from picontroller.gateway.openapi.document import document
from tools.proto import places


def describe(image: Path) -> str:
    """Answers the text of the description."""
    made = document(descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes()), version())
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def committed() -> str:
    """Answers the text that is there now, nothing when there is none."""
    return places.OPENAPI.read_text(encoding="utf-8") if places.OPENAPI.exists() else ""
