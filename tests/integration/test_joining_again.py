"""Joining as a Pi meets it, with real processes: an answer that is lost, and a node that was off for longer than its certificate lived."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from tests.integration.plane import PICTL, Plane, embedded, wait_for

pytestmark = pytest.mark.timeout(180)
LIFE_SECONDS = 10


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    life = {"PICONTROLLER_IDENTITY__CERTIFICATE_SECONDS": str(LIFE_SECONDS)}
    with embedded(tmp_path_factory.mktemp("again"), environ=life) as running:
        yield running


def join(address: str, token: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [PICTL, "join", address, "--token-file", "-", "--data-dir", str(folder)]
    return subprocess.run(command, input=token, capture_output=True, text=True, timeout=60, check=False)


def nodes_certificates(plane: Plane) -> list[str]:
    with plane.client() as client:
        found = client.get("/api/v1/certificates?page_size=1000").json()["certificates"]
    return [each["serial"] for each in found if "/node/" in each["spiffe_id"]]


def leaf(folder: Path) -> x509.Certificate:
    pem = (folder / "tls" / "identity.pem").read_bytes()
    return x509.load_pem_x509_certificate(pem[pem.index(b"-----BEGIN CERTIFICATE-----") :])


class Cutting:
    """A TCP proxy that cuts one connection, with what it holds back, as soon as ``when()`` before passing bytes from the server on."""

    def __init__(self, target: tuple[str, int], when: Callable[[], bool]) -> None:
        self._target = target
        self._when = when
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts = 0
        self._sockets: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for each in self._sockets:
            each.close()

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                self._start(self._carry, client, server, False)
                self._start(self._carry, server, client, True)

    def _carry(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if answers and not self.cuts and self._when():
                    self.cuts += 1
                    break
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def test_abuse_58_lost_answer_is_asked_for_again_with_the_same_key(plane: Plane, tmp_path: Path) -> None:
    """The answer to IssueCertificate is cut off once it is issued; one ``pictl join`` still comes to its end, with one certificate."""
    host, port = plane.url.removeprefix("https://").split(":")
    before = set(nodes_certificates(plane))
    proxy = Cutting((host, int(port)), lambda: bool(set(nodes_certificates(plane)) - before))
    try:
        token = plane.pictl("token", "create").stdout.strip()
        joined = join(proxy.address, token, tmp_path / "pi")
        assert joined.returncode == 0, joined.stderr
    finally:
        proxy.close()
    assert proxy.cuts == 1
    assert set(nodes_certificates(plane)) - before == {f"{leaf(tmp_path / 'pi').serial_number:x}"}
    again = join(plane.url.removeprefix("https://"), token, tmp_path / "other")
    assert (again.returncode, "TOKEN_USED" in again.stderr) == (4, True), again.stderr


def test_node_when_it_was_off_for_too_long_says_so_and_rejoins_under_its_identity(plane: Plane, tmp_path: Path) -> None:
    address, folder = plane.url.removeprefix("https://"), tmp_path / "pi"
    user = old_admin(plane, tmp_path / "user")
    first = join(address, plane.pictl("token", "create").stdout.strip(), folder)
    assert first.returncode == 0, first.stderr
    node_id = first.stdout.split()[-1]
    with agent(folder, tmp_path / "first.log"):
        plane.ready_nodes(1)
    old = leaf(folder).serial_number
    wait_for("its certificate ends", lambda: expired(folder), LIFE_SECONDS + 5)
    with agent(folder, tmp_path / "second.log"):
        told = wait_for("the agent says what to do", lambda: remedies(tmp_path / "second.log"))
    assert told[0] == f"there: pictl token create --node {node_id}; on this machine: pictl join {address} --token-file -"
    second = join(address, plane.pictl("token", "create", "--node", node_id).stdout.strip(), folder)
    assert second.returncode == 0, second.stderr
    assert second.stdout.split()[-1] == node_id
    assert leaf(folder).serial_number != old
    seen = plane.nodes()[0]["last_seen"]
    with agent(folder, tmp_path / "third.log"):
        found = wait_for("it reports again", lambda: [node for node in plane.nodes() if node["last_seen"] != seen])
        assert [(node["id"], node["status"]) for node in found] == [(node_id, "READY")]
    refused = user("node", "list")
    assert (refused.returncode, "CERTIFICATE_EXPIRED" in refused.stderr) == (4, True), refused.stderr
    assert "expired at 2" in refused.stderr
    assert "Try: ask an administrator" in refused.stderr


def expired(folder: Path) -> bool:
    return leaf(folder).not_valid_after_utc < datetime.now(UTC)


def remedies(log: Path) -> list[str]:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [line["try"] for line in lines if line["event"] == "the certificate has expired and can't be renewed"]


@contextlib.contextmanager
def agent(folder: Path, log: Path) -> Iterator[None]:
    environment = {**os.environ, "PICONTROLLER_LOG__STYLE": "json"}
    command = [PICTL, "agent", "run", "--simulate", "--listen", "127.0.0.1:0", "--data-dir", str(folder)]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env=environment)
    try:
        yield
        assert process.poll() is None, log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def old_admin(plane: Plane, folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a command line with a copy of the admin's certificate of this moment, which nobody renews."""
    folder.mkdir()
    for name in ("ca.pem", "client.pem", "client.key"):
        shutil.copy2(plane.admin / name, folder / name)
    environment = {**os.environ, "XDG_CONFIG_HOME": str(folder / "config")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([PICTL, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False)

    files = ["--client-cert-file", str(folder / "client.pem"), "--client-key-file", str(folder / "client.key")]
    added = run("context", "add", "old", "--server", plane.url.removeprefix("https://"), "--ca-file", str(folder / "ca.pem"), *files)
    assert added.returncode == 0, added.stderr
    return run
