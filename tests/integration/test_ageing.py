"""A whole control plane whose connections all end every second: what follows anything resumes by itself, and nothing is lost or doubled."""

import json
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.integration.plane import PICTL, Plane, embedded, wait_for

AGEING = {
    "PICONTROLLER_LIMITS__CONNECTION_AGE_SECONDS": "1",
    "PICONTROLLER_LIMITS__CONNECTION_GRACE_SECONDS": "0.5",
    "PICONTROLLER_AGENT__CONNECTION_AGE_SECONDS": "1",
    "PICONTROLLER_AGENT__SIMULATED_LIFE_SECONDS": "0.1",
}
SECONDS = 8.0
CALLS_PER_SECOND = 60
pytestmark = pytest.mark.timeout(120)


def following(plane: Plane, folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "PICTL_SERVER": plane.url.removeprefix("https://"),
        "PICTL_CA_FILE": str(plane.admin / "ca.pem"),
        "PICTL_TOKEN_FILE": str(plane.admin / "token"),
    }
    name = "-".join(arguments[-4:-2] if "-o" in arguments else arguments[:2])
    with (folder / f"{name}.out").open("wb") as out, (folder / f"{name}.err").open("wb") as err:
        return subprocess.Popen([PICTL, *arguments], stdout=out, stderr=err, env=environment)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def ask(plane: Plane, found: Counter[int | str], until: float) -> None:
    with plane.client() as client:
        while (now := time.monotonic()) < until:
            try:
                found[client.get("/api/v1/nodes").status_code] += 1
            except httpx.HTTPError as error:
                found[type(error).__name__] += 1
            time.sleep(max(0, now + 4 / CALLS_PER_SECOND - time.monotonic()))


def test_plane_when_all_connections_age_loses_no_call_and_no_edge_and_watches_go_on(tmp_path: Path) -> None:
    found: Counter[int | str] = Counter()
    with embedded(tmp_path, simulate=1, environ=AGEING) as plane:
        node = plane.ready_nodes(1)[0]["id"]
        plane.pictl("gpio", "create", "--node", str(node), "--pin", "GPIO4", "--mode", "input", "--edge", "both", "pulse")
        watchers = [
            following(plane, tmp_path, "-o", "json", "event", "tail", "--type", "gpio.edge"),
            following(plane, tmp_path, "node", "watch"),
        ]
        try:
            until = time.monotonic() + SECONDS
            threads = [threading.Thread(target=ask, args=(plane, found, until)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            seen = [int(event["data"]["sequence"]) for event in lines(tmp_path / "event-tail.out")]  # type: ignore[index]  # JSON
            last = seen[-1]
            with plane.client() as client:
                kept = client.get("/api/v1/events", params={"filter.type": "gpio.edge", "page_size": 1000}).json()["events"]
            wait_for("the tail goes on", lambda: len(lines(tmp_path / "event-tail.out")) > len(seen) + 5)
            assert [watcher.poll() for watcher in watchers] == [None, None]
        finally:
            for watcher in watchers:
                watcher.terminate()
                watcher.wait(10)
        assert set(found) == {200}
        assert found[200] >= 50 * SECONDS
        # What the agent counted without gaps arrived without gaps and without doubles, over some ten connections at each of three steps.
        assert seen == list(range(seen[0], last + 1))
        told = [int(event["data"]["sequence"]) for event in kept]
        assert sorted(told) == list(range(min(told), max(told) + 1))
        assert len(seen) > SECONDS * 5
        assert len((tmp_path / "node-watch.out").read_text().splitlines()) == 1
        assert (tmp_path / "event-tail.err").read_text() == ""
