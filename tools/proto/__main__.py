"""The command line; `python -m tools.proto --help` lists the commands."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from tools.proto import checking, describing, image, pins, places, rendering
from tools.proto.running import ProtoError

_MEND = "python -m tools.proto generate"


def _generate(built: Path) -> bool:
    made, found = rendering.render(built), rendering.committed()
    for path in found.keys() - made.keys():
        (places.LIBS / path).unlink()
    written = sorted(path for path in made if found.get(path) != made[path])
    for path in written:
        target = places.LIBS / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(made[path], encoding="utf-8")
    described = describing.describe(built)
    if described != describing.committed():
        places.OPENAPI.write_text(described, encoding="utf-8")
        print(f"wrote {places.OPENAPI.relative_to(places.ROOT)}")
    print(f"generated {len(made)} files below libs/, {len(written)} changed, {len(found.keys() - made.keys())} removed")
    return True


def _check(built: Path) -> bool:
    made, found = rendering.render(built), rendering.committed()
    stale = sorted(path for path in made.keys() | found.keys() if made.get(path) != found.get(path))
    for path in stale:
        state = "missing" if path not in found else "not generated any more" if path not in made else "stale"
        print(f"libs/{path}: {state}; run: {_MEND}")
    described = describing.describe(built) == describing.committed()
    if not described:
        print(f"{places.OPENAPI.relative_to(places.ROOT)}: stale; run: {_MEND}")
    return not stale and described


def _baseline(built: Path) -> bool:
    checking.rewrite_baseline(built)
    print(f"wrote {places.BASELINE.relative_to(places.ROOT)} ({places.BASELINE.stat().st_size} bytes)")
    return True


_COMMANDS: dict[str, tuple[Callable[[Path], bool], str]] = {
    "generate": (_generate, "write the generated packages below libs/ and the description of the REST API"),
    "check": (_check, "fail where a committed generated file differs from what generate would write"),
    "lint": (checking.lint, "style of the .proto files, by buf.yaml"),
    "breaking": (checking.breaking, "compatibility with proto/baseline.binpb"),
    "baseline": (_baseline, "rewrite proto/baseline.binpb; part of a release"),
}


def main() -> int:
    """Runs one command: 0 fine, 1 findings, 2 could not run."""
    parser = argparse.ArgumentParser(prog="python -m tools.proto", description="Protobuf without a network.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, what) in _COMMANDS.items():
        commands.add_parser(name, help=what, description=what)
    command = parser.parse_args().command
    try:
        pins.require()
        return 0 if _COMMANDS[command][0](image.build()) else 1
    except ProtoError as error:
        print(f"tools.proto {command}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
