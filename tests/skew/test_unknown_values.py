"""Values that a newer release may send and this one does not know: they are passed over or shown as what they are, and break nothing."""

import pytest

from picontroller.discovery import messages as discovery_messages
from picontroller.gateway.cli import gpio as gpio_commands
from picontroller.gateway.cli import nodes as node_commands
from picontroller.gpio import messages as gpio_messages
from picontroller.gpio.boards import Position
from picontroller.v1 import agent_pb2, discovery_pb2, types_pb2
from tests.unit.discovery.samples import ONE, ready

NEWER = 99


def newer(message: agent_pb2.PinEvent, field: int) -> agent_pb2.PinEvent:
    """Return the message with an enum value that only a newer release has, put there on the wire."""
    message.MergeFromString(bytes([field << 3, NEWER]))
    return message


def test_events_when_of_a_kind_that_is_not_known_are_passed_over_and_the_stream_goes_on() -> None:
    known = agent_pb2.PinEvent(sequence=2, cause=agent_pb2.PinEvent.Cause.WRITE, value=types_pb2.Level.HIGH)
    strange = newer(agent_pb2.PinEvent(sequence=1), 4)
    assert strange.cause == NEWER
    batch = gpio_messages.batch_from(agent_pb2.WatchEdgesResponse(events=[strange, known], run_id="r", sequence=2))
    assert [event.sequence for event in batch.events] == [2]
    assert batch.position == Position("r", 2)


def test_level_when_it_is_not_known_is_none() -> None:
    event = newer(agent_pb2.PinEvent(sequence=1, cause=agent_pb2.PinEvent.Cause.EDGE), 3)
    (line,) = gpio_messages.batch_from(agent_pb2.WatchEdgesResponse(events=[event])).events
    assert line.level is None


def test_node_when_its_state_is_not_known_is_worth_a_try_and_listed() -> None:
    node = discovery_pb2.Node(id="n1", agent_address="192.0.2.7:7450")
    node.MergeFromString(bytes([8 << 3, NEWER]))
    assert node.status == NEWER
    assert gpio_messages.node_from(node).online
    assert node_commands.status(node) == "unknown (99)"


def test_change_when_of_a_kind_that_is_not_known_is_taken_as_news_of_the_node() -> None:
    response = discovery_pb2.WatchNodesResponse(node=discovery_pb2.Node(id="n1", agent_address="192.0.2.7:7450"))
    response.MergeFromString(bytes([1 << 3, NEWER]))
    assert response.change == NEWER
    assert gpio_messages.node_from(response.node).online


@pytest.mark.parametrize(("number", "text"), [(0, ""), (2, "high"), (NEWER, "unknown (99)")])
def test_word_when_its_number_is_not_known_is_shown_as_that(number: int, text: str) -> None:
    assert gpio_commands.word(types_pb2.Level.Value, number) == text


def test_capabilities_when_an_agent_says_more_than_is_known_are_passed_on_whole() -> None:
    said = types_pb2.Capabilities(model="Raspberry Pi 9").SerializeToString() + bytes([0xFA, 0x07, 1, 0x41])  # field 127, text "A"
    request = discovery_pb2.RegisterNodeRequest(id=ONE)
    request.capabilities.MergeFromString(said)
    kept = discovery_messages.registration_from(request).capabilities
    assert discovery_messages.node_to(ready(ONE, capabilities=kept)).capabilities.SerializeToString() == said
