"""The agent's own validator against protovalidate, on messages made at random: both must find fault with the same fields.

And the same for rules of every kind that the agent's validator claims to know, on a proto made here.
"""

from collections import Counter
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from picontroller.agent.validation.rules import UnknownRuleError
from picontroller.agent.validation.validator import AgentValidator
from picontroller.core.rpc.validation import ProtovalidateValidator
from picontroller.internal.buf.validate import validate_pb2
from picontroller.v1 import agent_pb2

MESSAGES = sorted(
    {method.input_type.full_name for method in agent_pb2.DESCRIPTOR.services_by_name["NodeAgentService"].methods}
    | {f"picontroller.v1.{name}" for name in ("PinRef", "PinOperation", "ConfigurePin", "WritePin")}
)
TEXTS = st.one_of(
    st.sampled_from(["", "a", "GPIO17", "J8:11", "x\n", "\n", "é", "a b", "x" * 32, "x" * 33, "x" * 64, "x" * 65, "ß" * 64]),
    st.text(max_size=12),
)
UINTS = st.one_of(st.sampled_from([0, 1, 27, 28, 40, 41, 2**32 - 1]), st.integers(0, 2**32 - 1))
INTS = st.one_of(st.sampled_from([0, 1, -1, 5, 2**31 - 1, -(2**31)]), st.integers(-50, 50))
ENUMS = st.integers(-1, 8)


def durations() -> st.SearchStrategy[dict[str, int]]:
    """Well-formed durations, near the limits of our rules more often than not."""
    seconds = st.one_of(st.sampled_from([0, 1, 2, 3600, 3601]), st.integers(0, 4000))
    nanos = st.one_of(st.sampled_from([0, 1, 99_999_999, 100_000_000]), st.integers(0, 999_999_999))
    sign = st.sampled_from([1, 1, 1, -1])
    return st.builds(lambda s, n, sign: {"seconds": s * sign, "nanos": n * sign}, seconds, nanos, sign)


def scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        return ENUMS
    return {
        FieldDescriptor.CPPTYPE_STRING: TEXTS,
        FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
        FieldDescriptor.CPPTYPE_INT32: INTS,
        FieldDescriptor.CPPTYPE_UINT32: UINTS,
        FieldDescriptor.CPPTYPE_UINT64: UINTS,
    }[field.cpp_type]


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor) -> Message:
    """A message with each field absent, right or wrong."""
    if descriptor.full_name == "google.protobuf.Duration":
        return message_factory.GetMessageClass(descriptor)(**draw(durations()))
    made = message_factory.GetMessageClass(descriptor)()
    chosen = {oneof.name: draw(st.sampled_from([None, *[field.name for field in oneof.fields]])) for oneof in descriptor.oneofs}
    for field in descriptor.fields:
        if field.containing_oneof is not None:
            if chosen[field.containing_oneof.name] != field.name:
                continue
        elif draw(st.integers(0, 4)) == 0:
            continue
        if field.is_repeated:
            size = draw(st.sampled_from([0, 1, 1, 2, 2, 3, 64, 65, 256, 257] if field.name in ("pins", "operations") else [0, 1, 2, 3, 4]))
            item = draw(messages(field.message_type)) if field.message_type is not None else None
            others = [draw(messages(field.message_type)) if item is not None else draw(scalars(field)) for _ in range(min(size, 3))]
            getattr(made, field.name).extend(others + [item] * max(0, size - 3) if item is not None else others)
        elif field.message_type is not None:
            getattr(made, field.name).CopyFrom(draw(messages(field.message_type)))
            getattr(made, field.name).SetInParent()
        else:
            setattr(made, field.name, draw(scalars(field)))
    return made


ours, theirs = AgentValidator(), ProtovalidateValidator()


def fields_found(validator: AgentValidator | ProtovalidateValidator, message: Message) -> Counter[str]:
    return Counter(violation.field for violation in validator.violations(message))


@pytest.mark.parametrize("name", MESSAGES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_verdict_on_our_messages_is_that_of_protovalidate(name: str, data: st.DataObject) -> None:
    message = data.draw(messages(descriptor_pool.Default().FindMessageTypeByName(name)))
    assert fields_found(ours, message) == fields_found(theirs, message)


def proto_of_rules() -> Descriptor:
    """A message with one field for each rule, and one for each pair of them that may meet."""
    needed = [validate_pb2.DESCRIPTOR.name, "google/protobuf/duration.proto"]
    file = descriptor_pb2.FileDescriptorProto(name="tests/contract/rules.proto", package="tests.rules", syntax="proto3", dependency=needed)
    kinds = file.enum_type.add(name="Kind")
    for number in (0, 1, 2, 5):
        kinds.value.add(name=f"KIND_{number}", number=number)
    inner = file.message_type.add(name="Inner")
    Field = descriptor_pb2.FieldDescriptorProto  # noqa: N806 - a class
    leaf = inner.field.add(name="leaf", number=1, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
    leaf.options.Extensions[validate_pb2.field].string.min_len = 2
    message = file.message_type.add(name="Rules")

    def add(name: str, kind: int, *, repeated: bool = False, type_name: str = "", oneof: int | None = None) -> validate_pb2.FieldRules:
        label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
        field = message.field.add(
            name=name, number=len(message.field) + 1, type=Field.Type.ValueType(kind), label=label, type_name=type_name or None
        )
        if oneof is not None:
            field.oneof_index = oneof
        return field.options.Extensions[validate_pb2.field]

    message.oneof_decl.add(name="choice").options.Extensions[validate_pb2.oneof].required = True
    message.oneof_decl.add(name="free")
    add("text_range", Field.TYPE_STRING).string.MergeFrom(validate_pb2.StringRules(min_len=2, max_len=4))
    add("text_uuid", Field.TYPE_STRING).string.uuid = True
    add("text_pattern", Field.TYPE_STRING).string.pattern = "^[a-z]+(-[0-9]{1,2})?$"
    add("text_required", Field.TYPE_STRING).MergeFrom(
        validate_pb2.FieldRules(required=True, string=validate_pb2.StringRules(min_len=2, pattern="^a"))
    )
    add("text_if_given", Field.TYPE_STRING).MergeFrom(
        validate_pb2.FieldRules(ignore=validate_pb2.IGNORE_IF_ZERO_VALUE, string=validate_pb2.StringRules(min_len=2))
    )
    add("text_ignored", Field.TYPE_STRING).MergeFrom(
        validate_pb2.FieldRules(ignore=validate_pb2.IGNORE_ALWAYS, string=validate_pb2.StringRules(min_len=2))
    )
    add("number", Field.TYPE_INT32).int32.MergeFrom(validate_pb2.Int32Rules(gte=-1, lte=5))
    add("number_open", Field.TYPE_UINT32).uint32.MergeFrom(validate_pb2.UInt32Rules(gt=1, lt=40))
    add("number_least", Field.TYPE_UINT64).uint64.gte = 1
    add("kind", Field.TYPE_ENUM, type_name=".tests.rules.Kind").enum.MergeFrom(validate_pb2.EnumRules(defined_only=True, not_in=[0]))
    enums = validate_pb2.EnumRules()
    getattr(enums, "in").extend([1, 2])
    add("kind_in", Field.TYPE_ENUM, type_name=".tests.rules.Kind").enum.MergeFrom(enums)
    add("wait", Field.TYPE_MESSAGE, type_name=".google.protobuf.Duration").duration.MergeFrom(
        validate_pb2.DurationRules(gt={"seconds": 1}, lt={"seconds": 3600})
    )
    add("wait_required", Field.TYPE_MESSAGE, type_name=".google.protobuf.Duration").MergeFrom(
        validate_pb2.FieldRules(required=True, duration=validate_pb2.DurationRules(lte={"seconds": 2}))
    )
    add("inner", Field.TYPE_MESSAGE, type_name=".tests.rules.Inner").required = True
    add("inner_list", Field.TYPE_MESSAGE, repeated=True, type_name=".tests.rules.Inner").repeated.min_items = 1
    texts = add("texts", Field.TYPE_STRING, repeated=True).repeated
    texts.MergeFrom(validate_pb2.RepeatedRules(max_items=3, unique=True))
    texts.items.string.MergeFrom(validate_pb2.StringRules(min_len=1, max_len=3))
    add("list_required", Field.TYPE_INT32, repeated=True).MergeFrom(
        validate_pb2.FieldRules(required=True, repeated=validate_pb2.RepeatedRules(min_items=2))
    )
    add("choice_text", Field.TYPE_STRING, oneof=0).string.max_len = 2
    add("choice_inner", Field.TYPE_MESSAGE, type_name=".tests.rules.Inner", oneof=0)
    add("free_number", Field.TYPE_INT32, oneof=1).int32.gte = 1
    descriptor_pool.Default().Add(file)  # type: ignore[no-untyped-call]  # absent from the stubs
    return descriptor_pool.Default().FindMessageTypeByName("tests.rules.Rules")


RULES = proto_of_rules()


@settings(max_examples=150, deadline=None)
@given(message=messages(RULES))
def test_verdict_on_every_rule_is_that_of_protovalidate(message: Message) -> None:
    assert fields_found(ours, message) == fields_found(theirs, message)


def refused(name: str, rules: validate_pb2.FieldRules, kind: int, *, repeated: bool = False, type_name: str = "") -> str:
    """Return what a validator says at the start of a proto with these rules."""
    Field = descriptor_pb2.FieldDescriptorProto  # noqa: N806 - a class
    file = descriptor_pb2.FileDescriptorProto(
        name=f"tests/contract/{name}.proto", package=f"tests.{name}", syntax="proto3", dependency=[validate_pb2.DESCRIPTOR.name]
    )
    asked = file.message_type.add(name="Asked")
    label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
    field = asked.field.add(name="value", number=1, type=Field.Type.ValueType(kind), label=label, type_name=type_name or None)
    field.options.Extensions[validate_pb2.field].CopyFrom(rules)
    service = file.service.add(name="Service")
    service.method.add(name="Ask", input_type=f".tests.{name}.Asked", output_type=f".tests.{name}.Asked")
    descriptor_pool.Default().Add(file)  # type: ignore[no-untyped-call]  # absent from the stubs
    with pytest.raises(UnknownRuleError) as caught:
        AgentValidator(descriptor_pool.Default().FindServiceByName(f"tests.{name}.Service"))
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "rules", "kind", "repeated"),
    [
        ("email", validate_pb2.FieldRules(string=validate_pb2.StringRules(email=True)), 9, False),
        ("cel", validate_pb2.FieldRules(cel=[validate_pb2.Rule(id="x", message="x", expression="this == 1")]), 5, False),
        ("bytes", validate_pb2.FieldRules(bytes=validate_pb2.BytesRules(max_len=1)), 12, False),
        ("double", validate_pb2.FieldRules(double=validate_pb2.DoubleRules(finite=True)), 1, False),
        ("constant", validate_pb2.FieldRules(int32=validate_pb2.Int32Rules(const=1)), 5, False),
        ("outside", validate_pb2.FieldRules(int32=validate_pb2.Int32Rules(gte=5, lte=1)), 5, False),
        ("pattern_middle", validate_pb2.FieldRules(string=validate_pb2.StringRules(pattern="^a$|^b$")), 9, False),
        ("pattern_class", validate_pb2.FieldRules(string=validate_pb2.StringRules(pattern=r"^\d+$")), 9, False),
        ("items", validate_pb2.FieldRules(repeated={"items": {"string": {"ipv4": True}}}), 9, True),
        ("items_required", validate_pb2.FieldRules(repeated={"items": {"required": True, "string": {"min_len": 1}}}), 9, True),
    ],
)
def test_start_when_a_rule_cannot_be_checked_is_refused(name: str, rules: validate_pb2.FieldRules, kind: int, repeated: bool) -> None:
    assert f"tests.{name}.Asked.value" in refused(f"unknown_{name}", rules, kind, repeated=repeated).replace("unknown_", "")


def test_start_when_a_message_contains_itself_is_refused() -> None:
    assert "contains itself" in refused("within", validate_pb2.FieldRules(), 11, type_name=".tests.within.Asked")


def test_abuse_40_duration_when_malformed_is_refused() -> None:
    for seconds, nanos in ((1, -1), (-1, 1), (0, 2_000_000_000), (400_000_000_000, 0), (2**62, 0)):
        request = agent_pb2.HealthCheckRequest(manager_ttl={"seconds": seconds, "nanos": nanos})
        assert [violation.field for violation in ours.violations(request)] == ["manager_ttl"]


def test_abuse_39_oneof_unset_and_enum_unknown_are_refused() -> None:
    request = agent_pb2.ControlGPIORequest(
        operations=[
            agent_pb2.PinOperation(pin={}, write={"value": 7}),  # type: ignore[arg-type]  # a number that no enum value has
            agent_pb2.PinOperation(pin={"bcm": 17}),
        ]
    )
    found = fields_found(ours, request)
    assert found == {"operations[0].pin.ref": 1, "operations[0].write.value": 1, "operations[1].action": 1}
