"""What the guest boots: its kernel and an initramfs of two layers, as the emulated Pi has them.

The base layer holds Debian's packages and third-party wheels, the top layer local wheels and what runs in the guest. Everything is kept
in a cache folder by its content; when nothing changed, neither network nor apt nor compiler is used.
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

from tests.real import pi3b
from tests.real.pi3b import debian as pi_debian
from tests.real.pi3b import kernel as packages
from tests.real.pi3b.cpio import Tree
from tests.real.simguest import debian, kernel, requirements, wheels

CACHE = Path(__file__).parents[3] / "build" / "simguest"
INSIDE = Path(__file__).parent / "inside"
CHANNEL = Path(pi3b.__file__).parent / "inside" / "channel.py"
"""The harness's hands in the guest, which are the emulated Pi's."""

KEPT = 2
"""How many layers of each kind, and kernels, stay in the cache."""

SOURCES = ("debian.py", "image.py", "wheels.py")
SHARED_SOURCES = ("cpio.py", "debian.py", "kernel.py", "wheels.py")
"""What decides how content is laid out, here and in the emulated Pi's folder: a change of these makes new layers."""


@dataclass(frozen=True, slots=True)
class SimImageSpec:
    """What is wanted in the guest."""

    requirements: tuple[str, ...] = ()
    """Third-party requirements, as pip takes them; what they depend on is added."""
    local_wheels: tuple[Path, ...] = ()
    """Wheels by path, put into the top layer without what they require."""


@dataclass(frozen=True, slots=True)
class SimImage:
    """Files to start QEMU with."""

    kernel: Path
    initramfs: Path


def build(spec: SimImageSpec, cache: Path = CACHE, refresh: bool = False) -> SimImage:
    """Make the image or take it from the cache; with `refresh` newer packages and wheels are looked for. Safe to call at the same time."""
    requirements.ensure()
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "lock"):
        sources = {path.name: _digest(path.read_bytes()) for path in _sources()}
        fetched = _fetched(spec, cache, refresh)
        built = kernel.built(cache / "debs" / _source_package(fetched), cache)
        base = cache / f"base-{_key(fetched, sources, sys.version_info[:2])}.cpio"
        if not base.exists():
            _write(base, _base(cache, fetched))
        files = [CHANNEL, *sorted(path for path in INSIDE.iterdir() if path.is_file()), *spec.local_wheels, *built.modules.values()]
        top = _key(sources, [(path.name, _digest(path.read_bytes())) for path in files], sys.version_info[:2])
        initramfs = cache / f"initramfs-{base.stem[5:]}-{top}.cpio"
        if not initramfs.exists():
            _write(initramfs, _top(spec.local_wheels, built), below=base)
        for used in (base, initramfs, built.image.parent):
            os.utime(used)
        _prune(cache)
        return SimImage(built.image, initramfs)


def _sources() -> list[Path]:
    shared = Path(pi3b.__file__).parent
    return [*(Path(__file__).with_name(name) for name in SOURCES), *(shared / name for name in SHARED_SOURCES)]


def _fetched(spec: SimImageSpec, cache: Path, refresh: bool) -> dict[str, Any]:
    """What was downloaded for a wish like this one, by kind and file name; downloads when it isn't there."""
    required = wheels.applying(spec.requirements)
    record = cache / f"fetched-{_key(pi_debian.codename(), debian.SOURCE, debian.PACKAGES, required, wheels.PLATFORMS)}.json"
    with contextlib.suppress(OSError, ValueError):
        known: dict[str, dict[str, str]] = json.loads(record.read_text())
        whole = all(
            _digest((cache / kind / name).read_bytes()) == digest for kind, files in known.items() for name, digest in files.items()
        )
        if whole and not refresh:
            return known
    debs = debian.Apt(cache / "apt").fetch([debian.SOURCE, *debian.PACKAGES], cache / "debs")
    downloaded = wheels.download(required, cache / "wheels") if required else []
    fetched = {kind: {path.name: _digest(path.read_bytes()) for path in paths} for kind, paths in (("debs", debs), ("wheels", downloaded))}
    record.write_text(json.dumps(fetched, indent=1))
    return fetched


def _source_package(fetched: dict[str, Any]) -> str:
    debs: dict[str, str] = fetched["debs"]
    return next(name for name in debs if name.startswith(debian.SOURCE))


def _base(cache: Path, fetched: dict[str, Any]) -> Tree:
    tree = Tree()
    for path, target in {**packages.LINKS, "lib64": "usr/lib64"}.items():
        tree.link(path, target)
    for name in ("dev", "proc", "sys", "run", "tmp", "root", "usr/sbin", "usr/local/bin", "var/log", "var/lib", wheels.PACKAGES):
        tree.folder(name)
    tree.link("init", "bin/busybox")
    tree.link("usr/bin/python3", f"python{debian.PYTHON}")
    for name in fetched["debs"]:
        if name != _source_package(fetched):
            packages.lay_out(cache / "debs" / name, tree)
    for path in [path for path in tree.entries if path.startswith("lib64/")]:
        tree.entries[f"usr/{path}"] = tree.entries.pop(path)
    for name in fetched["wheels"]:
        wheels.lay_out(cache / "wheels" / name, tree)
    tree.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n")
    tree.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n")
    tree.file("etc/hosts", b"127.0.0.1 localhost\n10.0.2.2 host\n")
    return tree


def _top(local_wheels: Sequence[Path], built: kernel.Kernel) -> Tree:
    tree = Tree()
    for wheel in local_wheels:
        wheels.lay_out(wheel, tree)
    tree.file("simguest/channel.py", CHANNEL.read_bytes())
    for path in INSIDE.iterdir():
        if path.is_file() and path.suffix in {".py", ".sh"}:
            tree.file(f"simguest/{path.name}", path.read_bytes(), executable=path.suffix == ".sh")
    for name, path in built.modules.items():
        tree.file(f"simguest/{name}.ko", path.read_bytes())
    tree.file("etc/inittab", (INSIDE / "inittab").read_bytes())
    return tree


def _write(path: Path, tree: Tree, below: Path | None = None) -> None:
    fresh = path.with_suffix(".fresh")
    with fresh.open("wb") as out:
        if below:
            with below.open("rb") as layer:
                shutil.copyfileobj(layer, out, 1 << 20)
        tree.pack(out)
    fresh.replace(path)


def _prune(cache: Path) -> None:
    for pattern in ("base-*", "initramfs-*", "kernel-*"):
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
