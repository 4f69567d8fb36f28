"""REST, native gRPC and gRPC-web through a real Envoy: who the services think is calling, and how answers and errors look."""

import base64
import json
import struct
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status import rpc_status

from picontroller.core.rpc.hosting import healthy
from picontroller.v1 import discovery_pb2, discovery_pb2_grpc, identity_pb2, identity_pb2_grpc
from tests.fakes.edge import EdgeWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")
ANNA = "spiffe://pi-controller.local/user/anna"
REFLECTIONS = ("grpc.reflection.v1", "grpc.reflection.v1alpha")


@pytest.mark.parametrize("http2", [True, False])
async def test_rest_when_a_token_is_given_reaches_the_service_as_its_subject(world: EdgeWorld, http2: bool) -> None:
    async with world.http(http2=http2) as client:
        answer = await client.get("/api/v1/whoami", headers=world.bearer("MONITOR"))
    assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    assert answer.json() == {"spiffe_id": ANNA, "roles": ["MONITOR"], "method": "token"}


async def test_rest_when_a_certificate_is_given_reaches_the_service_as_its_owner(world: EdgeWorld) -> None:
    async with world.http(identity=world.person("gpio-operator")) as client:
        answer = await client.get("/api/v1/whoami")
    assert answer.json() == {"spiffe_id": ANNA, "roles": ["GPIO_OPERATOR"], "method": "certificate"}


async def test_rest_when_an_agent_calls_with_its_certificate_reaches_the_service_as_that_node(world: EdgeWorld) -> None:
    node = world.authority.identity(world.folder / "node", "node/n1")
    async with world.http(identity=node) as client:
        assert (await client.get("/api/v1/whoami")).json()["spiffe_id"] == "spiffe://pi-controller.local/node/n1"
        assert (await client.get("/api/v1/nodes/n1")).json()["hostname"] == "host-n1"
        refused = await client.get("/api/v1/nodes/n2")
    assert (refused.status_code, refused.json()["details"][0]["reason"]) == (403, "NOT_OWN_NODE")


async def test_rest_when_nothing_is_proved_is_unauthenticated(world: EdgeWorld) -> None:
    async with world.http() as client:
        answer = await client.get("/api/v1/nodes")
    assert (answer.status_code, answer.json()["code"], answer.json()["details"][0]["reason"]) == (401, 16, "CREDENTIALS_MISSING")


async def test_rest_when_the_role_is_missing_is_denied(world: EdgeWorld) -> None:
    async with world.http() as client:
        answer = await client.request("DELETE", "/api/v1/nodes/n1", headers=world.bearer("MONITOR"))
    assert (answer.status_code, answer.json()["code"], answer.json()["details"][0]["reason"]) == (403, 7, "ROLE_MISSING")


@pytest.mark.parametrize(
    "changed", [{"exp": int(time.time()) - 90}, {"aud": "other"}, {"iss": "other"}, {"exp": None}, {"nbf": int(time.time()) + 900}]
)
async def test_token_when_a_claim_is_wrong_is_refused_at_the_edge(world: EdgeWorld, changed: dict[str, object]) -> None:
    async with world.http() as client:
        answer = await client.get("/api/v1/whoami", headers={"authorization": f"Bearer {world.tokens.token(**changed)}"})  # type: ignore[arg-type]  # any claim
    assert (answer.status_code, answer.json()["code"]) == (401, 16)
    assert answer.json()["details"][0] | {"metadata": {}} == {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "TOKEN_INVALID",
        "domain": "pi-controller.io",
        "metadata": {},
    }


async def test_token_when_signed_by_another_or_by_nobody_is_refused(world: EdgeWorld) -> None:
    good = world.tokens.token()
    head, body, signature = good.split(".")
    nobody = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode()).rstrip(b"=").decode()
    flipped = signature[:10] + ("A" if signature[10] != "A" else "B") + signature[11:]
    async with world.http() as client:
        for token in (f"{nobody}.{body}.", f"{head}.{body}.{flipped}", f"{head}.{body}."):
            answer = await client.get("/api/v1/whoami", headers={"authorization": f"Bearer {token}"})
            assert answer.status_code == 401
        for scheme in ("Basic YTpi", "Bearer", "Token x"):
            answer = await client.get("/api/v1/whoami", headers={"authorization": scheme})
            assert answer.status_code == 401
        assert (await client.get(f"/api/v1/whoami?access_token={good}")).status_code in (400, 401)


async def test_error_when_the_service_raises_it_is_a_status_with_details(world: EdgeWorld) -> None:
    async with world.http() as client:
        answer = await client.get("/api/v1/nodes/absent", headers=world.bearer("MONITOR"))
    body = answer.json()
    assert (answer.status_code, body["code"], body["message"]) == (404, 5, "there is no node absent")
    assert body["details"][0]["reason"] == "NODE_UNKNOWN"
    assert body["details"][1]["request_id"] == answer.headers["x-request-id"]


async def test_error_when_a_rule_is_broken_names_the_field(world: EdgeWorld) -> None:
    async with world.http() as client:
        answer = await client.post("/api/v1/gpio", json={"name": "led", "node_id": "n1", "mode": "OUTPUT"}, headers=world.bearer())
    faults = [detail for detail in answer.json()["details"] if detail["@type"].endswith("BadRequest")]
    assert (answer.status_code, faults[0]["field_violations"][0]["field"]) == (400, "pin")


async def test_stream_by_rest_is_newline_delimited_json(world: EdgeWorld) -> None:
    async with world.http() as client:
        answer = await client.get("/api/v1/nodes:watch", headers=world.bearer("MONITOR"))
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [(line["change"], line.get("node", {}).get("id")) for line in lines] == [("UPDATED", "n1"), ("UPDATED", "n2"), ("SYNCED", None)]


async def test_json_when_read_and_written_has_the_names_of_the_protos(world: EdgeWorld) -> None:
    resource = {"name": "led", "nodeId": "n1", "pin": {"bcm": 17}, "mode": "OUTPUT", "active_low": True}
    async with world.http() as client:
        answer = await client.post("/api/v1/gpio", json=resource, headers=world.bearer() | {"if-match": '"7"'})
    body = answer.json()
    assert answer.status_code == 200
    assert (body["node_id"], body["pin"], body["mode"], body["active_low"], body["namespace"]) == ("n1", {"bcm": 17}, "OUTPUT", True, "")
    assert world.services.seen.metadata["if-match"] == '"7"'


async def test_path_when_the_body_contradicts_it_is_refused(world: EdgeWorld) -> None:
    before = world.services.seen.changes
    async with world.http() as client:
        other = await client.put("/api/v1/gpio/r1", json={"id": "other", "value": "HIGH"}, headers=world.bearer())
        assert (other.status_code, other.json()["code"], world.services.seen.changes) == (400, 3, before)
        same = await client.put("/api/v1/gpio/r1", json={"id": "r1", "value": "HIGH"}, headers=world.bearer())
    assert (same.status_code, same.json()["id"], same.json()["value"]) == (200, "r1", "HIGH")


async def test_grpc_when_called_with_a_certificate_or_a_token_is_passed_on(world: EdgeWorld) -> None:
    person = world.person("monitor")
    for identity, metadata in ((person, ()), (None, tuple(world.bearer("MONITOR").items()))):
        async with world.channel(identity) as channel:
            principal = await identity_pb2_grpc.IdentityServiceStub(channel).WhoAmI(
                identity_pb2.WhoAmIRequest(), timeout=5, metadata=metadata
            )
            assert principal.spiffe_id == ANNA
            stream = discovery_pb2_grpc.DiscoveryServiceStub(channel).WatchNodes(discovery_pb2.WatchNodesRequest(), metadata=metadata)
            assert len([change async for change in stream]) == 3


async def test_grpc_error_when_passed_through_keeps_its_details(world: EdgeWorld) -> None:
    async with world.channel(world.person("monitor")) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await discovery_pb2_grpc.DiscoveryServiceStub(channel).GetNode(discovery_pb2.GetNodeRequest(id="absent"), timeout=5)
    status = rpc_status.from_call(caught.value)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (caught.value.code(), info.reason) == (grpc.StatusCode.NOT_FOUND, "NODE_UNKNOWN")


async def test_anonymous_method_when_called_by_a_stranger_answers(world: EdgeWorld) -> None:
    before = world.services.seen.changes
    async with world.channel() as channel:
        stub = identity_pb2_grpc.IdentityServiceStub(channel)
        issued = await stub.IssueCertificate(identity_pb2.IssueCertificateRequest(token="good", csr_pem="x"), timeout=5)
    async with world.http() as client:
        answer = await client.post("/api/v1/certificates:issue", json={"token": "bad", "csr_pem": "x"})
    assert issued.certificate_chain_pem == "PEM"
    assert (answer.status_code, answer.json()["details"][0]["reason"]) == (401, "TOKEN_UNKNOWN")
    assert world.services.seen.changes == before + 1


@pytest.mark.parametrize("package", REFLECTIONS)
async def test_reflection_when_asked_with_proof_lists_all_public_services(world: EdgeWorld, package: str) -> None:
    async with world.channel(world.person("monitor")) as channel:
        names = await _services(channel, package)
    wanted = {f"picontroller.v1.{name}Service" for name in ("Identity", "Event", "Discovery", "Gpio")}
    assert wanted <= names
    assert "picontroller.v1.NodeAgentService" not in names


@pytest.mark.parametrize("package", REFLECTIONS)
async def test_reflection_when_asked_without_proof_is_refused(world: EdgeWorld, package: str) -> None:
    async with world.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _services(channel, package)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_health_by_grpc_when_asked_with_proof_is_serving(world: EdgeWorld) -> None:
    async with world.channel(world.person("monitor")) as channel:
        assert await healthy(channel, 5)


async def test_grpc_web_when_called_answers_in_its_framing(world: EdgeWorld) -> None:
    request = identity_pb2.WhoAmIRequest().SerializeToString()
    framed = struct.pack("!BI", 0, len(request)) + request
    headers = world.bearer("MONITOR") | {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    async with world.http() as client:
        answer = await client.post("/picontroller.v1.IdentityService/WhoAmI", content=framed, headers=headers)
    flag, size = struct.unpack("!BI", answer.content[:5])
    principal = identity_pb2.Principal.FromString(answer.content[5 : 5 + size])
    assert (flag, principal.spiffe_id, b"grpc-status:0" in answer.content[5 + size :]) == (0, ANNA, True)


async def _services(channel: grpc.aio.Channel, package: str) -> set[str]:
    call: Any = channel.stream_stream(
        f"/{package}.ServerReflection/ServerReflectionInfo",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )

    async def questions() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    async for answer in call(questions(), timeout=5):
        return {service.name for service in answer.list_services_response.service}
    return set()
