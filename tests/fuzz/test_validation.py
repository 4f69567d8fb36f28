"""The agent's own interpreter of the rules against protovalidate, on messages as attackers send them: the same verdict on the same bytes.

But for durations that are none (signs that contradict, more than 10,000 years): protovalidate compares them all the same, we refuse them.
"""

import random

import pytest
from google.protobuf import descriptor_pool, duration_pb2, message_factory
from google.protobuf.message import DecodeError, Message

from picontroller.agent.validation.validator import AgentValidator
from picontroller.core.rpc.validation import ProtovalidateValidator
from picontroller.v1 import agent_pb2
from tests.fuzz import campaigns, wire
from tests.fuzz.messages import Maker, Things

METHODS = [method.name for method in agent_pb2.DESCRIPTOR.services_by_name["NodeAgentService"].methods]
MESSAGES = 10_000
LONGEST_SECONDS = 315_576_000_000


def mutated(method: str, rng: random.Random, maker: Maker) -> Message | None:
    """Return a request that could still be read after what was done to its bytes."""
    descriptor = descriptor_pool.Default().FindMethodByName(f"picontroller.v1.NodeAgentService.{method}").input_type
    raw = maker.make(descriptor, rng, wild=rng.choice((0.0, 0.1, 0.4))).SerializeToString()
    if rng.random() < 0.7:
        raw = wire.mutate(raw[:5000], rng)
    try:
        read: Message = message_factory.GetMessageClass(descriptor).FromString(raw)
    except DecodeError:
        return None
    return read


def has_malformed_duration(message: Message) -> bool:
    """Return whether a duration anywhere in a message is none."""
    if isinstance(message, duration_pb2.Duration):
        contradicts = message.seconds * message.nanos < 0
        return contradicts or abs(message.seconds) > LONGEST_SECONDS or abs(message.nanos) > 999_999_999
    for field, value in message.ListFields():
        if field.message_type is not None and any(has_malformed_duration(each) for each in (value if field.is_repeated else [value])):
            return True
    return False


@pytest.mark.parametrize("method", METHODS)
def test_agents_verdict_on_mutated_messages_when_compared_is_that_of_protovalidate(method: str) -> None:
    seed, maker = campaigns.seed(), Maker(Things())
    ours, theirs = AgentValidator(), ProtovalidateValidator()
    valid = wrong = 0
    # What matters most has the most messages.
    share = MESSAGES // 2 if method == "ControlGPIO" else MESSAGES // 2 // (len(METHODS) - 1)
    for index in range(share):
        message = mutated(method, random.Random(f"validation:{seed}:{method}:{index}"), maker)
        if message is None:
            continue
        found = sorted(violation.field for violation in ours.violations(message))
        expected = sorted(violation.field for violation in theirs.violations(message))
        if has_malformed_duration(message):
            assert set(found) > set(expected) or found == expected != [], f"seed {seed}: {method} {message.SerializeToString().hex()}"
            wrong += 1
            continue
        assert found == expected, f"seed {seed}: {method} {message.SerializeToString().hex()}"
        valid, wrong = valid + (not found), wrong + bool(found)
    assert valid > 10, "hardly anything was valid"
    assert wrong > 10 or method in ("GetSystemMetrics", "GetCapabilities"), "hardly anything was wrong"
