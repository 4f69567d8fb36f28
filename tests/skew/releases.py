"""Trees of an agent as another release would have it: its code, its version, and its protos compiled by our own generator.

Each edit must find what it replaces: an edit that has gone stale fails where it stands instead of testing nothing.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from picontroller.core.version import version

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("libs/picontroller", "agent/picontroller", "proto", "tools/proto", "buf.gen.yaml", "buf.yaml")
GENERATE = (
    "from tools.proto import image, places, rendering\n"
    "for path, text in rendering.render(image.build()).items():\n"
    "    (places.LIBS / path).write_text(text, encoding='utf-8')\n"
)
AGENT = "agent/picontroller/agent"
PROTO = "proto/picontroller/v1"

Edits = tuple[tuple[str, str, str], ...]
"""File, what stands there, what shall stand there."""


@dataclass(frozen=True)
class Tree:
    """A tree that agents of ``version`` run from."""

    root: Path
    version: str

    def environment(self) -> dict[str, str]:
        """Return what makes Python find this tree before the one that is installed."""
        return {"PYTHONPATH": f"{self.root / 'libs'}:{self.root / 'agent'}"}


def neighbour(steps: int) -> str:
    """Return the version that is so many minor releases away from ours."""
    major, minor = version().split(".")[:2]
    return f"{major}.{max(0, int(minor) + steps)}.9"


# As the release before may have been: no features, no word of outputs made safe, no GetCapabilities, a node without problems.
BEHIND: Edits = (
    (f"{PROTO}/types.proto", "  repeated string features = 13;\n", ""),
    (f"{AGENT}/messages.py", "        features=capabilities.features,\n", ""),
    (f"{PROTO}/agent.proto", "  bool safe_by_silence = 6;\n", ""),
    (f"{AGENT}/messages.py", "        safe_by_silence=safe_by_silence,\n", ""),
    (f"{PROTO}/agent.proto", "rpc GetCapabilities(GetCapabilitiesRequest)", "rpc GetBoard(GetCapabilitiesRequest)"),
    (f"{PROTO}/discovery.proto", "  repeated string problems = 17;\n", ""),
)

_REBOOT = """  rpc Reboot(HealthCheckRequest) returns (HealthStatus) {
    option (permission) = {
      roles: [SERVICE]
      services: ["gpio"]
      call_class: CHANGE
    };
  }
"""

# As the release after may be: it says more when it registers, has another kind of event and sends it, and one method more.
AHEAD: Edits = (
    (f"{PROTO}/discovery.proto", "  string agent_version = 7", "  // Kernel.\n  string kernel = 20;\n  string agent_version = 7"),
    (f"{AGENT}/gateway.py", "agent_address=presentation.agent_address,", "agent_address=presentation.agent_address, kernel='6.18',"),
    (f"{PROTO}/agent.proto", "      CONFIGURE = 4;\n", "      CONFIGURE = 4;\n      // Set up.\n      PREPARE = 9;\n"),
    (f"{AGENT}/messages.py", "cause=CauseValue(happening.cause)", "cause=9 if happening.cause == 4 else CauseValue(happening.cause)"),
    (f"{PROTO}/agent.proto", "  rpc GetCapabilities(", f"{_REBOOT}  rpc GetCapabilities("),
)


def tree(root: Path, said: str, edits: Edits = ()) -> Tree:
    """Make a tree of version ``said`` below ``root``."""
    for name in COPIED:
        source, target = ROOT / name, root / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    (root / "libs/picontroller/core/version.py").write_text(f'def version() -> str:\n    return "{said}"\n')
    for name, old, new in edits:
        text = (root / name).read_text()
        assert text.count(old) == 1, f"{name} has {old.strip()!r} {text.count(old)} times: mend this edit"
        (root / name).write_text(text.replace(old, new))
    if edits:
        done = subprocess.run([sys.executable, "-c", GENERATE], cwd=root, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return Tree(root, said)
