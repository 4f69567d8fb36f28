"""Every import contract holds, and every one of them can break."""

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("libs", "services", "agent", "gateway")

# One forbidden import for each contract, by a piece of the contract's name.
MUTATIONS = {
    "host over doors": ("libs/picontroller/core/clock.py", "import picontroller.events.tail"),
    "inside identity": ("services/picontroller/identity/settings.py", "import picontroller.identity.registry"),
    "inside events": ("services/picontroller/events/entries.py", "import picontroller.events.journal"),
    "inside discovery": ("services/picontroller/discovery/nodes.py", "import picontroller.discovery.store"),
    "inside gpio": ("services/picontroller/gpio/strange_module.py", '"""A module that nobody placed."""'),
    "only adapters speak gRPC": ("services/picontroller/gpio/controlling.py", "import picontroller.v1.gpio_pb2"),
    "SQL only in stores": ("services/picontroller/gpio/rows.py", "import apsw"),
    "hardware libraries": ("agent/picontroller/agent/gpio/pins.py", "import gpiod"),
    "the agent stays small": ("agent/picontroller/agent/metrics.py", "import picontroller.core.store.sqlite"),
    "the command line knows": ("gateway/picontroller/gateway/cli/times.py", "import picontroller.gateway.settings"),
}
RUN = """
import sys
sys.path[:0] = sys.argv[1].split(":")
sys.argv = ["lint-imports", "--no-cache"]
from importlinter.cli import lint_imports_command
lint_imports_command()
"""


def verdicts(tree: Path) -> dict[str, str]:
    """Return KEPT or BROKEN for each contract over a copy of the sources; -S leaves the installed sources out of the path."""
    paths = [str(tree / source) for source in SOURCES] + [sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]]
    done = subprocess.run(
        [sys.executable, "-S", "-c", RUN, ":".join(dict.fromkeys(paths))],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    text = done.stdout.replace("\n", " ")
    found = {name: re.search(re.escape(name) + r".*?(KEPT|BROKEN)", text) for name in MUTATIONS}
    assert all(found.values()), done.stdout + done.stderr
    assert text.count(" KEPT") + text.count(" BROKEN") >= len(MUTATIONS)
    return {name: match[1] for name, match in found.items() if match}


def copied(tmp_path: Path) -> Path:
    for source in SOURCES:
        shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    return tmp_path


def test_contracts_when_checked_hold(tmp_path: Path) -> None:
    assert set(verdicts(copied(tmp_path)).values()) == {"KEPT"}


def test_contracts_when_each_is_broken_say_so(tmp_path: Path) -> None:
    tree = copied(tmp_path)
    for place, line in MUTATIONS.values():
        with (tree / place).open("a") as file:
            file.write(f"\n{line}\n")
    assert verdicts(tree) == dict.fromkeys(MUTATIONS, "BROKEN")


def test_every_contract_has_a_mutation() -> None:
    names = re.findall(r"^name = (.*)$", (ROOT / ".importlinter").read_text(), re.MULTILINE)
    assert [name for name in names if not any(name.startswith(piece) for piece in MUTATIONS)] == []
