"""What buf says about the image: style, and compatibility with the committed baseline.

The baseline holds our files alone. Those they import are added from the installed packages when comparing, so an upgrade of
googleapis-common-protos or protovalidate is no change of our API.
"""

from pathlib import Path

from google.protobuf import descriptor_pb2

from tools.proto import dependencies, image, places, running


def lint(built: Path) -> bool:
    """Prints what `buf lint` finds in our files; true when it found nothing."""
    return running.passes("buf", "lint", built, "--path", places.OURS)


def breaking(built: Path) -> bool:
    """Prints what would break a client built against the baseline; true when nothing would."""
    if not places.BASELINE.exists():
        raise running.ProtoError(f"no {places.BASELINE.relative_to(places.ROOT)}: python -m tools.proto baseline")
    old = dependencies.descriptors()
    old.MergeFromString(places.BASELINE.read_bytes())
    against = places.BUILD / "baseline.binpb"
    image.write(against, old)
    return running.passes("buf", "breaking", built, "--against", against, "--exclude-imports", "--path", places.OURS)


def rewrite_baseline(built: Path) -> None:
    """Makes the API as it is now the one that later changes are compared with."""
    now = descriptor_pb2.FileDescriptorSet.FromString(built.read_bytes())
    ours = [file for file in now.file if file.name.startswith(f"{places.OURS}/")]
    for file in ours:
        file.ClearField("source_code_info")
    ours.sort(key=lambda file: file.name)
    image.write(places.BASELINE, descriptor_pb2.FileDescriptorSet(file=ours))
