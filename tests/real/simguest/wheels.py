"""Wheels for the guest's Python: downloaded for x86_64 through the machine's own pip settings; laid out as for the emulated Pi."""

import email.parser
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.requirements import Requirement

from tests.real.pi3b import wheels
from tests.real.pi3b.faults import HarnessError
from tests.real.simguest.debian import PYTHON

ROOT = Path(__file__).parents[3]
PLATFORMS = tuple(platform.replace("aarch64", "x86_64") for platform in wheels.PLATFORMS)
PACKAGES = wheels.PACKAGES
lay_out = wheels.lay_out


def of_this_tree(folder: Path) -> Path:
    """Build the wheel of this tree; it holds the agent."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise HarnessError(f"the wheel could not be built: {(done.stderr or done.stdout).strip()[-1500:]}")
    return next(folder.glob("*.whl"))


def requirements_of(wheel: Path, extras: Sequence[str] = ()) -> tuple[str, ...]:
    """What a wheel, with some of its extras, requires in the guest."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.parser.BytesParser().parsebytes(archive.read(name))
    return applying(metadata.get_all("Requires-Dist") or [], extras)


def applying(requirements: Iterable[str], extras: Sequence[str] = ()) -> tuple[str, ...]:
    """Those whose markers hold in the guest, sorted and without the markers."""
    environment = {**wheels.ENVIRONMENT, "platform_machine": "x86_64"}
    found: set[str] = set()
    for requirement in map(Requirement, requirements):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**environment, "extra": extra}) for extra in (*extras, "")):
            requirement.marker = None
            found.add(str(requirement))
    return tuple(sorted(found))


def download(requirements: Sequence[str], into: Path) -> list[Path]:
    """Fetch wheels for the requirements and what they depend on; the files."""
    into.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--dest", str(into)]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    command += ["--python-version", PYTHON, "--implementation", "cp", "--only-binary=:all:", "--", *requirements]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        raise HarnessError(f"pip download failed for {', '.join(requirements)}: {(done.stderr or done.stdout).strip()[-1500:]}")
    # pip tells what it chose only in words: of a file it already has, and of one it saves.
    named = re.findall(r"(?:Saved|File was already downloaded) (.+\.whl)", done.stdout)
    if not named:
        raise HarnessError(f"pip download said it succeeded but named no wheel: {done.stdout[-1500:]}")
    return sorted({into / Path(name).name for name in named})
