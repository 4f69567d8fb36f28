"""What one ``buf.validate`` rule demands of one value, compiled to plain functions.

A rule that is not understood here raises at start: a rule that is ignored in silence would let through what the proto says can't come.
Only the rules that the agent's protos use are understood; ``tests/contract/test_validation.py`` holds them against protovalidate.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from picontroller.internal.buf.validate import validate_pb2

Check = Callable[[Any], str | None]
"""Takes a value and returns what is wrong with it, None when nothing is."""

INTEGERS = frozenset({"int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64", "sfixed32", "sfixed64"})
LONGEST_DURATION_SECONDS = 315_576_000_000
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class UnknownRuleError(Exception):
    """A proto carries a rule that the agent can't check."""


def kind_of(rules: validate_pb2.FieldRules) -> str:
    """Return which kind of value the rules are for (``string``, ``repeated`` …), empty when they name none."""
    return rules.WhichOneof("type") or ""


def refuse_unknown(rules: Message, known: Iterable[str], place: str) -> None:
    """Raise UnknownRuleError when ``rules`` hold anything but ``known``."""
    unknown = {field.name for field, _ in rules.ListFields()} - set(known)
    if unknown:
        raise UnknownRuleError(f"{place} has a rule that the agent can't check yet: {', '.join(sorted(unknown))}")


def value_checks(rules: validate_pb2.FieldRules, field: FieldDescriptor, place: str) -> list[Check]:
    """Return the checks of a single value of ``field``. Raises UnknownRuleError."""
    kind = kind_of(rules)
    if not kind:
        return []
    found = getattr(rules, kind)
    if kind == "string":
        return _string(found, place)
    if kind == "enum":
        return _enum(found, field, place)
    if kind == "duration":
        return _duration(found, place)
    if kind in INTEGERS:
        return _integer(found, place)
    raise UnknownRuleError(f"{place} has rules for {kind}, which the agent can't check; teach agent/validation/rules.py")


def _string(rules: validate_pb2.StringRules, place: str) -> list[Check]:
    refuse_unknown(rules, ("min_len", "max_len", "pattern", "uuid"), place)
    checks: list[Check] = []
    if rules.HasField("min_len"):
        shortest = rules.min_len
        checks.append(lambda text: f"must have at least {shortest} characters" if len(text) < shortest else None)
    if rules.HasField("max_len"):
        longest = rules.max_len
        checks.append(lambda text: f"must have at most {longest} characters" if len(text) > longest else None)
    if rules.HasField("pattern"):
        search = pattern_from(rules.pattern, place).search
        written = rules.pattern
        checks.append(lambda text: None if search(text) else f"does not match {written}")
    if rules.uuid:
        checks.append(lambda text: None if _UUID.fullmatch(text) else "must be a UUID")
    return checks


def pattern_from(pattern: str, place: str) -> re.Pattern[str]:
    """Return an RE2 pattern as Python's. They differ in ``$``, which in Python also matches before a last newline, and in classes."""
    body = pattern[:-1] if pattern.endswith("$") and not pattern.endswith(r"\$") else pattern
    if re.search(r"(?<!\\)\$", body) or re.search(r"\\[^.$/+*?()\[\]{}|^-]", body):
        raise UnknownRuleError(f"{place} has a pattern that may mean something else in Python: {pattern}")
    return re.compile(body + (r"\Z" if body != pattern else ""), re.ASCII)


def _enum(rules: validate_pb2.EnumRules, field: FieldDescriptor, place: str) -> list[Check]:
    refuse_unknown(rules, ("defined_only", "not_in", "in"), place)
    kind = field.enum_type
    if kind is None:
        raise UnknownRuleError(f"{place} has rules for an enum and is none")
    checks: list[Check] = []
    if rules.defined_only:
        defined = frozenset(kind.values_by_number)
        checks.append(lambda number: None if number in defined else f"must be one of {', '.join(kind.values_by_name)}")
    allowed = frozenset(getattr(rules, "in"))  # a word of Python's own
    if allowed:
        checks.append(lambda number: None if number in allowed else "is none of the values allowed here")
    if rules.not_in:
        refused = frozenset(rules.not_in)
        checks.append(lambda number: "must be given" if number in refused else None)
    return checks


def _integer(rules: Any, place: str) -> list[Check]:  # one class for each width, all with these fields
    refuse_unknown(rules, ("gt", "gte", "lt", "lte"), place)
    lowest = rules.gte if rules.HasField("gte") else rules.gt + 1 if rules.HasField("gt") else None
    highest = rules.lte if rules.HasField("lte") else rules.lt - 1 if rules.HasField("lt") else None
    return _range(lowest, highest, place, lambda number: number, str)


def _duration(rules: validate_pb2.DurationRules, place: str) -> list[Check]:
    refuse_unknown(rules, ("gt", "gte", "lt", "lte"), place)
    lowest = nanoseconds(rules.gte) if rules.HasField("gte") else nanoseconds(rules.gt) + 1 if rules.HasField("gt") else None
    highest = nanoseconds(rules.lte) if rules.HasField("lte") else nanoseconds(rules.lt) - 1 if rules.HasField("lt") else None
    checks = _range(lowest, highest, place, nanoseconds, lambda value: f"{value / 1e9:g} s")

    def well_formed(duration: Duration) -> str | None:
        seconds, nanos = duration.seconds, duration.nanos
        if abs(seconds) > LONGEST_DURATION_SECONDS or abs(nanos) > 999_999_999 or seconds * nanos < 0:
            return "is not a duration"
        found = (problem for check in checks if (problem := check(duration)))
        return next(found, None)

    return [well_formed]


def nanoseconds(duration: Duration) -> int:
    """Return a duration in nanoseconds, exactly."""
    return duration.seconds * 1_000_000_000 + duration.nanos


def _range(lowest: int | None, highest: int | None, place: str, number_of: Callable[[Any], int], show: Callable[[int], str]) -> list[Check]:
    if lowest is not None and highest is not None:
        low, high = lowest, highest
        if low > high:
            raise UnknownRuleError(f"{place} excludes a range, which the agent can't check")
        return [lambda value: None if low <= number_of(value) <= high else f"must be from {show(low)} to {show(high)}"]
    if lowest is not None:
        least = lowest
        return [lambda value: None if number_of(value) >= least else f"must be at least {show(least)}"]
    if highest is not None:
        most = highest
        return [lambda value: None if number_of(value) <= most else f"must be at most {show(most)}"]
    return []


def list_checks(rules: validate_pb2.RepeatedRules) -> list[Check]:
    """Return the checks of a list as a whole."""
    checks: list[Check] = []
    if rules.HasField("min_items"):
        fewest = rules.min_items
        checks.append(lambda values: f"must have at least {fewest} items" if len(values) < fewest else None)
    if rules.HasField("max_items"):
        most = rules.max_items
        checks.append(lambda values: f"must have at most {most} items" if len(values) > most else None)
    if rules.unique:
        checks.append(lambda values: "must have no item twice" if len(set(values)) < len(values) else None)
    return checks
