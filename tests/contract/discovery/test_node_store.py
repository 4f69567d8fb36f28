"""What discovery may expect of the store of its nodes, asked of the fake and of SQLite."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import apsw
import pytest

from picontroller.core.errors import Conflict, InvalidArgument
from picontroller.core.ids import NodeId
from picontroller.core.store.sqlite import Database
from picontroller.discovery import nodes
from picontroller.discovery.listing import Pages
from picontroller.discovery.nodes import Changes, NodeNotFound, NodeRole, Precondition
from picontroller.discovery.registry import NodeStore, RequestIdentity
from picontroller.discovery.store import SCHEMA, SqliteNodeStore
from tests.fakes.clock import START
from tests.fakes.node_store import FakeNodeStore
from tests.unit.discovery.samples import ONE, TWO, registration


class Store(NodeStore, Pages, Protocol):
    """Both ports that one store serves."""


@dataclass
class Subject:
    """A store, how to read which events it has kept, and how to open it anew."""

    store: Store
    event_types: Callable[[], Awaitable[list[str]]]
    reopen: Callable[[], Awaitable[Store]]


@pytest.fixture(params=["fake", "sqlite"])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    """Each implementation in turn."""
    if request.param == "fake":
        fake = FakeNodeStore()

        async def told() -> list[str]:
            return [event.type for event in await fake.recorded()]

        async def same() -> Store:
            return fake

        yield Subject(fake, told, same)
        return
    databases = [await Database.open(tmp_path / "discovery.db", SCHEMA)]

    def types(connection: apsw.Connection) -> list[str]:
        return [json.loads(str(event))["type"] for (event,) in connection.execute("SELECT event FROM outbox ORDER BY sequence")]

    async def kept() -> list[str]:
        return await databases[-1].read(types)

    async def opened() -> Store:
        await databases[-1].close()
        databases.append(await Database.open(tmp_path / "discovery.db", SCHEMA))
        return SqliteNodeStore(databases[-1])

    yield Subject(SqliteNodeStore(databases[0]), kept, opened)
    await databases[-1].close()


def update(labels: dict[str, str], etag: str = "") -> nodes.Decide:
    return nodes.update(ONE, Changes(labels=labels), Precondition(frozenset({etag}) if etag else None), START)


async def test_node_when_kept_is_read_back_whole(subject: Subject) -> None:
    said = registration(ONE, hostname="käse", mac_address="b8:27:eb:00:00:01", capabilities=bytes(range(256)))
    await subject.store.change(ONE, nodes.register(said, START + timedelta(microseconds=123456)))
    await subject.store.change(ONE, nodes.report(ONE, ("HOT: 85 °C", "UNDERVOLTAGE: now"), START + timedelta(seconds=1)))
    changes = Changes(labels={"a": "1", "b": ""}, role=NodeRole.WORKER, cluster_id="home")
    outcome = await subject.store.change(ONE, nodes.update(ONE, changes, Precondition(), START))
    last = await subject.store.change(ONE, nodes.notice(("DUPLICATE_HOSTNAME: x",), START))
    assert (outcome.changed, last.changed) == (True, True)
    assert await (await subject.reopen()).all() == [last.node]


async def test_nodes_when_listed_are_in_the_order_of_their_ids(subject: Subject) -> None:
    for node_id in (TWO, ONE):
        await subject.store.change(node_id, nodes.register(registration(node_id), START))
    assert [node.id for node in await subject.store.all()] == [ONE, TWO]


async def test_change_when_it_decides_for_the_same_node_is_none(subject: Subject) -> None:
    await subject.store.change(ONE, nodes.register(registration(ONE), START))
    outcome = await subject.store.change(ONE, nodes.register(registration(ONE), START + timedelta(hours=1)))
    assert (outcome.changed, [outcome.node]) == (False, await subject.store.all())
    assert await subject.event_types() == ["node.discovered"]


async def test_change_when_it_raises_leaves_everything_as_it_was(subject: Subject) -> None:
    with pytest.raises(NodeNotFound):
        await subject.store.change(ONE, update({"a": "1"}))
    assert (await subject.store.all(), await subject.event_types()) == ([], [])


async def test_node_when_deleted_is_gone_with_its_event(subject: Subject) -> None:
    await subject.store.change(ONE, nodes.register(registration(ONE), START))
    outcome = await subject.store.change(ONE, nodes.delete(ONE, Precondition(), "deleted", START))
    assert (outcome.node, outcome.changed) == (None, True)
    assert await subject.store.all() == []
    assert await subject.event_types() == ["node.discovered", "node.deleted"]


async def test_request_when_repeated_is_answered_as_before_and_decides_nothing(subject: Subject) -> None:
    await subject.store.change(ONE, nodes.register(registration(ONE), START))
    request = RequestIdentity("anna", "r1", b"body")
    first = await subject.store.change(ONE, update({"a": "1"}), request)
    await subject.store.change(ONE, update({"b": "2"}))
    again = await subject.store.change(ONE, update({"never": "asked"}), request)
    assert (again.node, again.changed) == (first.node, False)
    with pytest.raises(Conflict):
        await subject.store.change(ONE, update({"a": "1"}), RequestIdentity("anna", "r1", b"another body"))
    other = await subject.store.change(ONE, update({"c": "3"}), RequestIdentity("berta", "r1", b"body"))
    assert other.changed


async def test_request_when_it_failed_was_not_answered(subject: Subject) -> None:
    await subject.store.change(ONE, nodes.register(registration(ONE), START))
    request = RequestIdentity("anna", "r1", b"body")
    with pytest.raises(Conflict):
        await subject.store.change(ONE, update({"a": "1"}, etag="stale"), request)
    assert (await subject.store.change(ONE, update({"a": "1"}), request)).changed


async def test_changes_when_asked_for_at_once_take_turns_in_that_order(subject: Subject) -> None:
    await subject.store.change(ONE, nodes.register(registration(ONE), START))
    done: list[int] = []

    async def change(number: int) -> None:
        await subject.store.change(ONE, update({"number": str(number)}))
        done.append(number)

    await asyncio.gather(*(change(number) for number in range(100)))
    assert done == list(range(100))
    assert dict((await subject.store.all())[0].labels) == {"number": "99"}


async def test_last_seen_when_kept_changes_nothing_else_and_passes_over_the_unknown(subject: Subject) -> None:
    before = (await subject.store.change(ONE, nodes.register(registration(ONE), START))).node
    assert before is not None
    later = START + timedelta(seconds=61)
    await subject.store.keep_last_seen({ONE: later, TWO: later})
    (after,) = await subject.store.all()
    assert (after.last_seen, after.etag) == (later, before.etag)
    assert await subject.event_types() == ["node.discovered"]


async def test_page_token_when_of_this_listing_leads_on_and_else_is_refused(subject: Subject) -> None:
    token = await subject.store.seal(["nodes", ["READY"], ""], ONE)
    assert await subject.store.unseal(["nodes", ["READY"], ""], token) == ONE
    assert await subject.store.unseal(["nodes", ["READY"], ""], "") is None
    for listing, wrong in ((["nodes", [], ""], token), (["nodes", ["READY"], ""], "forged")):
        with pytest.raises(InvalidArgument) as caught:
            await subject.store.unseal(listing, wrong)
        assert caught.value.reason == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize(("asked", "size"), [(0, 100), (1, 1), (1000, 1000), (10**9, 1000)])
async def test_page_size_when_asked_for_is_bounded(subject: Subject, asked: int, size: int) -> None:
    assert subject.store.size(asked) == size


def test_ids_of_this_suite_are_in_order() -> None:
    assert NodeId(ONE) < NodeId(TWO)
