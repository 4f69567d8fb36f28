"""A Pi joins, and its lines really move: the agent's own wheel on an emulated Raspberry Pi 3 B, its control plane outside.

What the agent says is never believed: the kernel's debugfs, read inside the guest by what is not the agent, tells where lines are.
"""

import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.plane import Plane, embedded, wait_for
from tests.real.grpcurl import grpcurl
from tests.real.pi3b import image, wheels
from tests.real.pi3b.guest import PiGuest
from tests.real.pi3b.image import Image, ImageSpec
from tests.real.pi3b.machine import HOST_ADDRESS
from tests.real.pi3b.requirements import ensure

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
AGENT_PORT = 7450
MOVED = {17: "rest", 27: "grpcurl", 22: "cli"}
CONTROL = 23
AGENT = "pictl"
IOCTL = "self._held(bcm).set_value(bcm, _VALUES[level])"


def built_wheel(folder: Path) -> Path:
    """Return the wheel of this tree."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return next(folder.glob("*.whl"))


def without_the_ioctl(wheel: Path, folder: Path) -> Path:
    """Return a copy of the wheel whose driver sets no line: everything else, its answers included, is left as it is."""
    mutant = folder / wheel.name
    with zipfile.ZipFile(wheel) as original, zipfile.ZipFile(mutant, "w") as copy:
        for item in original.infolist():
            content = original.read(item)
            if item.filename == "picontroller/agent/gpio/drivers/gpiod.py":
                text = content.decode()
                assert text.count(IOCTL) == 1
                content = text.replace(IOCTL, "self._held(bcm)").encode()
            copy.writestr(item, content)
    return mutant


def pi_image(wheel: Path) -> Image:
    return image.build(ImageSpec(requirements=wheels.requirements_of(wheel, ("agent",)), local_wheels=(wheel,)))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ensure()
    return built_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    with embedded(tmp_path_factory.mktemp("plane"), arguments=("--san", HOST_ADDRESS)) as running:
        yield running


@contextmanager
def joined(plane: Plane, guest: PiGuest) -> Iterator[dict[str, Any]]:
    """Join the guest with a fresh token over standard input, run its agent, and yield its node once it is READY."""
    address = f"{HOST_ADDRESS}:{plane.url.rpartition(':')[2]}"
    token = plane.pictl("token", "create").stdout.strip()
    done = guest.run(f"{AGENT} join {address} --token-file - --data-dir /var/lib/agent", timeout=180, stdin=token.encode())
    assert done.status == 0, done.output
    assert token not in done.output
    node_id = done.output.split(" as node ")[1].split()[0]
    agent = start_agent(guest)
    try:

        def ready() -> dict[str, Any] | None:
            return next((node for node in plane.nodes() if node["id"] == node_id and node["status"] == "READY"), None)

        yield wait_for(f"node {node_id} is READY", ready, 120)
    finally:
        agent.stop(30)


def start_agent(guest: PiGuest) -> Any:
    command = f"{AGENT} agent run --data-dir /var/lib/agent --listen 0.0.0.0:{AGENT_PORT} --advertise 127.0.0.1:{guest.ports[AGENT_PORT]}"
    log = f"/tmp/agent-{time.monotonic_ns()}.log"  # one for each start, for what it says is waited for
    agent = guest.start(command, log, {"PICONTROLLER_LOG__STYLE": "json"})
    agent.wait_for("serves on", 120)
    return agent


def create(plane: Plane, node: dict[str, Any], bcm: int, **fields: Any) -> dict[str, Any]:
    body = {
        "name": f"line-{bcm}-{node['id'][:8]}",
        "node_id": node["id"],
        "pin": {"bcm": bcm},
        "mode": "OUTPUT",
        "value": "LOW",
        "safe": "LOW",
        **fields,
    }
    with plane.client() as client:
        answer = client.post("/api/v1/gpio", json=body)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


def by_rest(plane: Plane, resource: dict[str, Any], level: str) -> None:
    with plane.client() as client:
        answer = client.put(f"/api/v1/gpio/{resource['id']}", json={"value": level})
    assert answer.status_code == 200, answer.text


def by_grpcurl(plane: Plane, resource: dict[str, Any], level: str) -> None:
    request = json.dumps({"writes": [{"id": resource["id"], "value": level}]})
    admin = plane.admin
    command = [
        str(grpcurl()), "-cacert", str(admin / "ca.pem"), "-cert", str(admin / "client.pem"), "-key", str(admin / "client.key"),
        "-servername", "gateway.pi-controller.local", "-d", request,
        plane.url.removeprefix("https://"), "picontroller.v1.GpioService/WritePins",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def by_cli(plane: Plane, resource: dict[str, Any], level: str) -> None:
    plane.pictl("gpio", "write", resource["id"], level.lower())


DOORS: dict[str, Callable[[Plane, dict[str, Any], str], None]] = {"rest": by_rest, "grpcurl": by_grpcurl, "cli": by_cli}


def really(guest: PiGuest, bcm: int) -> tuple[str | None, int | None]:
    """Return a line's direction and level as the kernel has them."""
    state = guest.gpio_debug()[bcm]
    return state.direction, state.level


def assert_lines_move(plane: Plane, guest: PiGuest, node: dict[str, Any]) -> None:
    """Move three lines LOW → HIGH → LOW through three doors; only they may move."""
    resources = {bcm: create(plane, node, bcm) for bcm in (*MOVED, CONTROL)}
    for bcm, door in MOVED.items():
        others = {other: 0 for other in resources if other != bcm}
        for level, seen in (("LOW", 0), ("HIGH", 1), ("LOW", 0)):
            DOORS[door](plane, resources[bcm], level)
            assert really(guest, bcm) == ("out", seen), f"GPIO{bcm} written {level} by {door}"
            for other, expected in others.items():
                assert really(guest, other) == ("out", expected), f"GPIO{other} while GPIO{bcm} was written"


def test_pi_when_joined_moves_lines_goes_safe_and_comes_back(plane: Plane, wheel: Path) -> None:
    with PiGuest(pi_image(wheel), [AGENT_PORT]) as guest:
        with joined(plane, guest) as node:
            assert node["model"].startswith("Raspberry Pi 3 Model B")
            assert node["capabilities"]["simulated"] is False
            assert node["capabilities"]["gpio_backend"] == "gpiod"
            assert [chip["label"] for chip in node["capabilities"]["gpio_chips"] if chip["header"]] == ["pinctrl-bcm2835"]
            assert_lines_move(plane, guest, node)
            high = create(plane, node, 24, safe="LOW", value="HIGH")
            kept = create(plane, node, 25, safe="LOW", value="HIGH", restore="DESIRED")
            assert really(guest, 24) == really(guest, 25) == ("out", 1)
        # The agent has ended by SIGTERM: what it drove high went to its safe state first.
        # Nobody holds the lines any more, so the pin controller's registers are asked; a released line keeps the level it had.
        pins = guest.pin_debug()
        assert [pins[bcm].level for bcm in (24, 25)] == [0, 0]
        agent = start_agent(guest)
        log = agent.wait_for("presented to the control plane", 120)
        assert "Traceback" not in log
        assert really(guest, 24) == ("out", 0), "a known output takes its safe state when the agent starts"
        with plane.client() as client:
            wait_for("only the line with restore DESIRED is driven again", lambda: really(guest, 25) == ("out", 1), 60)
            assert really(guest, 24) == ("out", 0)
            assert client.get(f"/api/v1/gpio/{high['id']}").json()["observed"]["value"] == "LOW"
            assert client.get(f"/api/v1/gpio/{kept['id']}").json()["observed"]["value"] == "HIGH"
        agent.stop(30)


def test_mutant_agent_without_the_ioctl_fails_the_same_test(plane: Plane, wheel: Path, tmp_path: Path) -> None:
    mutant = without_the_ioctl(wheel, tmp_path)
    with PiGuest(pi_image(mutant), [AGENT_PORT]) as guest, joined(plane, guest) as node, pytest.raises(AssertionError, match="GPIO17"):
        assert_lines_move(plane, guest, node)


def test_pi_when_its_clock_is_not_set_says_so_and_waits(plane: Plane, wheel: Path) -> None:
    address = f"{HOST_ADDRESS}:{plane.url.rpartition(':')[2]}"
    token = plane.pictl("token", "create").stdout.strip()
    with PiGuest(pi_image(wheel), [AGENT_PORT], set_clock=False) as guest:
        assert guest.run("date +%Y").output.strip() == "1970"
        guest.put("/tmp/token", token.encode(), 0o600)
        joining = guest.start(f"{AGENT} join {address} --token-file /tmp/token --data-dir /var/lib/agent", "/tmp/join.log")
        joining.wait_for("CLOCK_UNSYNCED", 120)
        assert joining.status() is None
        guest.run(f"date -s @{int(time.time())}")
        assert joining.status(180) == 0, joining.text()


def test_gpiod_driver_when_run_on_the_pi_passes_the_contract_of_all_drivers(wheel: Path) -> None:
    with PiGuest(pi_image(wheel)) as guest:
        for package in ("tests", "tests/contract"):
            guest.put(f"/tmp/suite/{package}/__init__.py", b"")
        for path in sorted((ROOT / "tests/contract/pin_driver").glob("*.py")):
            guest.put(f"/tmp/suite/tests/contract/pin_driver/{path.name}", path.read_bytes())
        done = guest.run("cd /tmp/suite && python3 -m tests.contract.pin_driver", timeout=600)
        assert done.status == 0, done.output
        counts = json.loads(done.output[done.output.index("{") :])
        print(counts)
        assert counts["failures"] == {}
        assert counts["passed"] >= 40
