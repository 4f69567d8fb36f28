"""A whole control plane as its users meet it, started as processes: ``pictl up``, or one process for each service.

Both kinds have the same face, so that one test body runs on either.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tools.mesh import Mesh, join_simulated

PICTL = str(Path(sys.executable).with_name("pictl"))
READY_SECONDS = 60.0
STOP_SECONDS = 30.0


def wait_for(what: str, condition: Any, seconds: float = 30.0) -> Any:
    """Return the first true value of ``condition()``; fail when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


def descendants(pid: int) -> dict[int, str]:
    """Return the command lines of a process and everything below it."""
    children: dict[int, list[int]] = {}
    lines: dict[int, str] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError):
            stat = (folder / "stat").read_text()
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
            lines[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    found, waiting = {}, [pid]
    while waiting:
        current = waiting.pop()
        if current in lines:
            found[current] = lines[current]
        waiting += children.get(current, [])
    return found


@dataclass
class Plane:
    """A control plane that runs. ``pids`` are its Python processes by name (without simulated Pis)."""

    kind: str
    url: str
    data_dir: Path
    config_home: Path
    pids: dict[str, int]
    mesh: Mesh | None = None

    @property
    def admin(self) -> Path:
        return self.data_dir / "admin"

    def client(self, *, token: str | None = None, **options: Any) -> httpx.Client:
        """Return a REST client with the admin's token, or ``token``."""
        import ssl

        bearer = (self.admin / "token").read_text().strip() if token is None else token
        trust = ssl.create_default_context(cafile=str(self.admin / "ca.pem"))
        headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
        return httpx.Client(base_url=self.url, verify=trust, headers=headers, timeout=15, **options)

    def pictl(self, *arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run ``pictl`` as a user of this control plane."""
        environment = {
            **os.environ,
            "XDG_CONFIG_HOME": str(self.config_home),
            "PICTL_SERVER": self.url.removeprefix("https://"),
            "PICTL_CA_FILE": str(self.admin / "ca.pem"),
            "PICTL_TOKEN_FILE": str(self.admin / "token"),
        }
        done = subprocess.run([PICTL, *arguments], capture_output=True, text=True, env=environment, timeout=60, check=False, **options)
        assert not check or done.returncode == 0, f"pictl {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def nodes(self) -> list[dict[str, Any]]:
        """Return all nodes by REST."""
        with self.client() as client:
            answer = client.get("/api/v1/nodes")
            answer.raise_for_status()
            found: list[dict[str, Any]] = answer.json()["nodes"]
            return found

    def ready_nodes(self, count: int) -> list[dict[str, Any]]:
        """Return the nodes once ``count`` of them are READY."""

        def enough() -> list[dict[str, Any]] | None:
            ready = [node for node in self.nodes() if node["status"] == "READY"]
            return ready if len(ready) >= count else None

        found: list[dict[str, Any]] = wait_for(f"{count} nodes are READY", enough)
        return found


@contextlib.contextmanager
def embedded(folder: Path, *, simulate: int = 0, arguments: tuple[str, ...] = (), environ: dict[str, str] | None = None) -> Iterator[Plane]:
    """Run ``pictl up`` and stop it with SIGTERM, expecting status 0."""
    data_dir, ready, config_home = folder / "data", folder / "ready.json", folder / "config"
    folder.mkdir(parents=True, exist_ok=True)
    command = [PICTL, "up", "--data-dir", str(data_dir), "--listen", "127.0.0.1:0", "--ready-file", str(ready), "--simulate", str(simulate)]
    environment = {**os.environ, "XDG_CONFIG_HOME": str(config_home), "PICONTROLLER_LOG__STYLE": "json", **(environ or {})}
    with (folder / "up.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )
    try:
        wait_for("pictl up is ready", lambda: ready.exists() or process.poll() is not None, READY_SECONDS)
        assert process.poll() is None, (folder / "up.log").read_text()[-3000:]
        facts = json.loads(ready.read_text())
        assert facts["pid"] == process.pid
        yield Plane("embedded", facts["url"], data_dir, config_home, {"up": process.pid})
    except BaseException:
        print((folder / "up.log").read_text()[-5000:])
        process.kill()
        process.wait()
        raise
    else:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        status = process.wait(STOP_SECONDS)
        assert status == 0, f"pictl up ended with {status}\n{(folder / 'up.log').read_text()[-3000:]}"
        assert not ready.exists()


@contextlib.contextmanager
def meshed(folder: Path, *, simulate: int = 0) -> Iterator[Plane]:
    """Run one process for each service, and simulated Pis as processes of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    mesh = Mesh(folder / "data")
    try:
        mesh.start()
        pids = {name: process.pid for name, process in mesh.processes.items()}
        plane = Plane("mesh", mesh.url, folder / "data", folder / "config", pids, mesh)
        with plane.client(token="") as client:
            wait_for("the mesh is ready", lambda: client.get("/readyz").status_code == 200, READY_SECONDS)
        for number in range(simulate):
            join_simulated(mesh, number + 1)
        yield plane
    except BaseException:
        for log in sorted(folder.glob("data-logs/*.log")):
            print(f"== {log.name}\n{log.read_text()[-2500:]}")
        mesh.stop()
        raise
    statuses = mesh.stop()
    assert set(statuses.values()) <= {0, -signal.SIGKILL}, statuses


KINDS = {"embedded": embedded, "mesh": meshed}
