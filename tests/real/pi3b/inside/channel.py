"""The harness's hands in the guest: one request a connection, a line of JSON and then bytes, answered the same way.

Standard library only, and no more than a thread a connection: it shares one emulated processor with what is being tested.
"""

import contextlib
import json
import os
import signal
import socketserver
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

PORT = 1
"""A port that nothing under test will want; it is root's."""

processes: dict[int, subprocess.Popen[bytes]] = {}


def parameter(name: str) -> str:
    """A setting of ours from the kernel's command line."""
    for word in Path("/proc/cmdline").read_text().split():
        if word.startswith(f"picontroller.{name}="):
            return word.partition("=")[2]
    return ""


def run(request: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    """Run to the end or to the limit; what a child of it left running is killed with it."""
    process = subprocess.Popen(
        request["argv"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=environment(request),
    )
    timed_out = False
    try:
        output, _ = process.communicate(body, timeout=request["timeout"])
    except subprocess.TimeoutExpired:
        timed_out = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
    return {"status": process.returncode, "timed_out": timed_out}, output


def start(request: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    """Run in the background with the output in a file."""
    Path(request["log"]).parent.mkdir(parents=True, exist_ok=True)
    with Path(request["log"]).open("ab") as log:
        process = subprocess.Popen(
            request["argv"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment(request),
        )
    processes[process.pid] = process
    return {"pid": process.pid}, b""


def wait(request: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    """Status of a background process, null while it runs at the limit."""
    process = processes[request["pid"]]
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(request["timeout"])
    return {"status": process.returncode}, b""


def send(request: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    """A signal to one process, or to its group."""
    (os.killpg if request["group"] else os.kill)(request["pid"], request["signal"])
    return {}, b""


def put(request: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    """Write a file whole: a reader sees the old one or the new one."""
    path = Path(request["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".fresh")
    fresh.write_bytes(body)
    fresh.chmod(request["mode"])
    fresh.replace(path)
    return {}, b""


def get(request: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    """Read a file, which may be one of the kernel's."""
    return {}, Path(request["path"]).read_bytes()


def set_clock(request: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    """A new time of day."""
    time.clock_settime(time.CLOCK_REALTIME, request["epoch"])
    return {}, b""


def environment(request: dict[str, Any]) -> dict[str, str]:
    return {"PATH": "/usr/local/bin:/usr/bin", "HOME": "/root", "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", **request["environment"]}


OPERATIONS = {operation.__name__: operation for operation in (run, start, wait, send, put, get, set_clock)}


class Handler(socketserver.StreamRequestHandler):
    """One request."""

    def handle(self) -> None:
        line = self.rfile.readline()
        if not line:
            return
        request = json.loads(line)
        body = self.rfile.read(request["size"])
        try:
            if request["token"] != parameter("token"):
                raise PermissionError("another guest's token")
            answer, content = OPERATIONS[request["operation"]](request, body)
        except Exception as error:  # every failure is the caller's to see
            answer, content = {"error": f"{type(error).__name__}: {error}"}, b""
        self.wfile.write(json.dumps({**answer, "size": len(content)}).encode() + b"\n" + content)


class Server(socketserver.ThreadingTCPServer):
    """The channel's socket."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


if __name__ == "__main__":
    with Server(("", PORT), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        Path("/dev/console").write_text(f"\nPI3B-READY {parameter('token')} after {time.monotonic():.1f} s\n")
        threading.Event().wait()
