"""Publish and PublishStream: what is acknowledged is on disk, once, in order."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from picontroller.core import errors
from picontroller.core.rpc import errors as rpc_errors
from picontroller.core.rpc import mesh as rpc
from picontroller.events.messages import LARGEST_EVENT_BYTES
from picontroller.v1 import events_pb2
from tests.rpc.events.hosting import Bus, Stub
from tests.rpc.events.speaking import event, listed, publish, request, subscribed


async def test_publish_when_it_answers_is_listed_in_order_with_cursors(stub: Stub) -> None:
    answer = await publish(stub, "a.one", "a.two", "a.three")
    assert answer.last_sequence == 3
    events = await listed(stub)
    assert [e.type for e in events] == ["a.one", "a.two", "a.three"]
    assert events[-1].cursor == answer.cursor
    assert len({e.cursor for e in events}) == 3


async def test_publish_when_an_event_has_every_field_keeps_them_but_for_the_cursor(stub: Stub) -> None:
    sent = event(resource="led", cluster_id="c1", node_id="n1", namespace="default", cursor="mine")
    sent.data.update({"value": "HIGH", "count": 3, "nested": {"list": [1, None, True]}})
    await rpc.unary(stub.Publish, request(sent))
    (got,) = await listed(stub)
    assert got.cursor not in ("", "mine")
    got.cursor = "mine"
    assert got == sent


async def test_publish_when_repeated_adds_nothing_and_answers_the_same(stub: Stub) -> None:
    first = await publish(stub, "a.b", "c.d")
    assert await publish(stub, "a.b", "c.d") == first
    assert len(await listed(stub)) == 2


async def test_publish_when_sent_twice_at_once_is_added_once(stub: Stub) -> None:
    answers = await asyncio.gather(*(publish(stub, "a.b", "c.d") for _ in range(10)))
    assert len({answer.cursor for answer in answers}) == 1
    assert len(await listed(stub)) == 2


async def test_publish_when_sources_share_epoch_and_sequence_keeps_them_apart(bus: Bus) -> None:
    async with bus.running():
        await publish(bus.stub("svc/gpio"), "gpio.edge")
        await publish(bus.stub("svc/discovery"), "node.ready")
        assert [e.type for e in await listed(bus.stub())] == ["gpio.edge", "node.ready"]


async def test_publish_when_sequences_are_missing_tells_readers(stub: Stub) -> None:
    async with subscribed(stub) as subscription:
        await publish(stub, "a.b")
        await publish(stub, "c.d", first=4)
        _, lost, after = await subscription.events(3)
    assert (lost.type, lost.resource, after.type) == ("events.lost", "gpio", "c.d")
    assert dict(lost.data) == {"source_epoch": "e", "first_sequence": "2", "last_sequence": "3"}


async def test_publish_when_cancelled_a_hundred_times_is_all_or_nothing_and_repeatable(stub: Stub) -> None:
    for index in range(100):
        call = stub.Publish(request(event(f"a.n{index}"), event(f"a.m{index}"), first=2 * index + 1), timeout=5)
        await asyncio.sleep(0.0002 * (index % 10))
        call.cancel()
        await publish(stub, f"a.n{index}", f"a.m{index}", first=2 * index + 1)
    assert [e.type for e in await listed(stub, size=1000)] == [f"a.{half}{index}" for index in range(100) for half in "nm"]


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        (request(), "events"),
        (request(event("NoDots")), "events[0].type"),
        (request(event(), epoch=""), "source_epoch"),
        (request(event(), first=0), "first_sequence"),
        (request(event(), first=2**63 - 1), "first_sequence"),
        (request(events_pb2.Event(type="a.b")), "events[0].timestamp"),
        (request(event(), *[event(resource="x" * LARGEST_EVENT_BYTES)]), "events[1].resource"),
    ],
)
async def test_publish_when_a_field_is_wrong_names_it_and_adds_nothing(stub: Stub, sent: events_pb2.PublishRequest, field: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        await rpc.unary(stub.Publish, sent)
    assert field in {violation.field for violation in caught.value.violations}
    assert await listed(stub) == []


async def test_publish_when_json_could_not_say_it_is_refused(stub: Stub) -> None:
    ancient, infinite, kindless, large = event(), event(), event(), event()
    ancient.timestamp.seconds = 253_402_300_800
    infinite.data.update({"deep": {"down": [1.0, float("nan")]}})
    kindless.data.fields["x"].SetInParent()
    large.data.update({"x": "x" * LARGEST_EVENT_BYTES})
    with pytest.raises(errors.InvalidArgument) as caught:
        await rpc.unary(stub.Publish, request(ancient, infinite, kindless, large))
    wanted = ["events[0].timestamp", "events[1].data", "events[2].data", "events[3]"]
    assert [violation.field for violation in caught.value.violations] == wanted
    assert await listed(stub) == []


@pytest.mark.parametrize(
    ("path", "roles"),
    [("node/n1", ()), ("user/anna", ("cluster-admin",)), ("user/anna", ("monitor",)), ("user/eve", ())],
)
async def test_publish_when_not_a_service_is_denied(bus: Bus, path: str, roles: tuple[str, ...]) -> None:
    async with bus.running():
        with pytest.raises(errors.PermissionDenied):
            await publish(bus.stub(path, roles=roles), "a.b")
        assert await listed(bus.stub()) == []


async def test_publish_when_a_person_claims_to_be_a_service_is_denied(bus: Bus) -> None:
    async with bus.running():
        with pytest.raises(errors.PermissionDenied):
            await publish(bus.stub("user/eve", roles=("service",)), "a.b")
        assert await listed(bus.stub()) == []


async def stream(stub: Stub, *requests: events_pb2.PublishRequest) -> tuple[list[int], errors.Error | None]:
    """Return the sequences that were acknowledged, and the error that the stream ended with."""

    async def outgoing() -> AsyncIterator[events_pb2.PublishRequest]:
        for sent in requests:
            yield sent

    acknowledged: list[int] = []
    try:
        async with asyncio.timeout(10):
            async for answer in stub.PublishStream(outgoing()):
                acknowledged.append(answer.last_sequence)
    except grpc.aio.AioRpcError as error:
        return acknowledged, rpc_errors.from_grpc(error)
    return acknowledged, None


async def test_publish_stream_when_many_are_in_flight_answers_in_order(stub: Stub) -> None:
    requests = [request(event(f"a.n{index}"), event(f"a.m{index}"), first=2 * index + 1) for index in range(200)]
    acknowledged, error = await stream(stub, *requests)
    assert (acknowledged, error) == (list(range(2, 401, 2)), None)
    assert [e.type for e in await listed(stub, size=1000)] == [f"a.{half}{index}" for index in range(200) for half in "nm"]


async def test_publish_stream_when_repeated_from_an_earlier_point_adds_the_rest(stub: Stub) -> None:
    await stream(stub, *[request(event(), first=first) for first in range(1, 6)])
    acknowledged, error = await stream(stub, *[request(event(), first=first) for first in range(3, 9)])
    assert (acknowledged, error) == ([5, 5, 5, 6, 7, 8], None)
    assert len(await listed(stub)) == 8


async def test_publish_stream_when_one_is_left_out_ends_with_where_to_go_on(stub: Stub) -> None:
    acknowledged, error = await stream(stub, request(event(), first=1), request(event(), first=3), request(event(), first=4))
    assert acknowledged == [1]
    assert isinstance(error, errors.FailedPrecondition)
    assert (error.reason, error.metadata["last_sequence"]) == ("SEQUENCE_GAP", "1")
    assert len(await listed(stub)) == 1


async def test_publish_stream_when_one_is_rubbish_ends_after_those_before(stub: Stub) -> None:
    acknowledged, error = await stream(stub, request(event(), first=1), request(event("Bad"), first=2), request(event(), first=2))
    assert acknowledged == [1]
    assert isinstance(error, errors.InvalidArgument)
    assert len(await listed(stub)) == 1


@pytest.mark.parametrize("path", ["node/n1", "user/anna"])
async def test_publish_stream_when_not_a_service_is_denied(bus: Bus, path: str) -> None:
    async with bus.running():
        acknowledged, error = await stream(bus.stub(path, roles=("monitor",)), request(event()))
        assert acknowledged == []
        assert isinstance(error, errors.PermissionDenied)
