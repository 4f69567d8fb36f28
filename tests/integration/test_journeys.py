"""A Pi joins, a pin moves, the world sees it: the same body on one process and on one process for each service."""

import asyncio
import json
import os
import re
import signal
import ssl
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from websockets.asyncio.client import connect

from picontroller.v1 import gpio_pb2, gpio_pb2_grpc, types_pb2
from tests.integration.plane import KINDS, Plane, descendants, wait_for

pytestmark = pytest.mark.timeout(180)
PIS = 2


@pytest.fixture(scope="module", params=sorted(KINDS))
def plane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    with KINDS[request.param](tmp_path_factory.mktemp(request.param), simulate=PIS) as running:
        yield running


def create(plane: Plane, name: str, bcm: int, **fields: Any) -> dict[str, Any]:
    node = min(plane.ready_nodes(PIS), key=lambda each: each["id"])
    body = {"name": name, "node_id": node["id"], "pin": {"bcm": bcm}, "mode": "OUTPUT", "value": "LOW", **fields}
    with plane.client() as client:
        answer = client.post("/api/v1/gpio", json=body)
        assert answer.status_code == 200, answer.text
        made: dict[str, Any] = answer.json()
        return made


def channel(plane: Plane) -> grpc.Channel:
    admin = plane.admin
    credentials = grpc.ssl_channel_credentials(
        (admin / "ca.pem").read_bytes(), (admin / "client.key").read_bytes(), (admin / "client.pem").read_bytes()
    )
    options = [("grpc.ssl_target_name_override", "gateway.pi-controller.local")]
    return grpc.secure_channel(plane.url.removeprefix("https://"), credentials, options=options)


def test_processes_when_counted_are_one_or_one_each(plane: Plane) -> None:
    plane.ready_nodes(PIS)
    python = {pid: line for root in plane.pids.values() for pid, line in descendants(root).items() if "envoy" not in line.split()[0]}
    envoys = [line for root in plane.pids.values() for line in descendants(root).values() if "envoy" in line.split()[0]]
    assert len(envoys) == 1
    if plane.kind == "embedded":
        assert len(python) == 1
    else:
        assert set(plane.pids) == {"identity", "events", "discovery", "gpio", "gateway"}
        assert set(python) == set(plane.pids.values())


def test_pin_when_written_by_rest_moves_and_the_event_arrives_on_a_websocket(plane: Plane) -> None:
    made = create(plane, "journey", 17)
    assert made["resolved"]["header"] == 11
    assert made["observed"]["value"] == "LOW"

    async def watch_while_writing() -> list[dict[str, Any]]:
        trust = ssl.create_default_context(cafile=str(plane.admin / "ca.pem"))
        address = plane.url.replace("https", "wss") + "/api/v1/events/ws?type=gpio.*"
        seen: list[dict[str, Any]] = []
        async with connect(address, ssl=trust) as socket:
            await socket.send(json.dumps({"token": (plane.admin / "token").read_text().strip()}))
            await asyncio.sleep(0.5)  # a subscription that names no cursor begins with what comes next
            await asyncio.to_thread(write, "HIGH")
            async with asyncio.timeout(10):
                while not any(each["type"] == "gpio.state.changed" and each["data"]["state"] == "high" for each in seen):
                    seen.append(json.loads(await socket.recv()))
        return seen

    def write(level: str) -> None:
        with plane.client() as client:
            answer = client.put(f"/api/v1/gpio/{made['id']}", json={"value": level})
            assert answer.status_code == 200, answer.text
            assert answer.json()["observed"]["value"] == level

    events = asyncio.run(watch_while_writing())
    moved = next(each for each in events if each["type"] == "gpio.state.changed" and each["data"]["state"] == "high")
    assert moved["resource"] == "journey"
    assert moved["data"]["pin"] == 17
    assert moved["cursor"]
    with plane.client() as client:
        assert client.get(f"/api/v1/gpio/{made['id']}").json()["observed"]["value"] == "HIGH"


def test_pins_when_written_by_grpc_and_the_command_line_are_the_same_pins(plane: Plane) -> None:
    made = create(plane, "shared", 27)
    with channel(plane) as secure:
        stub: Any = gpio_pb2_grpc.GpioServiceStub(secure)  # type: ignore[arg-type]  # typed for grpc.aio, serves both
        written = stub.WritePins(
            gpio_pb2.WritePinsRequest(writes=[gpio_pb2.PinWrite(id=made["id"], value=types_pb2.Level.HIGH)]), timeout=10
        )
        assert written.results[0].observed.value == types_pb2.Level.HIGH
    assert "high" in plane.pictl("gpio", "read", "shared").stdout
    plane.pictl("gpio", "write", "shared", "low")
    with plane.client() as client:
        assert client.get(f"/api/v1/gpio/{made['id']}").json()["observed"]["value"] == "LOW"


def test_line_when_taken_belongs_to_its_first_owner(plane: Plane) -> None:
    made = create(plane, "first", 22)
    body = {"name": "second", "node_id": made["node_id"], "pin": {"header": 15}, "mode": "OUTPUT"}
    with plane.client() as client:
        answer = client.post("/api/v1/gpio", json=body)
    assert answer.status_code == 409
    assert any(detail.get("reason") == "PIN_TAKEN" for detail in answer.json()["details"])


def test_metrics_when_fetched_on_loopback_count_the_calls_of_every_process(plane: Plane) -> None:
    plane.ready_nodes(PIS)
    folder = plane.data_dir.parent
    logs = [folder / "up.log"] if plane.mesh is None else sorted((folder / "data-logs").glob("*.log"))
    ports = {log.stem: re.findall(r"metrics\s+(?:on\s+|http://)127\.0\.0\.1:(\d+)", log.read_text()) for log in logs}
    ports.pop("agent-1", None)
    ports.pop("agent-2", None)
    assert len(ports) == (1 if plane.mesh is None else 5)
    for name, found in ports.items():
        assert found, f"{name} does not say where its metrics are"
        answer = httpx.get(f"http://127.0.0.1:{found[-1]}/metrics", timeout=5)
        assert "picontroller_rpc_seconds" in answer.text
    with plane.client(token="") as client:
        assert client.get("/metrics").status_code == 404


def test_service_when_killed_leaves_the_others_serving(plane: Plane) -> None:
    made = create(plane, "survivor", 23)
    if plane.mesh is None:  # one process has no service that could be killed alone: what there is to show is that it keeps serving
        with plane.client() as client:
            assert client.put(f"/api/v1/gpio/{made['id']}", json={"value": "HIGH"}).status_code == 200
        return
    os.kill(plane.pids["discovery"], signal.SIGKILL)
    plane.mesh.processes["discovery"].wait()
    with plane.client() as client:
        answer = client.put(f"/api/v1/gpio/{made['id']}", json={"value": "HIGH"})
        assert answer.status_code == 200, answer.text
        assert client.get("/api/v1/events").status_code == 200
        assert client.get("/api/v1/nodes").status_code == 503
        plane.pids["discovery"] = plane.mesh.serve("discovery").pid
        wait_for("discovery is back", lambda: client.get("/api/v1/nodes").status_code == 200)
    assert len(plane.ready_nodes(PIS)) == PIS
