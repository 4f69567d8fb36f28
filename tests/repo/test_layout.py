"""The tree is as CONTRIBUTING.md says."""

import statistics
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("libs", "services", "agent", "gateway")
GENERATED = ("libs/picontroller/v1/", "libs/picontroller/internal/")
SAYS_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc", "impl", "base", "manager"}


def tracked(*patterns: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    return [name for name in listed if (ROOT / name).exists()]


def own_modules() -> list[str]:
    names = tracked(*(f"{source}/*.py" for source in SOURCES))
    return [name for name in names if not name.startswith(GENERATED)]


@pytest.mark.parametrize("source", SOURCES)
def test_namespace_has_no_init_that_hides_its_other_portions(source: str) -> None:
    assert not (ROOT / source / "__init__.py").exists()
    assert not (ROOT / source / "picontroller" / "__init__.py").exists()
    assert list((ROOT / source / "picontroller").iterdir())


def test_modules_when_measured_are_short() -> None:
    lines = {name: len((ROOT / name).read_text().splitlines()) for name in own_modules()}
    assert len(lines) > 60
    assert statistics.median(lines.values()) <= 150
    assert {name: count for name, count in lines.items() if count > 500} == {}
    services = {name: count for name, count in lines.items() if name.endswith("/service.py")}
    assert {name: count for name, count in services.items() if count > 250} == {}
    wirings = {name: count for name, count in lines.items() if name.endswith("/wiring.py")}
    assert {name: count for name, count in wirings.items() if count > 120} == {}


def test_packages_when_counted_have_at_most_fifteen_modules() -> None:
    packages: dict[str, int] = {}
    for name in own_modules():
        if not name.endswith(("__init__.py", "__main__.py")):
            packages[str(Path(name).parent)] = packages.get(str(Path(name).parent), 0) + 1
    crowded = {package: count for package, count in packages.items() if count > 15 and package != "libs/picontroller/core"}
    assert crowded == {}


def test_module_names_say_something() -> None:
    assert [name for name in own_modules() if Path(name).stem in SAYS_NOTHING] == []


def test_type_checker_sees_every_module() -> None:
    seen = subprocess.run(
        [str(ROOT / ".venv/bin/mypy"), "libs", "services", "agent", "gateway"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    count = sum(1 for source in SOURCES for _ in (ROOT / source).rglob("*.py"))
    stubs = sum(1 for path in (ROOT / "libs").rglob("*.pyi") if path.with_suffix(".py").exists())
    assert stubs
    assert f"no issues found in {count} source files" in seen.stdout, seen.stdout[-500:]


def test_nothing_that_is_committed_names_a_machine_or_a_registry() -> None:
    words = ("python" + "hosted", "proxy.go" + "lang", "registry.npm" + "js", "/wo" + "rk/")
    found = []
    for name in tracked("*"):
        path = ROOT / name
        if path.is_file() and path.suffix not in {".binpb", ".png"}:
            text = path.read_text(errors="replace")
            found += [(name, word) for word in words if word in text]
    assert found == []
