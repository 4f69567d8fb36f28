"""What the emulated Pi boots: Debian's arm64 kernel, the Pi's device tree and an initramfs of two layers.

The base layer holds Debian's packages and third-party wheels, the top layer local wheels and what runs in the guest, so a changed wheel
of ours repacks in a second. Everything is kept in a cache folder by its content; when nothing changed, neither network nor apt is used.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.real.pi3b import debian, kernel, requirements, wheels
from tests.real.pi3b.cpio import Tree

CACHE = Path(__file__).parents[3] / "build" / "pi3b"
INSIDE = Path(__file__).parent / "inside"
KEPT = 3
"""How many layers of each kind stay in the cache; a base layer is some 80 MB."""

SOURCES = ("cpio.py", "debian.py", "image.py", "kernel.py", "wheels.py")
"""What decides how content is laid out: a change of these makes new layers."""


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """What is wanted in the guest."""

    requirements: tuple[str, ...] = ()
    """Third-party requirements, as pip takes them; what they depend on is added. See `wheels.requirements_of` for a local wheel's."""
    local_wheels: tuple[Path, ...] = ()
    """Wheels by path, put into the top layer without what they require."""
    modules: tuple[str, ...] = (*kernel.NETWORK_MODULES, *kernel.HARDWARE_MODULES)
    """Kernel modules, loaded at boot in this order and after what they depend on."""
    packages: tuple[str, ...] = debian.PACKAGES
    """Debian packages, without what they depend on."""


@dataclass(frozen=True, slots=True)
class Image:
    """Files to start QEMU with."""

    kernel: Path
    device_tree: Path
    initramfs: Path


def build(spec: ImageSpec, cache: Path = CACHE, refresh: bool = False) -> Image:
    """Make the image or take it from the cache; with `refresh` newer packages and wheels are looked for. Safe to call at the same time."""
    requirements.ensure()
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "lock"):
        sources = {name: _digest(Path(__file__).with_name(name).read_bytes()) for name in SOURCES}
        fetched = _fetched(spec, cache, refresh)
        base = cache / f"base-{_key(fetched, sources, spec.modules, sys.version_info[:2])}"
        if not (base / "complete").exists():
            _make_base(base, cache, fetched, spec)
        files = [*sorted(path for path in INSIDE.iterdir() if path.is_file()), *spec.local_wheels]
        top_key = _key(sources, [(path.name, _digest(path.read_bytes())) for path in files], sys.version_info[:2])
        initramfs = cache / f"initramfs-{base.name[5:]}-{top_key}.cpio"
        if not initramfs.exists():
            fresh = initramfs.with_suffix(".fresh")
            with fresh.open("wb") as out:
                with (base / "base.cpio").open("rb") as below:
                    shutil.copyfileobj(below, out, 1 << 20)
                _top(spec.local_wheels).pack(out)
            fresh.replace(initramfs)
        for used in (base, initramfs):
            os.utime(used)
        _prune(cache)
        return Image(base / "kernel", base / "pi.dtb", initramfs)


def _fetched(spec: ImageSpec, cache: Path, refresh: bool) -> dict[str, Any]:
    """What was downloaded for a wish like this one, by kind and file name; downloads when it isn't there."""
    required = wheels.applying(spec.requirements)
    wish = _key(debian.codename(), debian.KERNEL, spec.packages, required, wheels.PLATFORMS)
    record = cache / f"fetched-{wish}.json"
    with contextlib.suppress(OSError, ValueError):
        known: dict[str, dict[str, str]] = json.loads(record.read_text())
        whole = all(
            _digest((cache / kind / name).read_bytes()) == digest for kind, files in known.items() for name, digest in files.items()
        )
        if whole and not refresh:
            return known
    packages = debian.Apt(cache / "apt").fetch([debian.KERNEL, *spec.packages], cache / "debs")
    downloaded = wheels.download(required, cache / "wheels") if required else []
    fetched = {
        kind: {path.name: _digest(path.read_bytes()) for path in paths} for kind, paths in (("debs", packages), ("wheels", downloaded))
    }
    record.write_text(json.dumps(fetched, indent=1))
    return fetched


def _make_base(base: Path, cache: Path, fetched: dict[str, Any], spec: ImageSpec) -> None:
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir()
    tree = Tree()
    for path, target in kernel.LINKS.items():
        tree.link(path, target)
    for name in ("dev", "proc", "sys", "run", "tmp", "root", "usr/sbin", "usr/local/bin", "var/log", "var/lib", wheels.PACKAGES):
        tree.folder(name)
    tree.link("init", "bin/busybox")
    tree.link("usr/bin/python3", f"python{debian.PYTHON}")
    debs = list(fetched["debs"])
    kernel_package = next(name for name in debs if name.startswith("linux-image-"))
    for name in debs:
        if name != kernel_package:
            kernel.lay_out(cache / "debs" / name, tree)
    for name in fetched["wheels"]:
        wheels.lay_out(cache / "wheels" / name, tree)
    found = kernel.kernel_in(cache / "debs" / kernel_package, spec.modules)
    for module, content in found.modules.items():
        tree.file(f"pi3b/modules.d/{module}.ko", content)
    tree.file("pi3b/modules", "".join(f"/pi3b/modules.d/{module}.ko\n" for module in found.modules).encode())
    tree.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n")
    tree.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n")
    tree.file("etc/hosts", b"127.0.0.1 localhost\n10.0.2.2 host\n")
    tree.file("etc/resolv.conf", b"nameserver 10.0.2.3\n")
    with (base / "base.cpio").open("wb") as out:
        tree.pack(out)
    (base / "kernel").write_bytes(found.image)
    (base / "pi.dtb").write_bytes(found.device_tree)
    (base / "complete").touch()


def _top(local_wheels: Sequence[Path]) -> Tree:
    tree = Tree()
    for wheel in local_wheels:
        wheels.lay_out(wheel, tree)
    tree.file("pi3b/setup.sh", (INSIDE / "setup.sh").read_bytes(), executable=True)
    tree.file("pi3b/channel.py", (INSIDE / "channel.py").read_bytes())
    tree.file("etc/inittab", (INSIDE / "inittab").read_bytes())
    return tree


def _prune(cache: Path) -> None:
    for pattern in ("base-*", "initramfs-*"):
        for old in sorted(cache.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)[KEPT:]:
            if old.is_dir():
                shutil.rmtree(old)
            else:
                old.unlink()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _key(*parts: object) -> str:
    return _digest(json.dumps(parts, default=str).encode())[:16]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
