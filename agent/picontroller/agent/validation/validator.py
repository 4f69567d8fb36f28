"""Checking requests against the ``buf.validate`` rules of their protos without protovalidate, which would cost a Pi 26 MB of memory.

The rules of every message that can reach ``NodeAgentService`` are compiled when the validator is made, so that one it can't check stops the
agent at its start. A valid message costs no text at all: paths are built from the inside out, and only for what is wrong.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from picontroller.agent.validation.rules import Check, UnknownRuleError, kind_of, list_checks, refuse_unknown, value_checks
from picontroller.core.errors import Violation
from picontroller.internal.buf.validate import validate_pb2
from picontroller.v1 import agent_pb2

Found = list[tuple[str, str]]
"""Paths, from the message that was checked on, with what is wrong there."""

Step = Callable[[Any, Found], None]
"""Checks a message, or the value of one of its fields, and appends what it finds."""

_COMMON = ("required", "ignore")


class AgentValidator:
    """Implements ``core.rpc.validation.Validator`` for the agent's services."""

    def __init__(self, service: ServiceDescriptor | None = None) -> None:
        self._steps: dict[str, list[Step]] = {}
        self._unfinished: set[str] = set()
        for method in (service or agent_pb2.DESCRIPTOR.services_by_name["NodeAgentService"]).methods:
            self._compile(method.input_type)
            self._compile(method.output_type)
        self._by_class: dict[type[Message], list[Step]] = {}

    def violations(self, message: Message) -> list[Violation]:
        """Return what is wrong with ``message``, nothing when all is well."""
        kind = type(message)
        steps = self._by_class.get(kind)
        if steps is None:  # messages of other services on this server (health, reflection) come here first
            steps = self._by_class[kind] = self._compile(cast("Descriptor", message.DESCRIPTOR))
        found: Found = []
        for step in steps:
            step(message, found)
        return [Violation(path, problem) for path, problem in found]

    def _compile(self, descriptor: Descriptor) -> list[Step]:
        """Return the steps of a message. Raises UnknownRuleError for a rule, or a message within itself, that can't be checked."""
        place = descriptor.full_name
        if place in self._steps:
            return self._steps[place]
        if place in self._unfinished:
            raise UnknownRuleError(f"{place} contains itself, which the agent can't check")
        self._unfinished.add(place)
        steps: list[Step] = []
        refuse_unknown(descriptor.GetOptions().Extensions[validate_pb2.message], (), place)
        for oneof in descriptor.oneofs:
            if not _synthetic(oneof):
                steps.extend(self._oneof_steps(oneof))
        for field in descriptor.fields:
            if field.containing_oneof is None or _synthetic(field.containing_oneof):
                steps.extend(self._field_steps(field))
        self._unfinished.discard(place)
        self._steps[place] = steps
        return steps

    def _oneof_steps(self, oneof: OneofDescriptor) -> Iterator[Step]:
        """Yield one step that looks only at the member that is set."""
        rules = oneof.GetOptions().Extensions[validate_pb2.oneof]
        refuse_unknown(rules, ("required",), f"{oneof.containing_type.full_name}.{oneof.name}")
        members: dict[str, Step] = {}
        for field in oneof.fields:
            own = field.GetOptions().Extensions[validate_pb2.field]
            if own.required:
                raise UnknownRuleError(f"{field.full_name} is required within a oneof, which the agent can't check")
            step = self._value_step(field, own)
            if step is not None:
                members[field.name] = step
        if members or rules.required:
            yield _chosen(oneof.name, members, required=rules.required)

    def _field_steps(self, field: FieldDescriptor) -> Iterator[Step]:
        rules = field.GetOptions().Extensions[validate_pb2.field]
        if field.is_repeated:
            yield from self._repeated_steps(field, rules)
            return
        step = self._value_step(field, rules)
        if step is None and not rules.required:
            return
        if field.has_presence:
            yield _present(field.name, step, required=rules.required)
        elif rules.required or rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE:
            yield _not_zero(field.name, step, required=rules.required)
        else:
            yield _always(field.name, step or _nothing)

    def _value_step(self, field: FieldDescriptor, rules: validate_pb2.FieldRules) -> Step | None:
        """Return what checks the value of a field that is there, None when any value will do."""
        kind = kind_of(rules)
        refuse_unknown(rules, (*_COMMON, kind), field.full_name)
        if rules.ignore == validate_pb2.IGNORE_ALWAYS:
            return None
        if rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE and field.has_presence:
            raise UnknownRuleError(f"{field.full_name} ignores zero though it may be absent, which the agent can't check")
        steps = [_checked(field.name, check) for check in value_checks(rules, field, field.full_name)]
        if field.message_type is not None and kind != "duration":
            inner = self._compile(field.message_type)
            if inner:
                steps.append(_nested(field.name, inner))
        return _together(steps)

    def _repeated_steps(self, field: FieldDescriptor, rules: validate_pb2.FieldRules) -> Iterator[Step]:
        place, name = field.full_name, field.name
        refuse_unknown(rules, (*_COMMON, "repeated"), place)
        if rules.ignore == validate_pb2.IGNORE_ALWAYS:
            return
        listed = rules.repeated
        refuse_unknown(listed, ("min_items", "max_items", "unique", "items"), place)
        step = _together([_checked(name, check) for check in list_checks(listed)])
        if rules.required or rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE:
            yield _not_zero(name, step, required=rules.required)
        elif step is not None:
            yield _always(name, step)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            if rules.ListFields() or field.message_type.fields_by_name["value"].message_type is not None:
                raise UnknownRuleError(f"{place} is a map with rules or messages, which the agent can't check")
            return
        refuse_unknown(listed.items, (kind_of(listed.items),), f"{place} items")
        checks = value_checks(listed.items, field, place)
        inner = self._compile(field.message_type) if field.message_type is not None and kind_of(listed.items) != "duration" else []
        if checks or inner:
            yield _each(name, checks, inner)


def _synthetic(oneof: OneofDescriptor) -> bool:
    """Return whether a oneof stands for one optional field, as the compiler writes it."""
    return len(oneof.fields) == 1 and oneof.name == f"_{oneof.fields[0].name}"


def _together(steps: list[Step]) -> Step | None:
    if len(steps) < 2:
        return steps[0] if steps else None

    def step(value: Any, found: Found) -> None:
        for each in steps:
            each(value, found)

    return step


def _nothing(value: Any, found: Found) -> None:
    """Find nothing."""


def _checked(name: str, check: Check) -> Step:
    def step(value: Any, found: Found) -> None:
        problem = check(value)
        if problem is not None:
            found.append((name, problem))

    return step


def _chosen(name: str, members: Mapping[str, Step], *, required: bool) -> Step:
    def step(message: Any, found: Found) -> None:
        member = message.WhichOneof(name)
        if member is None:
            if required:
                found.append((name, "exactly one must be given"))
        elif (inner := members.get(member)) is not None:
            inner(getattr(message, member), found)

    return step


def _present(name: str, inner: Step | None, *, required: bool) -> Step:
    def step(message: Any, found: Found) -> None:
        if message.HasField(name):
            if inner is not None:
                inner(getattr(message, name), found)
        elif required:
            found.append((name, "must be given"))

    return step


def _not_zero(name: str, inner: Step | None, *, required: bool) -> Step:
    def step(message: Any, found: Found) -> None:
        value = getattr(message, name)
        if value:
            if inner is not None:
                inner(value, found)
        elif required:
            found.append((name, "must be given"))

    return step


def _always(name: str, inner: Step) -> Step:
    return lambda message, found: inner(getattr(message, name), found)


def _nested(name: str, steps: list[Step]) -> Step:
    def step(child: Any, found: Found) -> None:
        before = len(found)
        for each in steps:
            each(child, found)
        if len(found) > before:
            found[before:] = [(f"{name}.{path}", problem) for path, problem in found[before:]]

    return step


def _each(name: str, checks: list[Check], steps: list[Step]) -> Step:
    def step(message: Any, found: Found) -> None:
        for index, value in enumerate(getattr(message, name)):
            for check in checks:
                problem = check(value)
                if problem is not None:
                    found.append((f"{name}[{index}]", problem))
            before = len(found)
            for each in steps:
                each(value, found)
            if len(found) > before:
                found[before:] = [(f"{name}[{index}].{path}", problem) for path, problem in found[before:]]

    return step
