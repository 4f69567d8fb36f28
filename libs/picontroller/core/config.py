"""Settings: a TOML file and the environment, into frozen dataclasses.

Every field of a settings class is followed by a string that documents it (meaning, unit, what None does, why this default). A key that no
class knows is an error with its place and its nearest neighbours; all errors are reported together, and nothing starts when there is one.
Secrets never stand in settings: fields named ``*_file`` say where they are.
"""

import ast
import dataclasses
import difflib
import inspect
import itertools
import os
import textwrap
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from picontroller.core.errors import InvalidArgument, Violation

PREFIX = "PICONTROLLER_"


class ConfigurationError(InvalidArgument):
    """The configuration can't be used; ``violations`` hold one line for each mistake."""

    default_reason = "CONFIGURATION_INVALID"


def default_path() -> Path:
    """Return where the configuration is when nobody says: the system's file if it exists, else the user's."""
    system = Path("/etc/pi-controller/config.toml")
    if system.exists():
        return system
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "pi-controller" / "config.toml"


def default_data_dir() -> Path:
    """Return where state is kept when nobody says: the system's folder for root, else the user's."""
    if os.geteuid() == 0:
        return Path("/var/lib/pi-controller")
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "pi-controller"


def load(sections: Mapping[str, type], path: Path | None, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return one instance of each section's class, from ``path`` (none when None) overridden by the environment.

    ``PICONTROLLER_GPIO__LEASE_SECONDS=20`` sets ``lease_seconds`` in ``[gpio]``. Raises ConfigurationError with every mistake found.
    """
    mistakes: list[Violation] = []
    text = _text(path, mistakes) if path else ""
    raw = _parsed(text, path, mistakes) if path else {}
    place = str(path) if path else "configuration"
    unknown = [name for name in raw if name not in sections]
    mistakes += [Violation(f"{place}:{_line_of(text, name)}: [{name}]", "unknown section" + _suggest(name, sections)) for name in unknown]
    values: dict[str, dict[str, Any]] = {}
    for name in sections:
        section = raw.get(name, {})
        if not isinstance(section, dict):
            mistakes.append(Violation(f"{place}: {name}", "must be a section: write [" + name + "]"))
            section = {}
        values[name] = {key: (value, f"{place}:{_line_of(text, name, key)}: [{name}] {key}") for key, value in section.items()}
    _overlay(values, sections, environ, mistakes)
    result = {name: _build(section_type, values[name], mistakes) for name, section_type in sections.items()}
    if mistakes:
        raise ConfigurationError("; ".join(f"{m.field}: {m.description}" for m in mistakes), violations=mistakes)
    return result


def documentation(settings_type: type) -> dict[str, str]:
    """Return the string that follows each field in the source of ``settings_type``."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(settings_type)))
    body = typing.cast("ast.ClassDef", tree.body[0]).body
    found: dict[str, str] = {}
    for field, text in itertools.pairwise(body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(documented))):
                found[name] = inspect.cleandoc(documented)
    return found


def render(sections: Mapping[str, Any], *, comments: bool) -> str:
    """Return instances as TOML; with ``comments``, each field below its documentation. Fields that are None are commented out."""
    lines: list[str] = []
    for name, instance in sections.items():
        lines.append(f"[{name}]")
        texts = documentation(type(instance)) if comments else {}
        for field in dataclasses.fields(instance):
            lines.extend(f"# {line}" for line in texts.get(field.name, "").splitlines())
            value = getattr(instance, field.name)
            lines.append(f"# {field.name} =" if value is None else f"{field.name} = {toml_value(value)}")
            if comments:
                lines.append("")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _text(path: Path, mistakes: list[Violation]) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        mistakes.append(Violation(str(path), "does not exist"))
    except IsADirectoryError:
        mistakes.append(Violation(str(path), "is a folder"))
    except PermissionError:
        mistakes.append(Violation(str(path), "may not be read by this user"))
    except UnicodeDecodeError as error:
        mistakes.append(Violation(str(path), f"is not UTF-8 at byte {error.start}"))
    return ""


def _parsed(text: str, path: Path, mistakes: list[Violation]) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        mistakes.append(Violation(str(path), f"is not TOML: {error}"))
    return {}


def _line_of(text: str, section: str, key: str = "") -> int:
    """Return the line of a section, or of a key in it, as people write them; 1 where it is written in another of TOML's ways."""
    inside = False
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if stripped.startswith("["):
            inside = stripped.partition("]")[0].strip("[ \"'") == section
            if inside and not key:
                return number
        elif inside and key and stripped.partition("=")[0].strip().strip("\"'") == key:
            return number
    return 1


def _overlay(
    values: dict[str, dict[str, Any]], sections: Mapping[str, type], environ: Mapping[str, str], mistakes: list[Violation]
) -> None:
    for variable, text in environ.items():
        if not variable.startswith(PREFIX):
            continue
        section, separator, key = variable.removeprefix(PREFIX).lower().partition("__")
        if not separator or section not in sections:
            mistakes.append(Violation(variable, "names no setting" + _suggest(section, sections)))
            continue
        values[section][key] = (text, variable)


def _build(section_type: type, values: Mapping[str, tuple[Any, str]], mistakes: list[Violation]) -> Any:
    hints = typing.get_type_hints(section_type)
    arguments: dict[str, Any] = {}
    for key, (value, place) in values.items():
        if key not in hints:
            mistakes.append(Violation(place, "unknown setting" + _suggest(key, hints)))
            continue
        try:
            arguments[key] = _convert(value, hints[key])
        except ValueError as error:
            mistakes.append(Violation(place, str(error)))
    try:
        return section_type(**arguments)
    except ValueError as error:  # raised by __post_init__ for values that fit their type and still can't be right
        mistakes.append(Violation(section_type.__name__, str(error)))
    return None


def _convert(value: Any, wanted: Any) -> Any:
    """Return ``value`` as ``wanted``; text from the environment is read as the type says. Raises ValueError with what was expected."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (types.UnionType, typing.Union):
        if value in ("", None):
            return None
        return _convert(value, next(a for a in arguments if a is not type(None)))
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"must be one of {', '.join(map(str, arguments))}, not {value!r}")
        return value
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, list):
            raise ValueError(f"must be a list, not {value!r}")
        return tuple(_convert(item.strip() if isinstance(item, str) else item, arguments[0]) for item in items if item != "")
    if wanted is bool:
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        return _expect(value, isinstance(value, bool), "true or false")
    if wanted is int or wanted is float:
        return _number(value, wanted)
    if wanted is Path:
        return Path(_expect(value, isinstance(value, str) and value != "", "a path")).expanduser()
    return _expect(value, isinstance(value, str), "text")


def _number(value: Any, wanted: type[int] | type[float]) -> int | float:
    kind = "a whole number" if wanted is int else "a number"
    if isinstance(value, bool):
        raise ValueError(f"must be {kind}, not {value!r}")
    if isinstance(value, str):
        try:
            return wanted(value)
        except ValueError:
            raise ValueError(f"must be {kind}, not {value!r}") from None
    _expect(value, isinstance(value, int) or (wanted is float and isinstance(value, float)), kind)
    return wanted(value)


def _expect(value: Any, holds: bool, what: str) -> Any:
    if not holds:
        raise ValueError(f"must be {what}, not {value!r}")
    return value


def _suggest(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, list(known), n=3)
    return f"; did you mean {' or '.join(near)}?" if near else f"; known are {', '.join(sorted(known))}"


def toml_value(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
