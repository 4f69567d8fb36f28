"""The guest's kernel: built from Debian's source, for Debian's own have no gpio-sim. Minutes once, then from the cache by version."""

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.real.pi3b.faults import HarnessError
from tests.real.simguest.debian import SOURCE

CONFIG = Path(__file__).with_name("kernel.config")
MODULES = {"i2c-stub": "drivers/i2c/i2c-stub.ko"}
"""Modules that tests load with parameters of their own; the rest of the kernel is one piece."""

LEFT_IN_THE_ARCHIVE = (
    # Sources that no x86 configuration compiles: a third of what would be written. Kconfig and Makefiles of all architectures are read.
    *("*/Documentation/*/*", "*/drivers/gpu/drm/amd/include", "*/boot/dts", "*/tools/testing", "*/tools/perf"),
)
BUILD_SECONDS = 3000.0


@dataclass(frozen=True, slots=True)
class Kernel:
    """What a build left."""

    image: Path
    modules: dict[str, Path]


def key(package: Path) -> str:
    """What tells one build from another: the source's version and the configuration."""
    version = package.name.split("_")[1]
    return f"{version}-{hashlib.sha256(CONFIG.read_bytes()).hexdigest()[:12]}"


def built(package: Path, cache: Path) -> Kernel:
    """Take the kernel from the cache, or build it of a linux-source package. The caller holds the cache's lock."""
    folder = cache / f"kernel-{key(package)}"
    kernel = Kernel(folder / "bzImage", {name: folder / Path(path).name for name, path in MODULES.items()})
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with tempfile.TemporaryDirectory(prefix="source-", dir=cache) as place:
            source = _unpacked(package, Path(place))
            _make(source)
            shutil.copy(source / "arch/x86/boot/bzImage", kernel.image)
            for name, path in MODULES.items():
                shutil.copy(source / path, kernel.modules[name])
        (folder / "complete").touch()
    return kernel


def _unpacked(package: Path, place: Path) -> Path:
    excluded = " ".join(f"--exclude='{pattern}'" for pattern in LEFT_IN_THE_ARCHIVE)
    script = (
        f"set -o pipefail; dpkg-deb --fsys-tarfile '{package.resolve()}' | tar --extract --to-stdout ./usr/src/{SOURCE}.tar.xz"
        f" | tar --extract --xz {excluded}"
    )
    _run(["bash", "-c", script], place, 900)
    return place / SOURCE


def _make(source: Path) -> None:
    shutil.copy(CONFIG, source / ".config")
    # The time and the builder's name are the only things in the image that would differ from one build to the next.
    stamp = {"KBUILD_BUILD_TIMESTAMP": "@0", "KBUILD_BUILD_USER": "simguest", "KBUILD_BUILD_HOST": "simguest"}
    _run(["make", "olddefconfig"], source, 300, stamp)
    lost = sorted(_enabled(CONFIG) - _enabled(source / ".config"))
    if lost:
        raise HarnessError(f"the kernel's configuration did not take {', '.join(lost)}")
    began = time.monotonic()
    _run(["make", f"-j{len(os.sched_getaffinity(0))}", "bzImage", "modules"], source, BUILD_SECONDS, stamp)
    print(f"kernel built in {time.monotonic() - began:.0f} s")


def _enabled(path: Path) -> set[str]:
    return {line for line in path.read_text().splitlines() if line.startswith("CONFIG_")}


def _run(command: list[str], folder: Path, limit: float, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "LC_ALL": "C", **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=limit,
    )
    if done.returncode:
        raise HarnessError(f"{' '.join(command)[:200]} failed: {(done.stderr or done.stdout).strip()[-3000:]}")
