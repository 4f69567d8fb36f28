"""Checking messages against the ``buf.validate`` rules in their protos."""

from functools import cache
from typing import Any, Protocol

from google.protobuf.message import Message

from picontroller.core.errors import Violation


class Validator(Protocol):
    """Knows the rules. The agent has one of its own that needs no protovalidate (26 MB of memory)."""

    def violations(self, message: Message) -> list[Violation]:
        """Return what is wrong with ``message``, nothing when all is well."""
        ...


class ProtovalidateValidator:
    """All rules, by the library of the rules' makers (2.9 µs for a valid small message)."""

    def __init__(self) -> None:
        import protovalidate  # here, because the agent imports this module and does not have the library

        self._validator = protovalidate.Validator()

    def violations(self, message: Message) -> list[Violation]:
        """Return what is wrong with ``message``."""
        return [
            Violation(_path(violation.proto.field) or "(message)", violation.proto.message)
            for violation in self._validator.collect_violations(message)
        ]


def _path(field: Any) -> str:
    """Return a field path as in the request: ``writes[2].value``."""
    path = ""
    for element in field.elements if field else ():
        path += ("." if path else "") + element.field_name
        if element.subscript is not None:
            path += f"[{element.subscript.value}]"
    return path


@cache
def default_validator() -> Validator:
    """Return the process's validator; making one costs tens of milliseconds."""
    return ProtovalidateValidator()
