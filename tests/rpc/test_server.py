"""The anatomy that all servers share, shown on a service of this test's own behind the real chain."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from picontroller.core import errors
from picontroller.core.clock import SystemClock
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.hosting import Manners, serving
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.rpc.validation import default_validator
from picontroller.core.rpc.wiring import Service
from picontroller.v1 import events_pb2, events_pb2_grpc
from tests.fakes.authority import FakeAuthority


class Events(events_pb2_grpc.EventServiceServicer):
    async def Publish(self, request: events_pb2.PublishRequest, context: Any) -> events_pb2.PublishResponse:
        raise errors.Conflict("stale", reason="ETAG_STALE", metadata={"etag": "x"})

    async def ListEvents(self, request: events_pb2.ListEventsRequest, context: Any) -> events_pb2.ListEventsResponse:
        if request.after == "boom":
            raise RuntimeError("secret internals")
        return events_pb2.ListEventsResponse(next_page_token="ok")

    async def Subscribe(self, request: Any, context: Any) -> AsyncIterator[events_pb2.SubscribeResponse]:
        yield events_pb2.SubscribeResponse(cursor="1")
        yield events_pb2.SubscribeResponse(cursor="2")


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    authority = FakeAuthority()
    service = Service("events", (lambda server: events_pb2_grpc.add_EventServiceServicer_to_server(Events(), server),))
    server_identity = authority.identity(tmp_path / "server", "svc/events")
    manners = Manners(default_validator(), SystemClock(), grace_seconds=1)
    socket = f"unix:{tmp_path}/events.sock"
    async with serving(service, server_identity, [socket], manners):
        mesh = Mesh(authority.identity(tmp_path / "client", "svc/gpio"), {"events": socket})
        yield mesh
        await mesh.close()


async def test_call_when_allowed_answers(mesh: Mesh) -> None:
    stub = events_pb2_grpc.EventServiceStub(mesh.service("events"))
    assert (await rpc.unary(stub.ListEvents, events_pb2.ListEventsRequest())).next_page_token == "ok"
    assert [r.cursor async for r in rpc.stream(stub.Subscribe, events_pb2.SubscribeRequest())] == ["1", "2"]


async def test_error_when_raised_by_a_servicer_arrives_as_its_class(mesh: Mesh) -> None:
    stub = events_pb2_grpc.EventServiceStub(mesh.service("events"))
    event = events_pb2.Event(type="a.b")
    event.timestamp.GetCurrentTime()
    request = events_pb2.PublishRequest(events=[event], source_epoch="e", first_sequence=1)
    with pytest.raises(errors.Conflict) as caught:
        await rpc.unary(stub.Publish, request)
    assert (caught.value.reason, caught.value.metadata) == ("ETAG_STALE", {"etag": "x"})


async def test_request_when_it_breaks_rules_names_all_fields(mesh: Mesh) -> None:
    stub = events_pb2_grpc.EventServiceStub(mesh.service("events"))
    with pytest.raises(errors.InvalidArgument) as caught:
        await rpc.unary(stub.Publish, events_pb2.PublishRequest())
    assert {v.field for v in caught.value.violations} == {"events", "source_epoch", "first_sequence"}


async def test_exception_when_unexpected_leaks_nothing(mesh: Mesh) -> None:
    stub = events_pb2_grpc.EventServiceStub(mesh.service("events"))
    with pytest.raises(errors.Internal) as caught:
        await rpc.unary(stub.ListEvents, events_pb2.ListEventsRequest(after="boom"))
    assert "secret" not in str(caught.value)
    assert "RuntimeError" not in str(caught.value)


async def test_bytes_when_no_message_are_invalid(mesh: Mesh) -> None:
    call = mesh.service("events").unary_unary(
        "/picontroller.v1.EventService/ListEvents", request_serializer=lambda raw: raw, response_deserializer=empty_pb2.Empty.FromString
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"\xff\xff\xff", timeout=5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_method_when_its_servicer_leaves_it_out_is_unsupported_and_no_internal_error(mesh: Mesh) -> None:
    stub = health_pb2_grpc.HealthStub(mesh.service("events"))
    with pytest.raises(errors.Unsupported) as caught:  # grpcio's own servicer has no List
        await rpc.unary(stub.List, health_pb2.HealthListRequest())
    assert caught.value.reason == "METHOD_NOT_SERVED"
    events = events_pb2_grpc.EventServiceStub(mesh.service("events"))
    with pytest.raises(errors.Unsupported):
        await anext(rpc.stream(events.PublishStream, iter(())))
