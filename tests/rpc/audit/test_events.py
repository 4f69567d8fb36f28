"""Events of the audit log on the bus: administrators read them, to everybody else they do not exist."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from picontroller.core import errors
from picontroller.core.clock import SystemClock
from picontroller.core.events import Event
from picontroller.core.rpc import mesh as rpc
from picontroller.events import messages
from picontroller.events.announcing import Announcer
from picontroller.events.entries import Appended, Submission
from picontroller.v1 import events_pb2
from tests.rpc.events.hosting import Bus
from tests.rpc.events.speaking import listed, publish, subscribed

KINDS = ("a.b", "audit.checkpoint", "a.c", "audit.checkpoint", "a.d")


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Bus]:
    made = Bus(tmp_path)
    async with made.running():
        await publish(made.stub(), *KINDS)
        yield made
        await made.close()


async def test_audit_events_when_read_by_an_administrator_are_there(bus: Bus) -> None:
    stub = bus.stub("user/anna", roles=("cluster-admin",))
    assert [event.type for event in await listed(stub)] == list(KINDS)
    assert len(await listed(stub, filter=events_pb2.EventFilter(type=["audit.*"]))) == 2
    async with subscribed(stub, after="start") as subscription:
        assert await subscription.types(5) == list(KINDS)


@pytest.mark.parametrize(("path", "roles"), [("user/mona", ("monitor",)), ("user/otto", ("gpio-operator",)), ("svc/gpio", ())])
async def test_audit_events_when_read_by_others_do_not_exist(bus: Bus, path: str, roles: tuple[str, ...]) -> None:
    stub = bus.stub(path, roles=roles)
    for chosen in ({}, {"type": ["*"]}, {"type": ["au*", "a.*"]}):
        found = await listed(stub, size=1, filter=events_pb2.EventFilter(**chosen))
        assert [event.type for event in found] == ["a.b", "a.c", "a.d"]
        async with subscribed(stub, after="start", **chosen) as subscription:
            assert await subscription.types(3) == ["a.b", "a.c", "a.d"]


@pytest.mark.parametrize("glob", ["audit.*", "audit.checkpoint", "audit.*t"])
async def test_audit_events_when_asked_for_by_name_are_refused_to_others(bus: Bus, glob: str) -> None:
    stub = bus.stub("user/mona", roles=("monitor",))
    with pytest.raises(errors.PermissionDenied) as caught:
        await listed(stub, filter=events_pb2.EventFilter(type=["a.*", glob]))
    assert caught.value.reason == "TYPE_FORBIDDEN"
    with pytest.raises(errors.PermissionDenied):
        async with subscribed(stub, type=[glob]) as subscription:
            await subscription.response()


async def test_page_token_of_an_administrator_is_of_no_use_to_others(bus: Bus) -> None:
    admin, monitor = bus.stub("user/anna", roles=("cluster-admin",)), bus.stub("user/mona", roles=("monitor",))
    page = await rpc.unary(admin.ListEvents, events_pb2.ListEventsRequest(page_size=1))
    with pytest.raises(errors.InvalidArgument):
        await rpc.unary(monitor.ListEvents, events_pb2.ListEventsRequest(page_size=1, page_token=page.next_page_token))


async def test_announcer_when_the_journal_fails_uses_the_same_sequence_again() -> None:
    taken: list[Submission] = []

    class Journal:
        fails = True

        async def publish(self, submission: Submission) -> Appended:
            taken.append(submission)
            if self.fails:
                raise errors.Unavailable("busy", reason="JOURNAL_BUSY")
            return Appended(submission.first_sequence, 1, ())

    journal = Journal()
    announcer = Announcer(journal, "events", messages.record_of)
    event = Event("audit.checkpoint", SystemClock().now(), resource="events", data={"number": "7"})
    with pytest.raises(errors.Unavailable):
        await announcer.publish(event)
    journal.fails = False
    await announcer.publish(event)
    await announcer.publish(event)
    assert [submission.first_sequence for submission in taken] == [1, 1, 2]
    assert len({submission.source_epoch for submission in taken}) == 1
