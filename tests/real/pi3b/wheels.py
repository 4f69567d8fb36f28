"""Wheels for the guest's Python: downloaded for aarch64 through the machine's own pip settings, and laid out as an install would."""

import configparser
import email.parser
import importlib.util
import marshal
import re
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.requirements import Requirement

from tests.real.pi3b.cpio import Tree
from tests.real.pi3b.debian import PYTHON
from tests.real.pi3b.faults import HarnessError

# bookworm has glibc 2.36; some wheels exist for nothing older than 2.34.
PLATFORMS = (*(f"manylinux_2_{minor}_aarch64" for minor in range(36, 16, -1)), "manylinux2014_aarch64", "linux_aarch64")
PACKAGES = f"usr/local/lib/python{PYTHON}/dist-packages"
ENVIRONMENT = {
    "python_version": PYTHON,
    "python_full_version": f"{PYTHON}.2",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "platform_machine": "aarch64",
    "platform_system": "Linux",
    "sys_platform": "linux",
    "os_name": "posix",
}
"""The guest, for the markers of requirements: pip would evaluate them for the machine it runs on, whatever --platform says."""


def download(requirements: Sequence[str], into: Path) -> list[Path]:
    """Fetch wheels for the requirements and what they depend on; the files. An earlier download's files are left in the folder."""
    into.mkdir(parents=True, exist_ok=True)
    before = set(into.glob("*.whl"))
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--dest", str(into)]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    command += ["--python-version", PYTHON, "--implementation", "cp", "--only-binary=:all:", "--", *requirements]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        raise HarnessError(f"pip download for aarch64 failed for {', '.join(requirements)}: {(done.stderr or done.stdout).strip()[-1500:]}")
    # pip tells what it chose only in words: of a file it already has, and of one it saves.
    named = re.findall(r"(?:Saved|File was already downloaded) (.+\.whl)", done.stdout)
    files = sorted({into / Path(name).name for name in named} | (set(into.glob("*.whl")) - before))
    if not files:
        raise HarnessError(f"pip download said it succeeded but named no wheel: {done.stdout[-1500:]}")
    return files


def requirements_of(wheel: Path, extras: Sequence[str] = ()) -> tuple[str, ...]:
    """What a wheel, with some of its extras, requires in the guest: to be given as requirements beside the wheel itself."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.parser.BytesParser().parsebytes(archive.read(name))
    return applying(metadata.get_all("Requires-Dist") or [], extras)


def applying(requirements: Iterable[str], extras: Sequence[str] = ()) -> tuple[str, ...]:
    """Those whose markers hold in the guest, sorted and without the markers, so that equal wishes read the same."""
    found: set[str] = set()
    for requirement in map(Requirement, requirements):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**ENVIRONMENT, "extra": extra}) for extra in (*extras, "")):
            requirement.marker = None
            found.add(str(requirement))
    return tuple(sorted(found))


def lay_out(wheel: Path, tree: Tree) -> None:
    """Add what installing the wheel would leave, compiled, without tests; commands go to /usr/local/bin."""
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            place = _place(info.filename)
            if place and not is_ballast(place):
                add(
                    tree, place, archive.read(info), executable=bool(info.external_attr >> 16 & 0o111) or place.startswith("usr/local/bin/")
                )
        for name in archive.namelist():
            if name.endswith(".dist-info/entry_points.txt"):
                _commands(archive.read(name).decode(), tree)


def _place(name: str) -> str:
    found = re.match(r"[^/]+\.data/(\w+)/(.+)", name)
    if not found:
        return f"{PACKAGES}/{name}"
    prefix = {"purelib": PACKAGES, "platlib": PACKAGES, "scripts": "usr/local/bin", "data": "usr/local"}.get(found[1])
    return f"{prefix}/{found[2]}" if prefix else ""


def _commands(text: str, tree: Tree) -> None:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # command names are case-sensitive; this is the documented way
    parser.read_string(text)
    for name, target in parser["console_scripts"].items() if parser.has_section("console_scripts") else ():
        module, _, attribute = target.split("[")[0].strip().partition(":")
        body = f"#!/usr/bin/python3\nimport sys\nfrom {module} import {attribute.split('.')[0]}\nsys.exit({attribute}())\n"
        tree.file(f"usr/local/bin/{name}", body.encode(), executable=True)


def is_ballast(path: str) -> bool:
    """Whether a file is of no use in the guest: tests, caches, sources of extensions, stubs."""
    return bool(re.search(r"/(__pycache__|tests?|idlelib|lib2to3|ensurepip|pydoc_data)/|\.(pyi|pyx|pxd|h|c|cc|proto|exe)$", path))


def add(tree: Tree, path: str, content: bytes, executable: bool = False) -> None:
    """Add a file and, for Python source, its compiled form.

    An emulated Pi takes minutes to compile what it imports. The machine's interpreter can do it only when it is of the guest's version;
    the compiled form is marked as never to be checked, because files have no times in the archive.
    """
    tree.file(path, content, executable)
    if not path.endswith(".py") or sys.version_info[:2] != tuple(int(part) for part in PYTHON.split(".")):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = compile(content, f"/{path}", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return
    header = importlib.util.MAGIC_NUMBER + (0b01).to_bytes(4, "little") + importlib.util.source_hash(content)
    folder, _, name = path.rpartition("/")
    tree.file(f"{folder}/__pycache__/{name[:-3]}.cpython-{PYTHON.replace('.', '')}.pyc", header + marshal.dumps(code))
