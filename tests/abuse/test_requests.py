"""What callers may try with requests that look proper, tried on discovery: pages, etags, request ids, output-only fields, deadlines.

Items 17, 18, 19, 20, 27 and 39 of the catalogue, as seen by gRPC.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from picontroller.core import errors
from picontroller.core.clock import SystemClock
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.hosting import Manners, authenticator_of, chain
from picontroller.core.rpc.interceptors.guarding import Deadlines
from picontroller.core.rpc.server import Server
from picontroller.core.rpc.validation import default_validator
from picontroller.core.store.pages import DEFAULT_SIZE, LARGEST_SIZE
from picontroller.core.tls.channels import server_credentials
from picontroller.v1 import discovery_pb2 as v1
from tests.rpc.discovery.world import World, new_node_id, opened, registration

CAP_SECONDS = 0.4


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A running discovery."""
    async with opened(tmp_path) as world, world.running():
        yield world


async def _digest(world: World) -> bytes:
    """Return the whole state that discovery shows."""
    answer: v1.ListNodesResponse = await rpc.unary(world.stub().ListNodes, v1.ListNodesRequest(page_size=1000))
    assert not answer.next_page_token
    return answer.SerializeToString(deterministic=True)


async def _update(world: World, request: v1.UpdateNodeRequest) -> v1.Node:
    node: v1.Node = await rpc.unary(world.stub().UpdateNode, request)
    return node


async def _send_raw(world: World, method: str, raw: bytes, answer: Any, timeout: float | None = 5, who: str = "user/anna") -> Any:
    """Send bytes as they are, to say what our own messages can't."""
    channel, name = world.mesh(who).service("discovery"), f"/picontroller.v1.DiscoveryService/{method}"
    call = channel.unary_unary(name, request_serializer=lambda body: body, response_deserializer=answer.FromString)
    return await call(raw, timeout=timeout)


@contextmanager
def _held_up(world: World) -> Iterator[None]:
    """Keep discovery's database from changing, as a slow disk would: for less than the 5 s that its writer waits for a lock."""
    connection = apsw.Connection(str(world.folder / "discovery" / "discovery.db"))
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


async def test_abuse_17_page_size_of_zero_is_the_default(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.seed(DEFAULT_SIZE + 1)
        async with world.running():
            page = await rpc.unary(world.stub().ListNodes, v1.ListNodesRequest(page_size=0))
            assert (len(page.nodes), bool(page.next_page_token)) == (DEFAULT_SIZE, True)
            page = await rpc.unary(world.stub().ListNodes, v1.ListNodesRequest(page_size=0, page_token=page.next_page_token))
            assert (len(page.nodes), page.next_page_token) == (1, "")


async def test_abuse_17_page_size_below_zero_is_invalid_argument(world: World) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        await rpc.unary(world.stub().ListNodes, v1.ListNodesRequest(page_size=-1))
    assert [violation.field for violation in caught.value.violations] == ["page_size"]


async def test_abuse_17_page_size_of_a_thousand_million_is_capped(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.seed(LARGEST_SIZE + 1)
        async with world.running():
            page = await rpc.unary(world.stub().ListNodes, v1.ListNodesRequest(page_size=10**9))
            assert (len(page.nodes), bool(page.next_page_token)) == (LARGEST_SIZE, True)


@pytest.mark.parametrize("kind", ["nonsense", "altered", "truncated", "other filter", "not base64", "other service"])
async def test_abuse_17_page_token_that_is_forged_or_foreign_is_invalid_argument(world: World, tmp_path: Path, kind: str) -> None:
    for _ in range(3):
        await world.register(new_node_id())
    token = (await rpc.unary(world.stub().ListNodes, v1.ListNodesRequest(page_size=1))).next_page_token
    request = v1.ListNodesRequest(page_size=1, page_token=token)
    assert len((await rpc.unary(world.stub().ListNodes, request)).nodes) == 1  # the token itself is good
    match kind:
        case "nonsense":
            request.page_token = "AAAA"
        case "altered":
            request.page_token = token[:30] + ("A" if token[30] != "A" else "B") + token[31:]
        case "truncated":
            request.page_token = token[:-4]
        case "other filter":
            request.cluster_id = "home"
        case "not base64":
            request.page_token = "\u202etoken\u0000"
        case "other service":
            (tmp_path / "elsewhere").mkdir()
            async with opened(tmp_path / "elsewhere") as other, other.running():
                for _ in range(3):
                    await other.register(new_node_id())
                request.page_token = (await rpc.unary(other.stub().ListNodes, v1.ListNodesRequest(page_size=1))).next_page_token
    with pytest.raises(errors.InvalidArgument) as caught:
        await rpc.unary(world.stub().ListNodes, request)
    assert caught.value.reason == "PAGE_TOKEN_INVALID"


async def test_abuse_18_update_with_a_stale_etag_is_aborted(world: World) -> None:
    node = await world.register(new_node_id())
    await _update(world, v1.UpdateNodeRequest(id=node.id, labels={"a": "1"}))
    before = await _digest(world)
    call = world.stub().UpdateNode
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(v1.UpdateNodeRequest(id=node.id, labels={"a": "2"}, etag=node.etag), timeout=5)
    assert caught.value.code() is grpc.StatusCode.ABORTED
    assert await _digest(world) == before


async def test_abuse_18_hundred_writers_with_one_etag_have_one_winner(world: World) -> None:
    node = await world.register(new_node_id())
    requests = [v1.UpdateNodeRequest(id=node.id, labels={"winner": str(number)}, etag=node.etag) for number in range(100)]
    outcomes = await asyncio.gather(*(_update(world, request) for request in requests), return_exceptions=True)
    winners = [outcome for outcome in outcomes if isinstance(outcome, v1.Node)]
    assert len(winners) == 1
    assert {type(outcome) for outcome in outcomes} == {v1.Node, errors.Conflict}
    assert await world.get(node.id) == winners[0]
    assert await world.event_types() == ["node.discovered", "node.updated"]


async def test_abuse_19_request_id_with_the_same_body_has_one_effect_and_one_answer(world: World) -> None:
    node = await world.register(new_node_id())
    request = v1.UpdateNodeRequest(id=node.id, labels={"a": "1"}, request_id="once")
    first = await _update(world, request)
    before = await _digest(world)
    answers = await asyncio.gather(*(_update(world, request) for _ in range(20)))
    assert all(answer == first for answer in answers)
    assert await _digest(world) == before
    assert await world.event_types() == ["node.discovered", "node.updated"]


async def test_abuse_19_request_id_with_another_body_is_aborted(world: World) -> None:
    node = await world.register(new_node_id())
    await _update(world, v1.UpdateNodeRequest(id=node.id, labels={"a": "1"}, request_id="once"))
    before = await _digest(world)
    with pytest.raises(errors.Conflict) as caught:
        await _update(world, v1.UpdateNodeRequest(id=node.id, labels={"a": "2"}, request_id="once"))
    assert caught.value.reason == "REQUEST_ID_REUSED"
    assert await _digest(world) == before


async def test_abuse_19_request_id_of_a_failed_request_may_be_used_again(world: World) -> None:
    node = await world.register(new_node_id())
    request = v1.UpdateNodeRequest(id=node.id, labels={"a": "1"}, etag="stale", request_id="once")
    with pytest.raises(errors.Conflict) as caught:
        await _update(world, request)
    assert caught.value.reason == "ETAG_STALE"
    request.etag = node.etag
    assert dict((await _update(world, request)).labels) == {"a": "1"}


@pytest.mark.parametrize("field", ["status", "last_seen", "create_time", "hostname", "id", "agent_address", "problems", "etag"])
async def test_abuse_20_mask_that_names_an_output_only_field_is_invalid_argument(world: World, field: str) -> None:
    node = await world.register(new_node_id())
    before = await _digest(world)
    with pytest.raises(errors.InvalidArgument) as caught:
        await _update(world, v1.UpdateNodeRequest(id=node.id, labels={"a": "1"}, update_mask=FieldMask(paths=["labels", field])))
    assert (caught.value.reason, [violation.field for violation in caught.value.violations]) == ("UPDATE_MASK_INVALID", ["update_mask"])
    assert repr(field) in caught.value.violations[0].description
    assert await _digest(world) == before


async def test_abuse_20_output_only_fields_sent_along_are_ignored(world: World) -> None:
    node = await world.register(new_node_id())
    smuggled = v1.Node(agent_address="evil:1", problems=["owned"], agent_version="9")  # numbers that an update does not have
    smuggled.last_seen.FromJsonString("2000-01-01T00:00:00Z")
    smuggled.create_time.FromJsonString("2000-01-01T00:00:00Z")
    asked = v1.UpdateNodeRequest(id=node.id, labels={"a": "1"}).SerializeToString()
    known = {field.number for field in v1.UpdateNodeRequest.DESCRIPTOR.fields}
    assert not known & {field.number for field, _ in smuggled.ListFields()}
    after = await _send_raw(world, "UpdateNode", asked + smuggled.SerializeToString(), v1.Node)
    assert dict(after.labels) == {"a": "1"}
    after.ClearField("labels")
    after.etag = node.etag
    assert after == node


async def test_abuse_20_registration_that_claims_what_people_decide_is_ignored(world: World) -> None:
    node = await world.register(new_node_id())
    smuggled = v1.Node(cluster_id="home", problems=["owned"], labels={"pwned": "yes"})
    known = {field.number for field in v1.RegisterNodeRequest.DESCRIPTOR.fields}
    assert not known & {field.number for field, _ in smuggled.ListFields()}
    raw = registration(node.id).SerializeToString() + smuggled.SerializeToString()
    assert await _send_raw(world, "RegisterNode", raw, v1.Node, who=f"node/{node.id}") == node


@pytest.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[World]:
    """A discovery whose server lets no call take longer than ``CAP_SECONDS``."""
    manners = Manners(default_validator(), SystemClock(), grace_seconds=1)
    async with opened(tmp_path) as world, world.built() as service:
        links = [
            Deadlines(CAP_SECONDS) if isinstance(link, Deadlines) else link
            for link in chain(authenticator_of(world.identity, manners), manners)
        ]
        server = Server(service.register, links)
        await server.start([world.socket], server_credentials(world.identity))
        outbox = asyncio.ensure_future(service.background["outbox"]())
        yield world
        await world.close_meshes()
        await server.drain(1)
        outbox.cancel()
        await asyncio.gather(outbox, return_exceptions=True)


async def test_abuse_27_call_without_a_deadline_ends_at_the_servers_cap(impatient: World) -> None:
    world = impatient
    node = await world.register(new_node_id())
    request = v1.UpdateNodeRequest(id=node.id, labels={"a": "1"}, request_id="once")
    with _held_up(world):
        started = asyncio.get_running_loop().time()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _send_raw(world, "UpdateNode", request.SerializeToString(), v1.Node, timeout=None)
        taken = asyncio.get_running_loop().time() - started
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert CAP_SECONDS <= taken < CAP_SECONDS + 2
        assert await world.get(node.id) == node  # nothing half done is seen while it is not done
    # Whatever became of the first attempt, a repetition leaves exactly one effect.
    after = await _update(world, request)
    assert dict(after.labels) == {"a": "1"}
    assert await world.get(node.id) == after
    assert await world.event_types() == ["node.discovered", "node.updated"]


async def test_abuse_27_call_with_a_deadline_beyond_the_cap_ends_at_the_cap(impatient: World) -> None:
    node = await impatient.register(new_node_id())
    with _held_up(impatient):
        request = v1.UpdateNodeRequest(id=node.id, labels={"a": "1"})
        with pytest.raises(errors.DeadlineExceeded):
            await rpc.unary(impatient.stub().UpdateNode, request, seconds=86_400)


async def test_abuse_27_call_with_a_negative_deadline_is_deadline_exceeded_and_changes_nothing(world: World) -> None:
    node = await world.register(new_node_id())
    before = await _digest(world)
    with pytest.raises(errors.DeadlineExceeded):
        await rpc.unary(world.stub().UpdateNode, v1.UpdateNodeRequest(id=node.id, labels={"a": "1"}), seconds=-1)
    assert await _digest(world) == before


@pytest.mark.parametrize("seconds", [0, 0.001, 0.003])
async def test_abuse_27_call_with_hardly_any_time_is_done_or_not_and_its_repetition_has_one_effect(world: World, seconds: float) -> None:
    node = await world.register(new_node_id())
    request = v1.UpdateNodeRequest(id=node.id, labels={"a": "1"}, request_id="once")
    outcomes = await asyncio.gather(
        *(rpc.unary(world.stub().UpdateNode, request, seconds=seconds) for _ in range(20)), return_exceptions=True
    )
    after = await _update(world, request)
    assert [outcome for outcome in outcomes if not isinstance(outcome, errors.DeadlineExceeded) and outcome != after] == []
    assert await world.get(node.id) == after
    assert await world.event_types() == ["node.discovered", "node.updated"]


@pytest.mark.parametrize("number", [99, -1, 2**31 - 1])
async def test_abuse_39_enum_number_nobody_defined_is_invalid_argument(world: World, number: int) -> None:
    node = await world.register(new_node_id())
    before = await _digest(world)
    request = v1.UpdateNodeRequest(id=node.id)
    request.role = number  # type: ignore[assignment]  # on purpose
    with pytest.raises(errors.InvalidArgument) as caught:
        await _update(world, request)
    assert [violation.field for violation in caught.value.violations] == ["role"]
    assert await _digest(world) == before


@pytest.mark.parametrize("path", ["nonsense", "labels.room", "", "*", "role,labels", "Labels", "../labels", "x" * 10_000])
async def test_abuse_39_mask_with_a_bad_path_is_invalid_argument(world: World, path: str) -> None:
    node = await world.register(new_node_id())
    before = await _digest(world)
    with pytest.raises(errors.InvalidArgument) as caught:
        await _update(world, v1.UpdateNodeRequest(id=node.id, labels={"a": "1"}, update_mask=FieldMask(paths=[path])))
    assert caught.value.reason == "UPDATE_MASK_INVALID"
    assert await _digest(world) == before
