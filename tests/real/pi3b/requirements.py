"""The Debian packages that the machine itself needs: checked always, installed only as root on Debian."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.real.pi3b.faults import HarnessError

PROGRAMS = {
    "qemu-system-aarch64": "qemu-system-arm",
    "setpriv": "util-linux",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
}
"""Program to the Debian package that has it. There is no cpio: `cpio.py` writes archives with root's ownership without being root."""


def missing() -> list[str]:
    """Debian packages that the machine lacks."""
    return sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})


def ensure() -> None:
    """Install what lacks, or raise with exactly which packages are missing."""
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
