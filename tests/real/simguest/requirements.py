"""The Debian packages that the machine itself needs for this guest: checked always, installed only as root on Debian."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

from tests.real.pi3b.faults import HarnessError

PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "setpriv": "util-linux",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
    "gcc": "gcc",
    "make": "make",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "xz": "xz-utils",
}
"""Program to the Debian package that has it."""

FILES = {Path("/usr/include/gelf.h"): "libelf-dev", Path("/usr/include/x86_64-linux-gnu/sys/types.h"): "libc6-dev"}
"""Header that a kernel's own tools want to the Debian package that has it."""


def missing() -> list[str]:
    """Debian packages that the machine lacks."""
    lacking = {package for program, package in PROGRAMS.items() if shutil.which(program) is None}
    return sorted(lacking | {package for path, package in FILES.items() if not path.exists()})


def ensure() -> None:
    """Install what lacks, or raise with exactly which packages are missing."""
    if platform.machine() != "x86_64":
        raise HarnessError(f"the guest's kernel is built by an x86_64 machine's own compiler, and this one is {platform.machine()}")
    packages = missing()
    if not packages:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if os.geteuid() != 0 or shutil.which("apt-get") is None or not Path("/etc/debian_version").exists():
        raise HarnessError(f"missing Debian packages: {' '.join(packages)}; as root on Debian run: {' '.join(command)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    output = ""
    # A machine that never ran `apt-get update` has no lists, so the second attempt is after an update.
    for step in (command, ["apt-get", "update"], command):
        done = subprocess.run(step, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        output = done.stdout[-1500:] + done.stderr[-1500:]
        if done.returncode == 0 and not missing():
            return
    raise HarnessError(f"could not install {' '.join(missing())}; {' '.join(command)} said:\n{output}")
