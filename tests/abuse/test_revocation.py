"""Whoever was revoked is out within seconds, also where it was in already: a whole control plane with Envoy and a simulated Pi."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from picontroller.core.tls.channels import channel
from picontroller.core.tls.identity import IdentityFolder, credentials_from, key_to_pem, new_key, signing_request
from picontroller.v1 import discovery_pb2, discovery_pb2_grpc, identity_pb2, identity_pb2_grpc
from tests.integration.plane import Plane, embedded, wait_for

pytestmark = pytest.mark.timeout(120)
AT_MOST_SECONDS = 5.0
GATEWAY = "gateway.pi-controller.local"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    with embedded(tmp_path_factory.mktemp("revocation"), simulate=1) as running:
        yield running


def admin_of(plane: Plane, folder: Path) -> IdentityFolder:
    """Return the admin's credential as an identity folder."""
    trust = IdentityFolder(plane.data_dir / "identity" / "tls")
    trust.load()
    made = IdentityFolder(folder)
    credentials = credentials_from((plane.admin / "client.key").read_bytes(), (plane.admin / "client.pem").read_bytes())
    made.store(credentials, trust.trust)
    return made


async def another(plane: Plane, identity: IdentityFolder, folder: Path) -> IdentityFolder:
    """Return a second certificate for the same identity."""
    key = new_key()
    async with through_envoy(plane, identity) as made:
        request = identity_pb2.RenewCertificateRequest(csr_pem=signing_request(key).decode())
        answer = await identity_pb2_grpc.IdentityServiceStub(made).RenewCertificate(request, timeout=5)
    fresh = IdentityFolder(folder)
    fresh.store(credentials_from(key_to_pem(key), answer.certificate_chain_pem.encode()), identity.trust)
    return fresh


def through_envoy(plane: Plane, identity: IdentityFolder) -> grpc.aio.Channel:
    return channel(identity, plane.url.removeprefix("https://"), GATEWAY)


def direct(plane: Plane, identity: IdentityFolder, service: str) -> grpc.aio.Channel:
    return channel(identity, f"unix:{plane.data_dir}/run/{service}.sock", f"{service}.pi-controller.local")


async def watch(made: grpc.aio.Channel) -> asyncio.Task[grpc.StatusCode]:
    """Return a task that reads an open stream until it ends and returns with which status."""
    call = discovery_pb2_grpc.DiscoveryServiceStub(made).WatchNodes(discovery_pb2.WatchNodesRequest())
    async with asyncio.timeout(5):
        assert isinstance(await call.read(), discovery_pb2.WatchNodesResponse)

    async def read() -> grpc.StatusCode:
        try:
            while await call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    return asyncio.create_task(read())


@asynccontextmanager
async def websocket(plane: Plane, token: str) -> AsyncIterator[ClientConnection]:
    """Yield a socket on which events come: it begins behind the oldest, so that there is one to wait for."""
    trust = ssl.create_default_context(cafile=str(plane.admin / "ca.pem"))
    with plane.client() as client:
        (oldest,) = client.get("/api/v1/events", params={"page_size": 1}).json()["events"]
    address = f"{plane.url.replace('https', 'wss')}/api/v1/events/ws?after={oldest['cursor']}"
    async with connect(address, ssl=trust) as socket:
        await socket.send(json.dumps({"token": token}))
        async with asyncio.timeout(5):
            await socket.recv()
        yield socket


async def until_closed(socket: ClientConnection) -> int:
    try:
        while True:
            await socket.recv()
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 0


def api_token(client: httpx.Client, subject: str) -> dict[str, Any]:
    answer = client.post("/api/v1/api-tokens", json={"subject": subject, "roles": ["MONITOR"]})
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def within(seconds: float, what: str, condition: Callable[[], Awaitable[bool]]) -> float:
    """Wait until ``condition`` and return how long it took; fail after ``seconds``."""
    started = time.monotonic()
    while not await condition():
        assert time.monotonic() - started < seconds, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.05)
    return time.monotonic() - started


async def test_abuse_38_certificate_revoked_during_streams_ends_them_and_no_others(plane: Plane, tmp_path: Path) -> None:
    admin = admin_of(plane, tmp_path / "admin")
    doomed = await another(plane, admin, tmp_path / "doomed")
    async with through_envoy(plane, doomed) as edge, direct(plane, doomed, "discovery") as straight, through_envoy(plane, admin) as other:
        streams = [await watch(made) for made in (edge, straight)]
        unrelated = await watch(other)
        reflection = reflection_pb2_grpc.ServerReflectionStub(edge).ServerReflectionInfo()
        await reflection.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        assert await reflection.read() is not grpc.aio.EOF
        await identity_pb2_grpc.IdentityServiceStub(edge).WhoAmI(identity_pb2.WhoAmIRequest(), timeout=5)
        with plane.client() as client:
            answer = client.post("/api/v1/certificates:revoke", json={"serial": doomed.credentials.serial, "reason": "lost"})
            assert (answer.status_code, answer.json()["serials"]) == (200, [doomed.credentials.serial])
        started = time.monotonic()
        async with asyncio.timeout(AT_MOST_SECONDS):
            assert await asyncio.gather(*streams) == [grpc.StatusCode.UNAUTHENTICATED] * 2
            with pytest.raises(grpc.aio.AioRpcError) as ended:  # the gateway's own server ends streams as well
                await reflection.read()
            assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED
        print(f"revoked certificate: streams ended after {time.monotonic() - started:.3f} s")
        for made in (edge, straight):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await discovery_pb2_grpc.DiscoveryServiceStub(made).ListNodes(discovery_pb2.ListNodesRequest(), timeout=5)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        who = await identity_pb2_grpc.IdentityServiceStub(other).WhoAmI(identity_pb2.WhoAmIRequest(), timeout=5)
        assert who.spiffe_id == "spiffe://pi-controller.local/user/admin"
        assert not unrelated.done()
        unrelated.cancel()


async def test_api_token_when_revoked_is_401_and_its_websocket_is_closed_with_4401(plane: Plane) -> None:
    with plane.client() as client:
        doomed, other = api_token(client, "anna"), api_token(client, "bert")
        async with websocket(plane, doomed["token"]) as socket, websocket(plane, other["token"]) as unrelated:
            with plane.client(token=doomed["token"]) as theirs, plane.client(token=other["token"]) as berts:
                assert theirs.get("/api/v1/nodes").status_code == 200
                reading, living = asyncio.create_task(until_closed(socket)), asyncio.create_task(until_closed(unrelated))
                assert client.delete(f"/api/v1/api-tokens/{doomed['id']}").status_code == 200
                await refused_by_rest(theirs)
                async with asyncio.timeout(AT_MOST_SECONDS):
                    assert await reading == 4401
                assert (berts.get("/api/v1/nodes").status_code, living.done()) == (200, False)
                assert client.post("/api/v1/certificates:revoke", json={"identity": "/user/bert"}).json()["api_tokens"] == [other["id"]]
                await refused_by_rest(berts)
                async with asyncio.timeout(AT_MOST_SECONDS):
                    assert await living == 4401
        answer = client.post("/api/v1/api-tokens", json={"subject": "bert", "roles": ["MONITOR"]})
        assert (answer.status_code, answer.json()["details"][0]["reason"]) == (400, "IDENTITY_REVOKED")
        assert client.get("/api/v1/nodes").status_code == 200


async def refused_by_rest(client: httpx.Client) -> None:
    async def refused() -> bool:
        return client.get("/api/v1/nodes").status_code == 401

    print(f"revoked token: 401 after {await within(AT_MOST_SECONDS, 'REST answers 401', refused):.3f} s")


async def test_abuse_60_deleted_node_is_refused_everywhere_and_stays_out(plane: Plane, tmp_path: Path) -> None:
    (node,) = await asyncio.to_thread(plane.ready_nodes, 1)
    member = IdentityFolder(plane.data_dir / "simulated" / "pi-1" / "tls")
    member.load()
    with plane.client() as client:
        assert client.delete(f"/api/v1/nodes/{node['id']}").status_code == 200
    health = discovery_pb2.ReportHealthRequest(id=node["id"])
    async with (
        through_envoy(plane, member) as edge,
        direct(plane, member, "discovery") as straight,
        direct(plane, member, "identity") as ca,
    ):

        async def code(made: grpc.aio.Channel) -> grpc.StatusCode:
            try:
                await discovery_pb2_grpc.DiscoveryServiceStub(made).ReportHealth(health, timeout=5)
            except grpc.aio.AioRpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        async def shut_out() -> bool:
            return {await code(edge), await code(straight)} == {grpc.StatusCode.UNAUTHENTICATED}

        print(f"deleted node: refused after {await within(AT_MOST_SECONDS, 'it is refused', shut_out):.3f} s")
        renewal = identity_pb2.RenewCertificateRequest(csr_pem=signing_request(new_key()).decode())
        for made in (edge, ca):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await identity_pb2_grpc.IdentityServiceStub(made).RenewCertificate(renewal, timeout=5)
            # Its proof is refused before anybody looks at what it wants; PERMISSION_DENIED is for those few moments before.
            assert caught.value.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
    with plane.client() as client:
        token = client.post("/api/v1/tokens", json={"node_id": node["id"]})
        assert (token.status_code, token.json()["details"][0]["reason"]) == (400, "IDENTITY_REVOKED")
        assert client.get("/api/v1/nodes").json()["nodes"] == []
    log = Path(plane.data_dir).parent / "up.log"
    wait_for("the agent's log says so", lambda: "shut this node out" in log.read_text() or "was revoked; everybody" in log.read_text(), 10)


def test_gateway_when_revoked_gets_another_certificate_and_nobody_takes_it_for_his_own_end(tmp_path: Path) -> None:
    with embedded(tmp_path, simulate=1) as plane:
        plane.ready_nodes(1)
        with plane.client() as client:
            answer = client.post("/api/v1/certificates:revoke", json={"identity": "/gateway", "may_return": True})
            assert (answer.status_code, len(answer.json()["serials"]) > 0) == (200, True)
        began = time.monotonic()
        edge = IdentityFolder(plane.data_dir / "gateway" / "edge")
        refused = set[int]()

        def healed() -> bool:
            edge.load()
            try:
                with plane.client() as again:
                    status = again.get("/api/v1/nodes").status_code
            except httpx.TransportError:
                return False  # Envoy is being started again
            refused.update({status} - {200})
            return status == 200 and not edge.denials.denies(f"certificate:{edge.credentials.serial}") and len(edge.denials) > 0

        wait_for("REST works again with another certificate", healed, 10)
        print(f"revoked gateway: REST works after {time.monotonic() - began:.3f} s; refused with {refused}")
        assert refused <= {503}
        wait_for("the agent's signs of life arrive", lambda: plane.ready_nodes(1), 10)
        with plane.client() as client:
            seen = client.get("/api/v1/nodes").json()["nodes"][0]["last_seen"]
            wait_for("a new one", lambda: client.get("/api/v1/nodes").json()["nodes"][0]["last_seen"] != seen, 15)
        said = (tmp_path / "up.log").read_text()
        assert "renewed because it was revoked" in said
        assert "shut this node out" not in said
        assert "everybody refuses it" not in said
        assert "PROOF_REVOKED" not in said
