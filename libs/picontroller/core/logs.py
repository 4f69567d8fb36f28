"""Structured logging on the standard library, which keeps the agent small.

An event is a constant lower-case sentence; values are fields (``extra={"node_id": …}``). One JSON object a line, or a readable line on a
terminal. Fields whose names say that they are secret are blotted out, whatever a caller passes.
"""

import json
import logging
import sys
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TextIO

request_id: ContextVar[str] = ContextVar("request_id", default="")

SECRET_FIELDS = frozenset({"token", "secret", "password", "authorization", "key_pem", "private_key", "cookie"})
_STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Return the fields that the caller passed, secrets blotted out."""
    return {name: "(hidden)" if name in SECRET_FIELDS else value for name, value in vars(record).items() if name not in _STANDARD}


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What a process writes to standard error (``[log]``)."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least important message that is written. SIGHUP applies a change to a control plane without a restart."""

    style: Literal["auto", "json", "console"] = "auto"
    """``console`` is for people, ``json`` for programs; ``auto`` asks whether standard error is a terminal."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, event, request_id where there is one, then the caller's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if current := request_id.get():
            entry["request_id"] = current
        entry.update(fields_of(record))
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class ConsoleFormatter(logging.Formatter):
    """A line for people: time, level, event, fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one readable line, with a traceback below it where there is one."""
        time = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        fields = "".join(f" {name}={value}" for name, value in fields_of(record).items())
        line = f"{time} {record.levelname.lower():7} {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure(level: str = "INFO", style: Literal["auto", "json", "console"] = "auto", stream: TextIO | None = None) -> None:
    """Send this process's log to ``stream`` (standard error when None). ``auto`` writes for people on a terminal and JSON elsewhere."""
    target = stream or sys.stderr
    readable = style == "console" or (style == "auto" and target.isatty())
    handler = logging.StreamHandler(target)
    handler.setFormatter(ConsoleFormatter() if readable else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
