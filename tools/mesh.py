"""Runs the control plane as one process for each service, as systemd would, for trying and for tests: ``make run-mesh``.

Each process is ``pictl serve NAME`` on a free loopback port; peers find each other by PICONTROLLER_MESH__* variables. Simulated Pis run as
``pictl agent run`` processes of their own. Ctrl-C stops all.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import IO

SERVICES = ("identity", "events", "discovery", "gpio")
READY_SECONDS = 40.0
STOP_SECONDS = 15.0


def free_port() -> int:
    """Return a loopback port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mesh:
    """The processes of one control plane. ``start`` returns when the gateway answers; ``stop`` ends them in reverse order."""

    def __init__(self, data_dir: Path, *, listen: str = "") -> None:
        self.data_dir = data_dir
        self.listen = listen or f"127.0.0.1:{free_port()}"
        self.ports = {name: free_port() for name in SERVICES}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: list[IO[bytes]] = []

    @property
    def url(self) -> str:
        """Where the gateway is."""
        return f"https://{self.listen}"

    def environment(self) -> Mapping[str, str]:
        """Return the environment that tells processes where their peers are."""
        peers = {f"PICONTROLLER_MESH__{name.upper()}": f"127.0.0.1:{port}" for name, port in self.ports.items()}
        return {**os.environ, **peers, "PICONTROLLER_LOG__STYLE": "json"}

    def spawn(self, name: str, arguments: Sequence[str], extra: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start ``pictl ARGUMENTS`` with its output in ``<data-dir>/logs/<name>.log``."""
        folder = self.data_dir.parent / f"{self.data_dir.name}-logs"
        folder.mkdir(parents=True, exist_ok=True)
        log = (folder / f"{name}.log").open("ab")
        self._logs.append(log)
        pictl = Path(sys.executable).with_name("pictl")
        environment = {**self.environment(), **(extra or {})}
        process = subprocess.Popen(
            [str(pictl), *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )
        self.processes[name] = process
        return process

    def serve(self, name: str) -> subprocess.Popen[bytes]:
        """Start one service, or start it again."""
        listen = self.listen if name == "gateway" else f"127.0.0.1:{self.ports[name]}"
        return self.spawn(name, ["serve", name, "--data-dir", str(self.data_dir), "--listen", listen])

    def start(self) -> None:
        """Start everything and wait until the gateway accepts connections."""
        for name in (*SERVICES, "gateway"):
            self.serve(name)
        deadline = time.monotonic() + READY_SECONDS
        host, port = self.listen.rsplit(":", 1)
        while True:
            self.check()
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the gateway does not listen after {READY_SECONDS:g} s; see the logs") from None
                time.sleep(0.1)

    def check(self) -> None:
        """Raise RuntimeError when a process has ended by itself."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}; see the logs beside {self.data_dir}")

    def stop(self) -> dict[str, int]:
        """End all processes, the youngest first, and return their exit statuses."""
        for process in reversed(self.processes.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        statuses = {}
        for name, process in self.processes.items():
            try:
                statuses[name] = process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                statuses[name] = process.wait()
        for log in self._logs:
            log.close()
        return statuses


def join_simulated(mesh: Mesh, number: int) -> None:
    """Join a simulated Pi and run its agent as a process."""
    pictl = Path(sys.executable).with_name("pictl")
    admin, folder = mesh.data_dir / "admin", mesh.data_dir / "simulated" / str(number)
    if not (folder / "tls" / "identity.pem").exists():
        client = {**mesh.environment(), "PICTL_SERVER": mesh.listen, "PICTL_CA_FILE": str(admin / "ca.pem")}
        client["PICTL_TOKEN_FILE"] = str(admin / "token")
        made = subprocess.run([str(pictl), "token", "create", "-o", "json"], check=True, capture_output=True, env=client, timeout=30)
        token = json.loads(made.stdout)["token"].encode()
        joining = [str(pictl), "join", mesh.listen, "--token-file", "-", "--data-dir", str(folder)]
        subprocess.run(joining, check=True, input=token, env=mesh.environment(), timeout=60)
    extra = {"PICONTROLLER_AGENT__BACKEND": "sim", "PICONTROLLER_AGENT__HOSTNAME": f"pi-{number}"}
    mesh.spawn(f"agent-{number}", ["agent", "run", "--data-dir", str(folder), "--listen", "127.0.0.1:0"], extra)


def main() -> int:
    """Run the mesh until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path("build/mesh"))
    parser.add_argument("--listen", default="127.0.0.1:8443")
    parser.add_argument("--simulate", type=int, default=0)
    said = parser.parse_args()
    mesh = Mesh(said.data_dir, listen=said.listen)

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    with ExitStack() as stack:
        stack.callback(mesh.stop)
        try:
            mesh.start()
            for number in range(said.simulate):
                join_simulated(mesh, number + 1)
            print(f"{len(mesh.processes)} processes; gateway {mesh.url}; credential {said.data_dir}/admin")
            for name, process in mesh.processes.items():
                print(f"  {process.pid:>8} {name}")
            admin = said.data_dir / "admin"
            print("Try:")
            print(f"  export PICTL_SERVER={mesh.listen} PICTL_CA_FILE={admin}/ca.pem PICTL_TOKEN_FILE={admin}/token")
            print(f"  {VENV_PICTL} node list")
            print("Ctrl-C stops all.", flush=True)
            while True:
                mesh.check()
                time.sleep(1)
        except KeyboardInterrupt:
            return 0
        except (RuntimeError, TimeoutError, subprocess.SubprocessError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1


VENV_PICTL = ".venv/bin/pictl"

if __name__ == "__main__":
    sys.exit(main())
