"""Nodes that have gone: the identity service is told, however often it takes, and nobody who was deleted comes back."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from picontroller.core import errors
from picontroller.core.clock import SystemClock
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.hosting import Manners, serving
from picontroller.core.rpc.validation import default_validator
from picontroller.core.rpc.wiring import Service
from picontroller.v1 import discovery_pb2 as v1
from picontroller.v1 import identity_pb2_grpc, trust_pb2
from tests.rpc.discovery.world import World, new_node_id, until


class NotedRevocations(identity_pb2_grpc.IdentityServiceServicer):
    """An identity service that only revokes. ``answer`` may raise."""

    def __init__(self, answer: Callable[[], None] = lambda: None) -> None:
        self.asked: list[tuple[str, bool]] = []
        self.times: list[datetime | None] = []
        self.answer = answer

    async def RevokeCertificate(self, request: trust_pb2.RevokeCertificateRequest, context: Any) -> trust_pb2.RevokeCertificateResponse:
        self.asked.append((request.identity, request.may_return))
        self.times.append(request.issued_before.ToDatetime(UTC) if request.HasField("issued_before") else None)
        self.answer()
        return trust_pb2.RevokeCertificateResponse()


@asynccontextmanager
async def identity_service(world: World, noted: NotedRevocations) -> AsyncIterator[None]:
    service = Service("identity", (lambda server: identity_pb2_grpc.add_IdentityServiceServicer_to_server(noted, server),))
    manners = Manners(default_validator(), SystemClock(), grace_seconds=0.2)
    async with serving(service, world.authority.identity(world.folder / "ca", "svc/identity"), [world.peers["identity"]], manners):
        yield


@pytest.fixture
def noted(quiet_world: World) -> NotedRevocations:
    quiet_world.peers["identity"] = f"unix:{quiet_world.folder}/identity.sock"
    return NotedRevocations()  # type: ignore[abstract]  # the methods it lacks answer UNIMPLEMENTED


async def test_node_when_deleted_is_revoked_for_good_and_when_it_leaves_may_return(quiet_world: World, noted: NotedRevocations) -> None:
    deleted, left = new_node_id(), new_node_id()
    async with identity_service(quiet_world, noted), quiet_world.running():
        await quiet_world.register(deleted)
        await quiet_world.register(left)
        assert noted.asked == []
        await rpc.unary(quiet_world.stub().DeleteNode, v1.DeleteNodeRequest(id=deleted))
        await until(lambda: noted.asked == [(f"/node/{deleted}", False)])
        await rpc.unary(quiet_world.stub(f"node/{left}").UnregisterNode, v1.UnregisterNodeRequest(id=left))
        await until(lambda: noted.asked[1:] == [(f"/node/{left}", True)])
        await quiet_world.register(left)
        with pytest.raises(errors.Unauthenticated):
            await quiet_world.register(deleted)
        assert len(noted.asked) == 2


async def test_node_when_deleted_while_the_identity_service_is_away_is_revoked_after_a_restart_once_it_is_there(
    quiet_world: World, noted: NotedRevocations
) -> None:
    node_id = new_node_id()
    async with quiet_world.running():
        await quiet_world.register(node_id)
        await rpc.unary(quiet_world.stub().DeleteNode, v1.DeleteNodeRequest(id=node_id))
    async with quiet_world.running(), identity_service(quiet_world, noted):
        await until(lambda: noted.asked == [(f"/node/{node_id}", False)])
        with pytest.raises(errors.Unauthenticated):
            await quiet_world.register(node_id)
    async with quiet_world.running(), identity_service(quiet_world, noted):
        await quiet_world.register(new_node_id())
        assert len(noted.asked) == 1, "what the identity service knows is not told again"


async def test_node_when_the_identity_service_never_heard_of_it_is_asked_about_once(quiet_world: World, noted: NotedRevocations) -> None:
    def unknown() -> None:
        raise errors.NotFound("never had anything")

    noted.answer = unknown
    first, second = new_node_id(), new_node_id()
    async with identity_service(quiet_world, noted), quiet_world.running():
        for node_id in (first, second):
            await quiet_world.register(node_id)
            await rpc.unary(quiet_world.stub().DeleteNode, v1.DeleteNodeRequest(id=node_id))
        await until(lambda: noted.asked == [(f"/node/{first}", False), (f"/node/{second}", False)])


async def test_node_when_its_revocation_fails_is_tried_again_and_holds_up_no_other(quiet_world: World, noted: NotedRevocations) -> None:
    first, second = sorted((new_node_id(), new_node_id()))
    failures = 3

    def fail() -> None:
        nonlocal failures
        if noted.asked[-1][0].endswith(first) and failures:
            failures -= 1
            raise errors.Internal("not now")

    noted.answer = fail
    async with identity_service(quiet_world, noted), quiet_world.running():
        for node_id in (first, second):
            await quiet_world.register(node_id)
            await rpc.unary(quiet_world.stub().DeleteNode, v1.DeleteNodeRequest(id=node_id))
        await until(lambda: [path for path, _ in noted.asked].count(f"/node/{first}") == 4)
        assert [path for path, _ in noted.asked].count(f"/node/{second}") == 1


async def test_node_when_it_left_and_came_back_before_the_identity_service_knew_is_revoked_up_to_its_leaving(
    quiet_world: World, noted: NotedRevocations
) -> None:
    left, deleted = new_node_id(), new_node_id()
    async with quiet_world.running():
        for node_id in (left, deleted):
            await quiet_world.register(node_id)
        gone = quiet_world.clock.now()
        await rpc.unary(quiet_world.stub(f"node/{left}").UnregisterNode, v1.UnregisterNodeRequest(id=left))
        await rpc.unary(quiet_world.stub().DeleteNode, v1.DeleteNodeRequest(id=deleted))
        await quiet_world.register(left)
    async with quiet_world.running(), identity_service(quiet_world, noted):
        await until(lambda: len(noted.asked) == 2)
        times = dict(zip((identity for identity, _ in noted.asked), noted.times, strict=True))
        assert times[f"/node/{deleted}"] is None, "who was deleted keeps nothing"
        assert times[f"/node/{left}"] == gone
    async with quiet_world.running(), identity_service(quiet_world, noted):
        await quiet_world.register(new_node_id())
        assert len(noted.asked) == 2, "what the identity service knows is not told again"
