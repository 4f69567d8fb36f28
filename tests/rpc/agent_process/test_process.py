"""The agent as a process of its own: its verbs, its exit statuses, its signals, and what it imports."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from picontroller.agent import supervision
from picontroller.agent.admission import membership
from tests.fakes.control_plane import NODE_ID, FakeControlPlane

AGENT = (sys.executable, "-m", "picontroller.agent")
FORBIDDEN = (
    "apsw", "sqlite3", "protovalidate", "cel_expr_python", "celpy", "jwt", "starlette", "uvicorn", "websockets", "httpx", "pydantic",
    "typer", "click", "rich", "asyncssh", "kubernetes_asyncio", "zeroconf", "mcp", "unittest", "pydoc",
    "picontroller.gateway", "picontroller.host", "picontroller.core.store", "picontroller.core.rpc.forwarding",
)  # fmt: skip


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PICONTROLLER_", "XDG_"))}
    return {
        **kept,
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "PICONTROLLER_AGENT__BACKEND": "sim",
        "PYTHONFAULTHANDLER": "1",
        **more,
    }


@asynccontextmanager
async def started(home: Path, *words: str, **more: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start an agent's verb; end it when the test ends first."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*AGENT, *words, stdout=pipe, stderr=pipe, env=environment(home, **more))
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGABRT)  # so that a test that hangs shows where the agent was
            _, err = await process.communicate()
            sys.stderr.write(err.decode())


class Notified(asyncio.DatagramProtocol):
    """What systemd would have been told."""

    def __init__(self) -> None:
        self.said: Counter[str] = Counter()
        self._news = asyncio.Event()

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.said[data.decode()] += 1
        self._news.set()

    async def until(self, state: str, times: int) -> None:
        async with asyncio.timeout(20):
            while self.said[state] < times:
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def systemd(path: Path) -> AsyncIterator[Notified]:
    """Listen where systemd would."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(path))
    transport, notified = await asyncio.get_running_loop().create_datagram_endpoint(Notified, sock=listening)
    yield notified
    transport.close()


async def run(home: Path, *words: str, stdin: bytes = b"", **more: str) -> tuple[int, str, str]:
    """Run an agent's verb to its end and return status, output and errors."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*AGENT, *words, stdin=pipe, stdout=pipe, stderr=pipe, env=environment(home, **more))
    out, err = await asyncio.wait_for(process.communicate(stdin), 30)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_process_from_join_to_leave(plane: FakeControlPlane, tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path / "agent"))
    status, out, _ = await run(tmp_path, "join", plane.address, "--token-file", "-", *data, stdin=plane.token.encode() + b"\n")
    assert (status, out) == (0, f"joined {plane.address} as node {NODE_ID}\n")

    async with systemd(tmp_path / "notify.sock") as notified:
        supervised = {"NOTIFY_SOCKET": str(tmp_path / "notify.sock"), "WATCHDOG_USEC": "300000"}
        async with started(tmp_path, "run", "--listen", "127.0.0.1:0", *data, **supervised) as agent:
            assert agent.stdout is not None
            line = (await asyncio.wait_for(agent.stdout.readline(), 30)).decode()
            assert line.startswith(f"agent of node {NODE_ID} serves on 127.0.0.1:")
            await plane.until(lambda: len(plane.reports) >= 1, 30)
            await notified.until("READY=1", 1)
            await notified.until("WATCHDOG=1", 3)

            status, _, err = await run(tmp_path, "leave", *data)
            assert status == 5
            assert f"process {agent.pid}" in err
            assert plane.unregistered == []

            agent.send_signal(signal.SIGTERM)
            _, err_bytes = await asyncio.wait_for(agent.communicate(), 20)
            assert agent.returncode == 0
        events = [json.loads(text)["event"] for text in err_bytes.decode().splitlines()]
        assert events[-1] == "service has stopped"
        await notified.until("STOPPING=1", 1)

    status, out, _ = await run(tmp_path, "leave", *data)
    assert (status, out) == (0, f"left {plane.address}; node {NODE_ID} is no more\n")
    assert plane.unregistered == [NODE_ID]


def test_supervisor_when_it_does_not_listen_never_stops_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    supervision.notify("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "deaf"))
        for _ in range(2000):  # far more than any queue takes
            supervision.notify("WATCHDOG=1")
        assert deaf.recv(100) == b"WATCHDOG=1"


async def test_abuse_61_token_on_the_command_line_leaves_the_process_list_and_is_never_logged(
    plane: FakeControlPlane, tmp_path: Path
) -> None:
    plane.hold = asyncio.Event()
    words = ("join", plane.address, "--token", plane.token, "--data-dir", str(tmp_path / "agent"))
    async with started(tmp_path, *words, PICONTROLLER_LOG__LEVEL="DEBUG") as process:
        await plane.until(lambda: bool(plane.waiting), 30)  # it asks for its certificate: now its command line is as it stays
        command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        surroundings = Path(f"/proc/{process.pid}/environ").read_bytes()
        plane.hold.set()
        out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    assert b"--token-file" in command
    for place in (command, surroundings, out, err, *(path.read_bytes() for path in (tmp_path / "agent").rglob("*") if path.is_file())):
        assert plane.secret.encode() not in place
    assert b"every user of this machine" in err


async def test_wrong_usage_when_there_is_some_is_one_line_and_the_next_step(tmp_path: Path) -> None:
    cases = {
        (): "say one of run, join, leave",
        ("dance",): "'dance' is not one of run, join, leave",
        ("join",): "ADDRESS",
        ("join", "10.0.0.1"): "--token-file",
        ("join", "10.0.0.1", "--token", "a", "--token-file", "b"): "not allowed with",
        ("join", "a:b:c", "--token-file", "-"): "HOST:PORT",
        ("join", "10.0.0.1", "--token-file", "/nonexistent/file"): "can't be read",
        ("run", "--listen", "nowhere"): "listen must be HOST:PORT",
    }
    answers = await asyncio.gather(*(run(tmp_path, *words, *_data(words, tmp_path), stdin=b"PC1.x.y.z") for words in cases))
    for (words, wanted), (status, out, err) in zip(cases.items(), answers, strict=True):
        assert (status, out) == (5 if "nonexistent" in "".join(words) else 2, ""), words
        assert wanted in err, words
        assert "Traceback" not in err


async def test_abuse_94_configuration_when_broken_names_file_and_key_and_starts_nothing(tmp_path: Path) -> None:
    cases = {
        b'[agent]\nlisen = "x"\n': "did you mean listen",
        b"[agent]\nreport_seconds = true\n": "must be a number",
        b'[agent]\nlisten = "a:1"\nlisten = "b:1"\n': "is not TOML",
        b"[agnt]\n": "unknown section; did you mean agent?",
        b"\xef\xbb\xbf[agent]\n": "is not TOML",
        b"\xff\xfe": "is not UTF-8",
        b"[agent]\nreport_seconds = 99\n": "report_seconds must be from",
    }
    paths = []
    for number, content in enumerate(cases):
        paths.append(tmp_path / f"{number}.toml")
        paths[-1].write_bytes(content)
    words = [("run", "--config", str(path), "--data-dir", str(tmp_path / "agent")) for path in (*paths, tmp_path / "missing.toml")]
    answers = await asyncio.gather(*(run(tmp_path, *each) for each in words))
    for wanted, (status, _, err) in zip((*cases.values(), "does not exist"), answers, strict=True):
        assert status == 2
        assert wanted in err
    assert not (tmp_path / "agent").exists()


async def test_abuse_95_key_when_others_may_read_it_stops_the_agent(plane: FakeControlPlane, folder: Path, tmp_path: Path) -> None:
    (folder / "tls/identity.pem").chmod(0o644)
    status, _, err = await run(tmp_path, "run", "--data-dir", str(folder))
    assert status == 5
    assert f"chmod 600 {folder / 'tls/identity.pem'}" in err
    (folder / "tls/identity.pem").rename(folder / "tls/real.pem")
    (folder / "tls/identity.pem").symlink_to("real.pem")
    status, _, err = await run(tmp_path, "run", "--data-dir", str(folder))
    assert status == 5
    assert "symbolic link" in err


async def test_abuse_96_port_taken_and_folder_unwritable_are_clear(plane: FakeControlPlane, folder: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        status, out, err = await run(tmp_path, "run", "--listen", address, "--data-dir", str(folder))
    assert (status, out) == (1, "")
    assert f"{address} can't be bound" in err
    status, _, err = await run(
        tmp_path, "join", plane.address, "--token-file", "-", "--data-dir", "/proc/agent", stdin=plane.token.encode()
    )
    assert status == 5
    assert "choose another with --data-dir" in err
    with membership.held(folder):
        pass  # nothing is left running


async def test_join_when_it_fails_ends_with_the_status_of_the_contract(plane: FakeControlPlane, tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path / "agent"))
    wrong = plane.token[:-4] + ("AAAA" if not plane.token.endswith("AAAA") else "BBBB")
    status, _, err = await run(tmp_path, "join", plane.address, "--token-file", "-", *data, stdin=wrong.encode())
    assert status == 4
    assert "pictl token create" in err
    assert wrong.rpartition(".")[2] not in err


def test_imports_when_an_agent_runs_are_few() -> None:
    code = (
        "import sys, picontroller.agent.commands, picontroller.agent.wiring, picontroller.agent.gateway, picontroller.core.rpc.hosting;"
        "import picontroller.agent.gpio.drivers.sim, picontroller.agent.gpio.drivers.gpiod;"
        "from picontroller.agent.validation.validator import AgentValidator; AgentValidator();"
        "print('\\n'.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    found = done.stdout.split()
    assert "picontroller.agent.service" in found
    loaded = [name for name in found if any(name == bad or name.startswith(f"{bad}.") for bad in FORBIDDEN)]
    assert loaded == []
    services = {path.name for path in (Path(__file__).parents[3] / "services/picontroller").iterdir() if path.is_dir()}
    assert {name.split(".")[1] for name in found if name.startswith("picontroller.") and name.count(".")} & services == set()


def test_imports_when_somebody_joins_leave_out_the_server() -> None:
    code = "import sys, picontroller.agent.commands; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert not {"picontroller.agent.wiring", "picontroller.core.rpc.server", "gpiod"} & set(done.stdout.split())


def _data(words: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    return ("--data-dir", str(folder / "agent")) if words and words[0] in ("run", "join") else ()
