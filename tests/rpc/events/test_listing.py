"""ListEvents: pages of the past."""

import pytest

from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.v1 import events_pb2
from tests.rpc.events.hosting import Bus, Stub
from tests.rpc.events.speaking import listed, publish


async def test_pages_when_put_together_are_everything_once(stub: Stub) -> None:
    await publish(stub, *[f"a.n{index}" for index in range(25)])
    for size in (1, 7, 25, 1000):
        assert [e.type for e in await listed(stub, size=size)] == [f"a.n{index}" for index in range(25)]


async def test_page_when_no_size_is_asked_has_a_hundred_and_never_more_than_a_thousand(stub: Stub) -> None:
    for first in (1, 1001):
        await publish(stub, *["a.b"] * 1000, first=first)
    default = await rpc.unary(stub.ListEvents, events_pb2.ListEventsRequest())
    huge = await rpc.unary(stub.ListEvents, events_pb2.ListEventsRequest(page_size=10**9))
    assert (len(default.events), len(huge.events)) == (100, 1000)
    assert default.next_page_token
    assert huge.next_page_token


async def test_listing_when_filtered_and_after_a_cursor_answers_the_rest_that_matches(stub: Stub) -> None:
    await publish(stub, *["a.b", "c.d"] * 10)
    events = await listed(stub, size=3, filter=events_pb2.EventFilter(type=["c.*"]))
    assert [e.type for e in events] == ["c.d"] * 10
    rest = await listed(stub, size=3, after=events[3].cursor, filter=events_pb2.EventFilter(type=["c.*"]))
    assert rest == events[4:]


async def test_page_when_its_events_are_large_fits_into_a_message(stub: Stub) -> None:
    for first in range(1, 31):
        sent = events_pb2.Event(type="a.b")
        sent.timestamp.GetCurrentTime()
        sent.data.update({"x": "x" * 500_000})
        await rpc.unary(stub.Publish, events_pb2.PublishRequest(events=[sent], source_epoch="e", first_sequence=first))
    assert len(await listed(stub, size=1000)) == 30


@pytest.mark.parametrize("token", ["rubbish", "AAAA", "x" * 512, "\u00e9"])
async def test_token_when_forged_is_invalid(stub: Stub, token: str) -> None:
    await publish(stub, "a.b")
    with pytest.raises(errors.InvalidArgument) as caught:
        await rpc.unary(stub.ListEvents, events_pb2.ListEventsRequest(page_token=token))
    assert caught.value.reason == "PAGE_TOKEN_INVALID"


async def test_token_when_of_another_listing_is_invalid(stub: Stub) -> None:
    await publish(stub, *["a.b"] * 5)
    page = await rpc.unary(stub.ListEvents, events_pb2.ListEventsRequest(page_size=2))
    chosen = events_pb2.EventFilter(type=["a.*"])
    with pytest.raises(errors.InvalidArgument):
        await rpc.unary(stub.ListEvents, events_pb2.ListEventsRequest(page_size=2, page_token=page.next_page_token, filter=chosen))


async def test_size_when_negative_is_invalid(stub: Stub) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        await rpc.unary(stub.ListEvents, events_pb2.ListEventsRequest(page_size=-1))
    assert [violation.field for violation in caught.value.violations] == ["page_size"]


@pytest.mark.parametrize(("path", "roles"), [("node/n1", ()), ("user/eve", ())])
async def test_listing_when_not_allowed_is_denied(bus: Bus, path: str, roles: tuple[str, ...]) -> None:
    async with bus.running():
        with pytest.raises(errors.PermissionDenied):
            await listed(bus.stub(path, roles=roles))


async def test_listing_when_a_monitor_asks_is_answered(bus: Bus) -> None:
    async with bus.running():
        await publish(bus.stub(), "a.b")
        assert len(await listed(bus.stub("user/anna", roles=("monitor",)))) == 1
