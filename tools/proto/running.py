"""Running the tools and saying in one line what went wrong."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.proto import places


class ProtoError(Exception):
    """Something the caller can mend; its text is one line that says how."""


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a program at the root, with this interpreter's programs first on the path (the venv need not be activated)."""
    # Not resolve(): the interpreter of a venv is a link out of it.
    programs = Path(sys.executable).absolute().parent
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"}
    try:
        return subprocess.run([*map(str, command)], cwd=places.ROOT, env=environment, capture_output=True, encoding="utf-8", check=False)
    except FileNotFoundError:
        raise ProtoError(f"{command[0]} is not installed: pip install -e '.[dev]'") from None


def must(what: str, *command: str | Path) -> None:
    """Runs a program that has to succeed; its complaints go to standard error as they are."""
    done = run(*command)
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        raise ProtoError(f"{what} failed (exit {done.returncode})")


def passes(*command: str | Path) -> bool:
    """Runs a check: true when it found nothing, else its findings go to standard output.

    Raises ProtoError where the check itself could not run: buf answers 100 when it has findings and 1 when it is broken.
    """
    done = run(*command)
    if done.returncode not in (0, 100):
        sys.stderr.write(done.stdout + done.stderr)
        raise ProtoError(f"{_named(command)} could not run (exit {done.returncode})")
    sys.stdout.write(done.stdout + done.stderr)
    return done.returncode == 0


def _named(command: Sequence[str | Path]) -> str:
    return " ".join(map(str, command[:2]))
