"""Debian arm64 packages through an apt configuration of our own.

The machine's mirrors, proxies and keys are used; its lists, cache, status and hooks never are: Debian's container images have hooks
that delete the machine's package cache on every update, whoever's lists were updated.
"""

import os
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.real.pi3b.faults import HarnessError

ATTEMPTS = 3
"""Mirrors answer 404 for minutes after a point release and drop connections at any time; each attempt updates the lists again."""

KERNEL = "linux-image-arm64"
"""A package without content; what it depends on is the kernel."""

PYTHON = "3.11"
"""The guest's Python, which is bookworm's. The wheels are chosen for it."""

PACKAGES = (
    *("busybox-static", f"python{PYTHON}-minimal", f"libpython{PYTHON}-minimal", f"libpython{PYTHON}-stdlib"),
    # What those load, and what manylinux wheels expect to find: libgcc_s and libstdc++.
    *("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libssl3", "libcrypt1", "libffi8", "libbz2-1.0", "liblzma5"),
    *("libsqlite3-0", "libuuid1", "media-types", "base-files"),
)


@dataclass(frozen=True, slots=True)
class Source:
    """One entry of the machine's apt sources, reduced to what a download needs."""

    uris: str
    suites: str
    components: str
    signed_by: str

    def stanza(self) -> str:
        """The entry as deb822 text, without the machine's restriction to its own architecture."""
        lines = ["Types: deb", f"URIs: {self.uris}", f"Suites: {self.suites}", f"Components: {self.components}"]
        if self.signed_by:
            lines.append(f"Signed-By: {self.signed_by}")
        return "\n".join(lines) + "\n"


def sources_in(text: str, deb822: bool) -> Iterator[Source]:
    """The entries of one file of apt sources, disabled and source-only ones left out."""
    if deb822:
        text = re.sub(r"^#.*\n?", "", text, flags=re.MULTILINE)
        for stanza in re.split(r"\n\s*\n", text):
            # A field goes on in lines that start with a blank, which is how keys are embedded.
            fields = {name.lower(): value.strip(" ") for name, value in re.findall(r"^([\w-]+):(.*(?:\n[ \t].*)*)", stanza, re.MULTILINE)}
            if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() not in {"no", "false"}:
                yield Source(*(fields.get(name, "") for name in ("uris", "suites", "components", "signed-by")))
        return
    for line in text.splitlines():
        if found := re.match(r"deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]*)", line.strip()):
            options, uri, suite, components = found.groups()
            key = re.search(r"signed-by=(\S+)", options or "")
            yield Source(uri, suite, components.strip(), key[1] if key else "")


def debian_sources(folder: Path, codename: str) -> list[Source]:
    """Those of the machine's sources that are Debian's own for its release; other vendors' need not have arm64 at all."""
    wanted = {codename, f"{codename}-updates", f"{codename}-security"}
    found = []
    for path in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
        if path.suffix not in {".list", ".sources"} or not path.is_file():
            continue
        for source in sources_in(path.read_text(), path.suffix == ".sources"):
            suites = [suite for suite in source.suites.split() if suite in wanted]
            if suites and "main" in source.components.split():
                found.append(Source(source.uris, " ".join(suites), "main", source.signed_by))
    return found


def codename() -> str:
    """The machine's Debian release, for instance bookworm; empty where there is none."""
    try:
        release = Path("/etc/os-release").read_text()
    except OSError:
        return ""
    found = re.search(r"^VERSION_CODENAME=\"?(\w+)", release, re.MULTILINE)
    return found[1] if found else ""


class MissingPackageError(HarnessError):
    """Debian does not have a package, which no second attempt changes."""


class Apt:
    """apt-get and apt-cache for arm64 with all their state under one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._conf = self._folder / "apt.conf"

    def fetch(self, packages: Sequence[str], into: Path) -> list[Path]:
        """Download the newest of each package and the kernel that `KERNEL` stands for; the files, in the order of the packages."""
        self._configure()
        failure = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(5 * attempt)
            try:
                self._run("apt-get", "update", "--error-on=any")
                names = [self._kernel() if name == KERNEL else name for name in packages]
                return self._download(names, into)
            except MissingPackageError:
                raise
            except HarnessError as error:
                failure = str(error)
        raise HarnessError(f"Debian arm64 packages could not be fetched in {ATTEMPTS} attempts: {failure}")

    def _configure(self) -> None:
        sources = debian_sources(Path("/etc/apt"), codename())
        if not sources:
            raise HarnessError(f"no apt source of Debian {codename() or '(unknown release)'} main in /etc/apt to fetch arm64 packages from")
        for name in ("lists/partial", "archives/partial", "parts", "sourceparts"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        (self._folder / "status").touch()
        (self._folder / "debian.sources").write_text("\n".join(source.stanza() for source in sources))
        # apt reads this file before the machine's own, so its parts are cut off here and only how to download is carried over.
        kept = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout.splitlines()
        settings = {
            "APT::Architecture": "arm64",
            "APT::Sandbox::User": "root",
            "Acquire::Retries": "3",
            "Acquire::Languages": "none",
            "Dir::Etc::parts": f"{self._folder}/parts",
            "Dir::Etc::main": "none",
            "Dir::Etc::sourcelist": f"{self._folder}/debian.sources",
            "Dir::Etc::sourceparts": f"{self._folder}/sourceparts",
            "Dir::State": f"{self._folder}",
            "Dir::State::lists": f"{self._folder}/lists",
            "Dir::State::status": f"{self._folder}/status",
            "Dir::Cache": f"{self._folder}",
            "Dir::Cache::archives": f"{self._folder}/archives",
        }
        lines = [line for line in kept if re.match(r"Acquire::(?!Languages|Retries|IndexTargets)", line)]
        lines += [f'{name} "{value}";' for name, value in settings.items()]
        self._conf.write_text("\n".join([*lines, 'APT::Architectures { "arm64"; };', ""]))

    def _kernel(self) -> str:
        depends = self._run("apt-cache", "depends", "--important", KERNEL)
        found = re.search(r"Depends: (linux-image-\S+)", depends)
        if not found:
            raise MissingPackageError(f"{KERNEL} names no kernel: {depends.strip()[-300:]}")
        return found[1]

    def _download(self, names: Iterable[str], into: Path) -> list[Path]:
        names = list(names)
        versions = {name: self._candidate(name) for name in names}
        lacking = [name for name, version in versions.items() if not version]
        if lacking:
            raise MissingPackageError(f"Debian {codename()} arm64 has no {', '.join(lacking)}")
        into.mkdir(parents=True, exist_ok=True)
        # Existing files of the right version are not downloaded again.
        self._run("apt-get", "download", *(f"{name}={version}" for name, version in versions.items()), folder=into)
        files = [next(iter(sorted(into.glob(f"{name}_{version.replace(':', '%3a')}_*.deb"))), None) for name, version in versions.items()]
        if absent := [name for name, file in zip(names, files, strict=True) if file is None]:
            raise HarnessError(f"apt-get download said it succeeded but left no file of {', '.join(absent)}")
        return [file for file in files if file]

    def _candidate(self, name: str) -> str:
        found = re.search(r"^\s*Candidate: (?!\(none\))(\S+)", self._run("apt-cache", "policy", name), re.MULTILINE)
        return found[1] if found else ""

    def _run(self, *command: str, folder: Path | None = None) -> str:
        environment = {**os.environ, "APT_CONFIG": str(self._conf), "LC_ALL": "C"}
        done = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=900
        )
        if done.returncode:
            raise HarnessError(f"{' '.join(command[:2])} failed: {(done.stderr or done.stdout).strip()[-1500:]}")
        return done.stdout
