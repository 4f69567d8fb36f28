"""Abuse of the event bus: cursors that point elsewhere, and filters that would tell what they hide."""

import base64
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.core.store.sqlite import Database
from picontroller.events.cursors import Cursors
from picontroller.events.settings import Settings
from picontroller.events.store import SCHEMA, SqliteStore
from picontroller.v1 import events_pb2
from tests.rpc.events.hosting import Bus
from tests.rpc.events.speaking import Stub, event, listed, publish, request, subscribed


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Bus]:
    bus = Bus(tmp_path)
    yield bus
    await bus.close()


async def cursors_of(folder: Path) -> Cursors:
    """Return the means to make cursors that the journal in ``folder`` would never give out."""
    async with await Database.open(folder / "events" / "events.db", SCHEMA) as database:
        store = await SqliteStore.load(database)
    return Cursors(store.epoch, store.key)


async def refused(stub: Stub, cursor: str) -> list[errors.Error]:
    """Return the errors with which Subscribe and ListEvents refuse a cursor."""
    with pytest.raises(errors.Error) as by_subscribe:
        async for _ in rpc.stream(stub.Subscribe, events_pb2.SubscribeRequest(after=cursor)):
            pass
    with pytest.raises(errors.Error) as by_list:
        await rpc.unary(stub.ListEvents, events_pb2.ListEventsRequest(after=cursor))
    return [by_subscribe.value, by_list.value]


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("future", "CURSOR_FUTURE"),
        ("negative", "CURSOR_NEGATIVE"),
        ("other epoch", "CURSOR_EPOCH"),
        ("compacted", "CURSOR_COMPACTED"),
    ],
)
async def test_abuse_46_cursor_elsewhere_is_out_of_range_with_the_oldest(bus: Bus, place: str, reason: str) -> None:
    async with bus.running():
        await publish(bus.stub(), *["a.b"] * 20)
    ours = await cursors_of(bus.folder)
    cursor = {
        "future": ours.seal(21),
        "negative": ours.seal(-1),
        "other epoch": Cursors("00000000-0000-4000-8000-000000000000", bytes(16)).seal(5),
        "compacted": ours.seal(3),
    }[place]
    async with bus.running(Settings(max_rows=10, sweep_seconds=0.02)):
        while len(await listed(bus.stub())) > 10:
            pass  # until the sweep has come by
        for error in await refused(bus.stub(), cursor):
            assert isinstance(error, errors.OutOfRange)
            assert error.reason == reason
            assert len(await listed(bus.stub(), after=error.metadata["oldest"])) == 10


async def test_abuse_46_cursor_from_before_a_restore_is_out_of_range(bus: Bus) -> None:
    async with bus.running():
        await publish(bus.stub(), "a.kept")
    shutil.copytree(bus.folder / "events", bus.folder / "saved")
    async with bus.running():
        cursor = (await publish(bus.stub(), "a.lost", first=2)).cursor
    shutil.rmtree(bus.folder / "events")
    (bus.folder / "saved").rename(bus.folder / "events")
    async with bus.running():
        for error in await refused(bus.stub(), cursor):
            assert isinstance(error, errors.OutOfRange)
            assert [e.type for e in await listed(bus.stub(), after="start")] == ["a.kept"]


@pytest.mark.parametrize("cursor", ["-1", "0", "latest", "START", "AAAA", "A" * 44, "A" * 128, "\u00fc" * 44, "start "])
async def test_abuse_46_cursor_made_up_is_invalid_argument(bus: Bus, cursor: str) -> None:
    async with bus.running():
        await publish(bus.stub(), "a.b")
        for error in await refused(bus.stub(), cursor):
            assert isinstance(error, errors.InvalidArgument)
            assert error.reason == "CURSOR_MALFORMED"
            assert [violation.field for violation in error.violations] == ["after"]


@pytest.mark.parametrize("path", ["node/n1", "user/nobody"])
async def test_abuse_49_reading_without_right_is_denied_whatever_the_filter(bus: Bus, path: str) -> None:
    async with bus.running():
        await publish(bus.stub(), "a.b")
        stub = bus.stub(path)
        for chosen in ({}, {"type": ["a.*"]}, {"namespace": ["default"]}, {"node_id": ["n1"]}):
            with pytest.raises(errors.PermissionDenied):
                async with subscribed(stub, after="start", **chosen) as subscription:
                    await subscription.response()
            with pytest.raises(errors.PermissionDenied):
                async with subscribed(stub, **chosen):
                    pass
            with pytest.raises(errors.PermissionDenied):
                await listed(stub, filter=events_pb2.EventFilter(**chosen))


async def view(bus: Bus, hidden: int) -> tuple[list[object], list[bytes]]:
    """Return what a filtered reader can compare when ``hidden`` events lie between two of its own, and the cursors' encrypted parts."""
    chosen = events_pb2.EventFilter(namespace=["mine"])
    async with bus.running():
        stub = bus.stub()
        own = event("a.b", namespace="mine")
        await rpc.unary(stub.Publish, request(own, *[event("a.b", namespace="theirs")] * hidden, own))
        async with subscribed(stub, after="start", namespace=["mine"]) as subscription:
            events = await subscription.events(2)
        first = await rpc.unary(stub.ListEvents, events_pb2.ListEventsRequest(filter=chosen, page_size=1))
        second = await rpc.unary(
            stub.ListEvents, events_pb2.ListEventsRequest(filter=chosen, page_size=1, page_token=first.next_page_token)
        )
    await bus.close()
    texts = [e.cursor for e in events]
    key = base64.urlsafe_b64decode(first.next_page_token)[16:].decode()
    facts: list[object] = [len(text) for text in texts]
    facts += [len(first.events), len(second.events), second.next_page_token, len(key), texts[0] in key]
    return facts, [base64.urlsafe_b64decode(text)[17:] for text in texts]


async def test_abuse_49_filter_tells_nothing_of_what_it_hides(tmp_path: Path) -> None:
    views = []
    for hidden in (0, 900):
        (tmp_path / str(hidden)).mkdir()
        facts, blocks = await view(Bus(tmp_path / str(hidden)), hidden)
        views.append(facts)
        # Neighbours or not, cursors are as far from each other as strangers: about half of the bits.
        assert (int.from_bytes(blocks[0]) ^ int.from_bytes(blocks[1])).bit_count() > 30
    assert views[0] == views[1]
    assert views[0][-1], "the page token holds a cursor and nothing else"
