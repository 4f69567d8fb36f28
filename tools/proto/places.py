"""Where things are. Every path of the generator stands here, relative to the root of the repository."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"
LIBS = ROOT / "libs"
BASELINE = PROTO / "baseline.binpb"
OPENAPI = ROOT / "gateway" / "picontroller" / "gateway" / "openapi" / "openapi.json"

# Ignored by git. Others may read the image (it carries comments and imports, so it serves OpenAPI and Envoy too).
BUILD = ROOT / "build" / "proto"
DEPENDENCIES = BUILD / "deps.binpb"
IMAGE = BUILD / "image.binpb"

# Our files within an image; without this limit buf judges google/ and buf/ as well.
OURS = "picontroller"

# The generated folders, below LIBS. `core` is their neighbour: nothing may ever clean LIBS as a whole.
GENERATED = (Path("picontroller/v1"), Path("picontroller/internal"))

VALIDATE_PROTO = "buf/validate/validate.proto"
