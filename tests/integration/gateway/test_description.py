"""The description of the REST API as it is served, and what differs between HTTP and gRPC: headers that only one knows, sizes."""

import json
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from picontroller.gateway.bridge.description import FILE
from picontroller.v1 import identity_pb2, identity_pb2_grpc
from tests.fakes.edge import EdgeWorld, edge_world

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATH = "/api/v1/openapi.json"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EdgeWorld]:
    async with edge_world(tmp_path_factory.mktemp("edge")) as running:
        yield running


async def test_description_when_asked_for_with_a_proof_is_answered_to_every_role(world: EdgeWorld) -> None:
    async with world.http() as client:
        answer = await client.get(PATH, headers=world.bearer("MONITOR"))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == json.loads(FILE.read_text())
    async with world.http(identity=world.person("monitor")) as client:
        assert (await client.get(PATH)).status_code == 200


async def test_description_when_asked_for_without_a_proof_is_401(world: EdgeWorld) -> None:
    async with world.http() as client:
        answer = await client.get(PATH)
        assert (answer.status_code, answer.json()["code"]) == (401, 16)
        assert answer.json()["details"][0]["reason"] == "CREDENTIALS_MISSING"
        assert (await client.get(PATH, headers={"authorization": "Bearer x"})).status_code == 401
        assert (await client.post(PATH, headers=world.bearer("MONITOR"), json={})).status_code in (404, 405)


@pytest.mark.parametrize("name", ["x-odd&name", "$", "x`y", "a~b"])
async def test_header_when_only_grpc_forbids_its_name_is_ignored(world: EdgeWorld, name: str) -> None:
    async with world.http() as client:
        answer = await client.get("/api/v1/whoami", headers=world.bearer("MONITOR") | {name: "1"})
    assert answer.status_code == 200, answer.text


async def test_header_when_it_claims_to_be_binary_and_is_not_base64_is_ignored(world: EdgeWorld) -> None:
    async with world.http() as client:
        answer = await client.get("/api/v1/whoami", headers=world.bearer("MONITOR") | {"x-odd-bin": "!!!"})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(("name", "value"), [("grpc-timeout", "-5S"), ("grpc-timeout", "999999999S"), ("grpc-encoding", "zstd")])
async def test_header_when_grpc_cannot_read_it_is_400(world: EdgeWorld, name: str, value: str) -> None:
    async with world.http() as client:
        answer = await client.get("/api/v1/whoami", headers=world.bearer("MONITOR") | {name: value})
        assert (answer.status_code, answer.json()["code"]) == (400, 3), answer.text
        fine = await client.get("/api/v1/whoami", headers=world.bearer("MONITOR") | {"grpc-timeout": "5S", "grpc-encoding": "gzip"})
    assert fine.status_code == 200, fine.text


async def test_deadline_and_compression_when_a_grpc_client_gives_them_are_taken(world: EdgeWorld) -> None:
    async with world.channel() as channel:
        stub = identity_pb2_grpc.IdentityServiceStub(channel)
        metadata = tuple(world.bearer("MONITOR").items())
        asked = identity_pb2.WhoAmIRequest()
        answer = await stub.WhoAmI(asked, timeout=5, metadata=metadata, compression=grpc.Compression.Gzip)  # type: ignore[misc]  # aio stubs
    assert answer.spiffe_id.endswith("/user/anna")


async def test_page_when_it_is_far_longer_in_json_than_as_a_message_is_answered(world: EdgeWorld) -> None:
    for number in range(20):
        await world.services.events.add("a.happened", data={"text": "\u0001" * 50_000, "number": number})  # six bytes each in JSON
    async with world.http() as client:
        answer = await client.get("/api/v1/events", params={"page_size": 20}, headers=world.bearer("MONITOR"))
    assert answer.status_code == 200, answer.text[:300]
    assert len(answer.content) > 6_000_000
    assert [event["data"]["number"] for event in answer.json()["events"]] == list(range(20))


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_grpc_path_when_called_with_another_method_than_post_is_404(world: EdgeWorld, method: str) -> None:
    headers = world.bearer("MONITOR") | {"content-type": "application/grpc-web+proto"}
    async with world.http() as client:
        answer = await client.request(method, "/picontroller.v1.IdentityService/WhoAmI", headers=headers)
    assert answer.status_code == 404, answer.text
