"""An agent one release behind or ahead keeps working; one further away says exactly why not, and goes on looking after its lines."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from picontroller.core.version import version
from tests.integration.plane import Plane, embedded, wait_for
from tests.skew.releases import AHEAD, BEHIND, Tree, neighbour, tree

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("skew")


@pytest.fixture(scope="module")
def trees(folder: Path) -> dict[str, Tree]:
    asked = {
        "behind": (neighbour(-1), BEHIND),
        "ahead": (neighbour(1), AHEAD),
        "too new": (neighbour(2), ()),
        "development": ("unknown", ()),
    }
    with ThreadPoolExecutor(2) as pool:
        made = {kind: pool.submit(tree, folder / kind.replace(" ", "-"), *wanted) for kind, wanted in asked.items()}
    return {kind: future.result() for kind, future in made.items()}


@pytest.fixture(scope="module")
def plane(folder: Path) -> Iterator[Plane]:
    with embedded(folder / "plane") as running:
        yield running


@dataclass
class Agent:
    """An agent's process. ``log`` are its events so far."""

    process: subprocess.Popen[bytes]
    node_id: str
    log_file: Path

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_file.read_text().splitlines() if line.startswith("{")]


@contextlib.contextmanager
def running(plane: Plane, tree: Tree, name: str) -> Iterator[Agent]:
    """Join and run an agent from its tree, and stop it with SIGTERM, expecting status 0."""
    home = tree.root / name
    home.mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PICONTROLLER_", "XDG_", "PYTHON"))}
    environment = {
        **kept,
        **tree.environment(),
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "PICONTROLLER_AGENT__BACKEND": "sim",
        "PICONTROLLER_AGENT__HOSTNAME": name,
        "PICONTROLLER_LOG__STYLE": "json",
    }
    with plane.client() as client:
        answer = client.post("/api/v1/tokens", json={"description": name})
        assert answer.status_code == 200, answer.text
        token = answer.json()["token"]
    agent = [sys.executable, "-m", "picontroller.agent"]
    data = ["--data-dir", str(home / "agent")]
    joining = [*agent, "join", plane.url.removeprefix("https://"), "--token-file", "-", *data]
    joined = subprocess.run(joining, input=token, capture_output=True, text=True, env=environment, cwd=tree.root, timeout=30, check=False)
    assert joined.returncode == 0, joined.stderr
    node_id = joined.stdout.split()[-1]
    log_file = home / "agent.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [*agent, "run", "--listen", "127.0.0.1:0", *data],
            stdout=log,
            stderr=log,
            env=environment,
            cwd=tree.root,
            start_new_session=True,
        )
    try:
        yield Agent(process, node_id, log_file)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, log_file.read_text()[-3000:]
    except BaseException:
        print(log_file.read_text()[-5000:])
        raise
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def node_in(plane: Plane, node_id: str) -> dict[str, Any] | None:
    return next((node for node in plane.nodes() if node["id"] == node_id), None)


def until_status(plane: Plane, agent: Agent, status: str) -> dict[str, Any]:
    """Return an agent's node once it has a status."""

    def found() -> dict[str, Any] | None:
        assert agent.process.poll() is None, agent.log_file.read_text()[-3000:]
        node = node_in(plane, agent.node_id)
        return node if node is not None and node["status"] == status else None

    node: dict[str, Any] = wait_for(f"{agent.node_id} is {status}", found)
    return node


@pytest.mark.parametrize("kind", ["behind", "ahead"])
def test_agent_when_one_release_away_joins_drives_pins_and_is_heard(plane: Plane, trees: dict[str, Tree], kind: str) -> None:
    with running(plane, trees[kind], f"pi-{kind}") as agent, plane.client() as client:
        node = until_status(plane, agent, "READY")
        assert (node["agent_version"], node["problems"]) == (trees[kind].version, [])
        assert bool(node["capabilities"]["features"]) == (kind == "ahead")
        wish = {"name": f"led-{kind}", "node_id": agent.node_id, "pin": {"bcm": 17}, "mode": "OUTPUT", "value": "LOW"}
        made = client.post("/api/v1/gpio", json=wish)
        assert made.status_code == 200, made.text
        led = f"/api/v1/gpio/{made.json()['id']}"
        moved = client.put(led, json={"value": "HIGH"})
        assert (moved.status_code, moved.json()["observed"]["value"]) == (200, "HIGH"), moved.text
        assert client.get(led).json()["observed"] | {"time": ""} == {"value": "HIGH", "time": "", "stale": False}

        def told() -> list[dict[str, Any]]:
            page = client.get("/api/v1/events", params={"filter.type": "gpio.state.changed", "filter.node_id": agent.node_id})
            assert page.status_code == 200, page.text
            return [event for event in page.json()["events"] if event["data"].get("state") == "high"]

        wait_for("the event arrives", told)
        listed = client.get("/api/v1/gpio", params={"node_id": agent.node_id})
        assert [each["name"] for each in listed.json()["gpio_resources"]] == [f"led-{kind}"]
        assert client.delete(led).status_code == 200


def test_agent_when_two_releases_ahead_is_refused_in_plain_words_and_lives_on(plane: Plane, trees: dict[str, Tree]) -> None:
    with running(plane, trees["too new"], "pi-new") as agent:

        def refused() -> list[dict[str, Any]]:
            assert agent.process.poll() is None
            return [line for line in agent.log() if line["event"] == "the control plane does not work with this version of the agent"]

        (line,) = wait_for("the agent says why", refused)
        major, minor = version().split(".")[:2]
        assert line["error"] == (
            f"agent {trees['too new'].version} does not work with control plane {version()}, which serves agents "
            f"{major}.{max(0, int(minor) - 1)} to {major}.{int(minor) + 1}; "
            f"upgrade the control plane to {major}.{int(minor) + 2}, or install agent {major}.{minor}"
        )
        assert node_in(plane, agent.node_id) is None
        began = time.monotonic()
        wait_for("a storm would have been seen", lambda: time.monotonic() - began > 1)
        assert len(refused()) == 1


def test_agent_when_its_version_is_no_release_is_let_in_and_its_node_says_so(plane: Plane, trees: dict[str, Tree]) -> None:
    with running(plane, trees["development"], "pi-dev") as agent:
        node = until_status(plane, agent, "ERROR")
        assert node["problems"] == [
            f"VERSION_UNKNOWN: agent 'unknown' is no release; whether it works with control plane {version()} is not known"
        ]
