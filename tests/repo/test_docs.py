"""What the documents name exists: targets, verbs, files, settings."""

import re
from pathlib import Path

import pytest
import typer.main

from picontroller.core import config
from picontroller.gateway.cli.app import NOUNS, SUMMARIES, complete
from picontroller.host.services import sections

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")
TARGETS = (
    "help", "setup", "run", "run-mesh", "agent", "test", "test-real", "lint",
    "format", "proto", "proto-check", "bench", "build", "clean",
)  # fmt: skip


def text(name: str) -> str:
    return (ROOT / name).read_text()


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))


def test_makefile_has_every_promised_target_with_its_help() -> None:
    assert set(TARGETS) <= targets()
    documented = set(re.findall(r"^([a-z-]+):.*## \S", text("Makefile"), re.MULTILINE))
    assert set(TARGETS) <= documented


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_when_named_exist(document: str) -> None:
    named = set(re.findall(r"\bmake ([a-z-]+)", text(document)))
    assert named <= targets() | {"SIMULATE"}, named - targets()
    verbs = set(re.findall(r"\bpictl ([a-z-]+)", text(document)))
    assert verbs <= {*NOUNS, *SUMMARIES, "doctor", "version"}, verbs


def options_of(noun: str, verb: str) -> set[str]:
    command = typer.main.get_command(complete([noun]))
    group = command.get_command(None, noun)  # type: ignore[attr-defined]  # a group, which looks nothing up in a context
    found = group.get_command(None, verb)
    assert found is not None, f"there is no pictl {noun} {verb}"
    return {name for parameter in found.params for name in parameter.opts}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_verbs_and_options_when_named_exist(document: str) -> None:
    for noun, verb, rest in re.findall(rf"\bpictl ({'|'.join(NOUNS)}) ([a-z-]+)([^#`\n]*)", text(document)):
        known = options_of(noun, verb)
        assert set(re.findall(r"(?<!\S)--[a-z-]+", rest)) <= known | {"--yes"}, f"pictl {noun} {verb}{rest}"


def test_readme_names_what_there_is_to_do_about_trust() -> None:
    section = text("README.md").partition("\n## Trust\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"\bpictl ((?:cert|token|audit) [a-z-]+|join|doctor)", section))
    assert named >= {
        "token create", "token list", "token revoke", "cert list", "cert renew", "cert revoke", "cert authority", "cert rotate-ca",
        "audit tail", "audit search", "audit verify", "audit export", "doctor",
    }  # fmt: skip
    assert "[limits]" in section


@pytest.mark.parametrize("section", ["LimitSettings", "GatewaySettings"])
def test_limits_when_listed_are_the_defaults(section: str) -> None:
    """The table in ARCHITECTURE.md has the numbers that are in force when nobody says otherwise."""
    table = text("ARCHITECTURE.md").partition("**Limits**")[2].partition("\n## ")[0].replace(",", "")
    numbers = {float(number) for number in re.findall(r"\d+", table)}
    settings = sections()["limits" if section == "LimitSettings" else "gateway"]()
    wanted = [name for name in settings.__slots__ if re.search(r"(second|burst|streams|address)$", name)]
    assert len(wanted) >= 4
    assert {name: getattr(settings, name) for name in wanted if float(getattr(settings, name)) not in numbers} == {}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_when_named_exist(document: str) -> None:
    places = [ROOT, *(ROOT / folder / "picontroller" for folder in ("libs", "services", "agent", "gateway"))]
    for name in re.findall(r"`([a-z_]+(?:/[a-z_]+)+\.(?:py|proto|binpb))`", text(document)):
        assert any((place / name).exists() for place in places), f"{document} names {name}"
    for name in re.findall(r"\]\(([A-Z]+\.md)\)", text(document)):
        assert (ROOT / name).exists()


def test_readme_first_screen_has_its_two_commands() -> None:
    first = text("README.md").splitlines()[:12]
    assert any("make run" in line for line in first)
    assert any("make test" in line for line in first)


@pytest.mark.parametrize("section", sorted(sections()))
def test_settings_are_frozen_and_every_field_is_documented(section: str) -> None:
    kind = sections()[section]
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]  # set by the decorator
    documented = config.documentation(kind)
    fields = set(kind.__dataclass_fields__)  # type: ignore[attr-defined]  # likewise
    assert fields == set(documented)
    assert all(len(each) > 20 for each in documented.values())
    assert not [name for name in fields if re.search(r"(password|secret|token|key)$", name)], "secrets stand in files"
