"""What is taken out of Debian packages: from the kernel's the image, the device tree and some modules, from the others nearly all."""

import lzma
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.real.pi3b import wheels
from tests.real.pi3b.cpio import Tree
from tests.real.pi3b.faults import HarnessError

DEVICE_TREE = "bcm2837-rpi-3-b.dtb"
NETWORK_MODULES = ("phy-generic", "usbcore", "udc-core", "roles", "dwc2", "mii", "usbnet", "cdc_ether")
"""The Pi's USB host controller and QEMU's USB network card; what they depend on is added.

phy-generic is no dependency, but without it dwc2 waits ten seconds for the phy that the device tree names.
"""

HARDWARE_MODULES = ("bcm2835_thermal", "pwm-bcm2835")
"""What a Pi has and this emulation answers for; its I2C controller answers no transfer, so it is left to those who want that."""

LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib"}
"""Packages of a merged-usr Debian still have files on both sides of these."""

BALLAST = re.compile(r"^usr/(share/(doc|man|locale|lintian|info|base-files|bug)|lib/[^/]+/gconv|lib/valgrind)/")


@dataclass(frozen=True, slots=True)
class Kernel:
    """What QEMU needs beside the root file system, and the modules in the order in which they load."""

    image: bytes
    device_tree: bytes
    modules: dict[str, bytes]


@contextmanager
def _members(package: Path) -> Iterator[tuple[tarfile.TarFile, dict[str, tarfile.TarInfo]]]:
    # Through a file, not a pipe: modules are looked up in the order of their dependencies, and all of them do not fit in memory.
    with tempfile.TemporaryFile(dir=package.parent) as plain:
        done = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=plain, stderr=subprocess.PIPE, check=False)
        if done.returncode:
            raise HarnessError(f"{package.name} cannot be unpacked: {done.stderr.decode(errors='replace').strip()}")
        plain.seek(0)
        with tarfile.open(fileobj=plain) as archive:
            yield archive, {member.name.removeprefix("./"): member for member in archive}


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return file.read() if file else b""


def kernel_in(package: Path, modules: Sequence[str]) -> Kernel:
    """The kernel of a linux-image package with the modules named and what those depend on."""
    with _members(package) as (archive, members):

        def only(pattern: str) -> bytes:
            found = [member for name, member in members.items() if re.fullmatch(pattern, name)]
            if len(found) != 1:
                raise HarnessError(f"{package.name} has {len(found)} files like {pattern}, not one")
            return _read(archive, found[0])

        paths = {}
        for name, member in members.items():
            if found := re.search(r"/([^/]+)\.ko(\.xz)?$", name):
                paths[found[1].replace("-", "_")] = member
        loaded: dict[str, bytes] = {}

        def load(name: str, wanted_by: str) -> None:
            if name in loaded:
                return
            if name not in paths:
                raise HarnessError(f"{package.name} has no module {name}, which {wanted_by} needs")
            content = _read(archive, paths[name])
            content = lzma.decompress(content) if paths[name].name.endswith(".xz") else content
            depends = re.search(rb"\0depends=([^\0]*)\0", content)
            for other in depends[1].decode().split(",") if depends and depends[1] else ():
                load(other.replace("-", "_"), name)
            loaded[name] = content

        for name in modules:
            load(name.replace("-", "_"), "the harness")
        return Kernel(only(r"boot/vmlinuz-.*"), only(rf"usr/lib/linux-image-[^/]+/broadcom/{re.escape(DEVICE_TREE)}"), loaded)


def lay_out(package: Path, tree: Tree) -> None:
    """Add what installing a package would leave, without its scripts having run."""
    with _members(package) as (archive, members):
        for name, member in members.items():
            top, slash, rest = name.partition("/")
            path = f"{LINKS[top]}/{rest}" if slash and top in LINKS else name
            if BALLAST.search(path) or wheels.is_ballast(path):
                continue
            if member.issym():
                tree.link(path, member.linkname)
            elif member.isfile() or member.islnk():
                wheels.add(tree, path, _read(archive, member), executable=bool(member.mode & 0o111))
