"""Settings from files and the environment."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from picontroller.core import config
from picontroller.core.config import ConfigurationError


@dataclass(frozen=True, slots=True)
class Lease:
    """Settings of a made-up section."""

    lease_seconds: float = 15.0
    """How long a lease lasts."""

    level: Literal["low", "high"] = "low"
    """Where it goes."""

    names: tuple[str, ...] = ()
    """Some names."""

    folder: Path | None = None
    """A folder; none when absent."""

    strict: bool = False
    """Whether it is strict."""

    def __post_init__(self) -> None:
        if self.lease_seconds <= 0:
            raise ValueError("lease_seconds must be above 0")


SECTIONS = {"gpio": Lease, "events": Lease}


def load(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> dict[str, Lease]:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return config.load(SECTIONS, path, environ or {})


def mistakes(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text, environ)
    return [f"{v.field}: {v.description}" for v in caught.value.violations]


def test_values_when_given_replace_defaults(tmp_path: Path) -> None:
    found = load(tmp_path, '[gpio]\nlease_seconds = 20\nlevel = "high"\nnames = ["a", "b"]\nfolder = "/srv"\nstrict = true\n')
    assert found["gpio"] == Lease(20.0, "high", ("a", "b"), Path("/srv"), True)
    assert found["events"] == Lease()


def test_environment_when_given_wins(tmp_path: Path) -> None:
    environ = {
        "PICONTROLLER_GPIO__LEASE_SECONDS": "7.5",
        "PICONTROLLER_GPIO__NAMES": "x, y",
        "PICONTROLLER_GPIO__STRICT": "TRUE",
        "HOME": "/",
    }
    assert load(tmp_path, "[gpio]\nlease_seconds = 20\n", environ)["gpio"] == Lease(7.5, names=("x", "y"), strict=True)


def test_mistakes_when_several_are_told_together_with_place_and_neighbours(tmp_path: Path) -> None:
    found = mistakes(tmp_path, '[gpio]\nleese_seconds = 1\nlevel = "middle"\n[gpoi]\nx = 1\n', {"PICONTROLLER_EVENTS__STRICT": "yes"})
    text = "\n".join(found)
    assert len(found) == 4
    assert "config.toml:2: [gpio] leese_seconds: unknown setting; did you mean lease_seconds?" in text
    assert "must be one of low, high, not 'middle'" in text
    assert "config.toml:4: [gpoi]: unknown section; did you mean gpio?" in text
    assert "PICONTROLLER_EVENTS__STRICT: must be true or false, not 'yes'" in text


def test_value_when_it_fits_its_type_and_is_wrong_is_refused(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "[gpio]\nlease_seconds = -1\n") == ["Lease: lease_seconds must be above 0"]


@pytest.mark.parametrize(
    ("value", "expected"), [('"5"', "5.0"), ("true", "must be a number, not True"), ("[1]", "must be a number, not [1]")]
)
def test_number_when_of_another_type(tmp_path: Path, value: str, expected: str) -> None:
    text = f"[gpio]\nlease_seconds = {value}\n"
    if expected[0].isdigit():
        assert str(load(tmp_path, text)["gpio"].lease_seconds) == expected
    else:
        assert expected in mistakes(tmp_path, text)[0]


def test_documentation_when_asked_has_every_field() -> None:
    assert set(config.documentation(Lease)) == {"lease_seconds", "level", "names", "folder", "strict"}


def test_rendered_settings_when_read_again_are_equal(tmp_path: Path) -> None:
    wanted = {"gpio": Lease(3.5, "high", ('a"b', "c\\d"), Path("/x"), True), "events": Lease()}
    assert load(tmp_path, config.render(wanted, comments=True)) == wanted
    assert load(tmp_path, config.render(wanted, comments=False)) == wanted
