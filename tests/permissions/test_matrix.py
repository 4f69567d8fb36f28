"""The matrix by hand against servers that run."""

import asyncio
import pkgutil
from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_channelz.v1 import channelz_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

import picontroller.v1
from tests.permissions import matrix
from tests.permissions.requests import request_for
from tests.permissions.world import Caller, World, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVERS = ("identity", "events", "discovery", "gpio")
WHERE = {
    "picontroller.v1.IdentityService": ("identity",),
    "picontroller.v1.EventService": ("events",),
    "picontroller.v1.DiscoveryService": ("discovery",),
    "picontroller.v1.GpioService": ("gpio",),
    "picontroller.v1.NodeAgentService": ("agent",),
    "picontroller.v1.AuditService": SERVERS,
    "grpc.health.v1.Health": (*SERVERS, "gateway"),
    "grpc.reflection.v1.ServerReflection": (*SERVERS, "gateway"),
    "grpc.reflection.v1alpha.ServerReflection": (*SERVERS, "gateway"),
    "grpc.channelz.v1.Channelz": SERVERS,
}
AT_ONCE = 12
SIGNS = {grpc.StatusCode.PERMISSION_DENIED: "-", grpc.StatusCode.UNAUTHENTICATED: "u"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with running(tmp_path_factory.mktemp("matrix")) as world:
        yield world


def methods_of(*services: str) -> dict[str, MethodDescriptor]:
    """Return the methods of services by full name; reflection's version 1 has the messages of v1alpha."""
    found = {}
    for service in services:
        known = service.replace("reflection.v1.", "reflection.v1alpha.")
        for name, method in descriptor_pool.Default().FindServiceByName(known).methods_by_name.items():
            found[f"{service}/{name}"] = method
    return found


def our_services() -> list[str]:
    """Return every service in our protos, whoever serves it."""
    names = [found.name for found in pkgutil.iter_modules(picontroller.v1.__path__) if found.name.endswith("_pb2")]
    files = [import_module(f"picontroller.v1.{name}").DESCRIPTOR for name in names]
    return [service.full_name for file in files for service in file.services_by_name.values()]


def foreign_services() -> list[str]:
    """Return the services that libraries bring along."""
    files = (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR, channelz_pb2.DESCRIPTOR)
    return ["grpc.reflection.v1.ServerReflection", *(name.full_name for file in files for name in file.services_by_name.values())]


async def test_matrix_when_a_method_is_added_misses_its_row() -> None:
    ours, foreign = methods_of(*our_services()), methods_of(*foreign_services())
    written = [matrix.parsed(table) for table in (matrix.OURS, matrix.FOREIGN, matrix.FOREIGN_AT_AGENTS)]
    for rows, methods in zip(written, (ours, foreign, foreign), strict=True):
        assert sorted(methods.keys() - rows.keys()) == [], "methods without a row in tests/permissions/matrix.py"
        assert sorted(rows.keys() - methods.keys()) == [], "rows of methods that are no more"
    assert matrix.parsed(matrix.AT_GATEWAY).keys() == methods_of("picontroller.v1.AuditService").keys()
    assert sum(len(row) for rows in written for row in rows.values()) == (len(ours) + 2 * len(foreign)) * len(matrix.CALLERS)
    assert (len(matrix.CALLERS), len(ours) + 2 * len(foreign)) == (23, 69)


async def test_matrix_when_a_service_is_added_knows_where_it_is_served(world: World) -> None:
    assert set(WHERE) == {*our_services(), *foreign_services()}
    assert set(world.callers) == set(matrix.CALLERS)


async def answer(world: World, caller: Caller, server: str, name: str, method: MethodDescriptor) -> str:
    """Call a method and return the sign of what came of it; of a stream, of its first response."""
    made = {
        (False, False): world.channel(caller, server).unary_unary,
        (False, True): world.channel(caller, server).unary_stream,
        (True, True): world.channel(caller, server).stream_stream,
    }[bool(method.client_streaming), bool(method.server_streaming)]
    call: Any = made(
        f"/{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    request = request_for(method)
    under_way = call(iter([request]) if method.client_streaming else request, timeout=10, metadata=caller.metadata)
    try:
        await (under_way.read() if method.server_streaming else under_way)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return "silence"
        handshake = error.code() is grpc.StatusCode.UNAVAILABLE and caller.identity is None
        return "x" if handshake else SIGNS.get(error.code(), "+")
    finally:
        under_way.cancel()
    return "+"


async def test_servers_when_everybody_calls_everything_answer_as_the_matrix_says(world: World) -> None:
    at_services = matrix.parsed(matrix.OURS) | matrix.parsed(matrix.FOREIGN)
    methods = methods_of(*WHERE)
    gate, wrong, asked = asyncio.Semaphore(AT_ONCE), [], 0

    async def check(server: str, name: str, caller: str, expected: str) -> None:
        nonlocal asked
        async with gate:
            got = await answer(world, world.callers[caller], server, name, methods[name])
        asked += 1
        if got != expected:
            wrong.append(f"{server}: {name} by {caller}: {got} instead of {expected}")

    for name, row in at_services.items():
        for server in WHERE[name.partition("/")[0]]:
            await asyncio.gather(*(check(server, name, caller, sign) for caller, sign in row.items()))
    for server, table in (("agent", matrix.FOREIGN_AT_AGENTS), ("gateway", matrix.AT_GATEWAY)):
        for name, row in matrix.parsed(table).items():
            await asyncio.gather(*(check(server, name, caller, sign) for caller, sign in row.items()))
    assert wrong == [], f"{len(wrong)} of {asked}:\n" + "\n".join(sorted(wrong))
    assert asked >= len(matrix.CALLERS) * 100
