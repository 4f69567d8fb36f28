"""How results are shown: tables for people, JSON, JSON lines, YAML and names for programs.

JSON has the proto's names and the same content as REST. Colours and escape bytes appear on a terminal only, and never with NO_COLOR.
"""

import enum
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from google.protobuf.message import Message

STATUS_COLOURS = {"ready": "green", "high": "green", "error": "red", "lost": "red", "discovered": "yellow", "stale": "yellow"}


class Format(enum.StrEnum):
    """What ``-o`` takes."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    JSONL = "jsonl"
    YAML = "yaml"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading, how to get its text from a message, and the one format it is for (None: table and wide)."""

    heading: str
    text: Callable[[Any], str]
    only: Format | None = None


@dataclass(frozen=True, slots=True)
class View:
    """How a kind of thing is shown. ``plural`` names the list in JSON and the things in ``-o name``."""

    plural: str
    columns: Sequence[Column]
    name: Callable[[Any], str]


def as_data(message: "Message") -> dict[str, Any]:
    """Return a message as its canonical JSON, with the proto's names and with fields that have their default value."""
    from google.protobuf import json_format  # here, because help and version need no messages

    data: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return cast("dict[str, Any]", _whole(data))


def _whole(value: Any) -> Any:
    """Return JSON data with whole numbers written as such: a Struct knows only floats, and REST writes 17, not 17.0."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def coloured() -> bool:
    """Return whether standard output may have colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def show_list(view: View, messages: Sequence["Message"], chosen: Format) -> None:
    """Print several things."""
    if chosen is Format.JSON:
        _write(json.dumps({view.plural: [as_data(message) for message in messages]}, indent=2))
    elif chosen is Format.YAML:
        _write(yaml({view.plural: [as_data(message) for message in messages]}).rstrip())
    else:
        _show_rows(view, messages, chosen)


def show_one(view: View, message: "Message", chosen: Format) -> None:
    """Print one thing."""
    if chosen is Format.JSON:
        _write(json.dumps(as_data(message), indent=2))
    elif chosen is Format.YAML:
        _write(yaml(as_data(message)).rstrip())
    else:
        _show_rows(view, [message], chosen)


def show_line(message: "Message", text: str, chosen: Format) -> None:
    """Print one line of a stream: JSON for every machine format, else ``text``."""
    _write(json.dumps(as_data(message)) if chosen in (Format.JSON, Format.JSONL, Format.YAML) else text, flush=True)


def note(text: str) -> None:
    """Print something that is no data, on standard error."""
    sys.stderr.write(text + "\n")


def _show_rows(view: View, messages: Sequence["Message"], chosen: Format) -> None:
    if chosen is Format.JSONL:
        for message in messages:
            _write(json.dumps(as_data(message)))
    elif chosen is Format.NAME:
        for message in messages:
            _write(f"{view.plural}/{view.name(message)}")
    elif not messages:
        note(f"no {view.plural.replace('_', ' ')}")
    else:
        columns = [column for column in view.columns if column.only in (None, chosen)]
        _write(table([column.heading for column in columns], [[c.text(message) for c in columns] for message in messages]))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows below headings, columns as wide as their widest cell, words of status coloured on a terminal."""
    everything = [list(headings), *([_clean(cell) for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in everything) for index in range(len(headings))]
    paint = coloured()
    lines = []
    for number, row in enumerate(everything):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if paint:
            cells = [f"\x1b[1m{cell}\x1b[0m" if number == 0 else _painted(cell) for cell in cells]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _painted(cell: str) -> str:
    numbers = {"green": 32, "red": 31, "yellow": 33}
    colour = STATUS_COLOURS.get(cell.strip())
    return f"\x1b[{numbers[colour]}m{cell}\x1b[0m" if colour else cell


def plain(text: str) -> str:
    """Return ``text`` without control characters: names come from strangers and must not drive the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _clean(cell: str) -> str:
    return plain(cell) or "-"


def yaml(value: Any, indent: int = 0) -> str:
    """Return JSON data as YAML. Texts are written as JSON strings, which YAML reads unchanged."""
    space = "  " * indent
    if isinstance(value, Mapping):
        if not value:
            return f"{space}{{}}\n"
        return "".join(f"{space}{key}:{_nested(item, indent)}" for key, item in value.items())
    if isinstance(value, list):
        if not value:
            return f"{space}[]\n"
        return "".join(f"{space}-{_item(item, indent)}" for item in value)
    return f"{space}{_scalar(value)}\n"


def _nested(value: Any, indent: int) -> str:
    if isinstance(value, Mapping | list) and value:
        return "\n" + yaml(value, indent + 1)
    return f" {_scalar(value)}\n"


def _item(value: Any, indent: int) -> str:
    if isinstance(value, Mapping | list) and value:
        return " " + yaml(value, indent + 1).lstrip(" ")
    return f" {_scalar(value)}\n"


def _scalar(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _write(text: str, *, flush: bool = False) -> None:
    sys.stdout.write(text + "\n")
    if flush:
        sys.stdout.flush()
