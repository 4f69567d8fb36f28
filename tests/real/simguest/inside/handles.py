"""Scenes of a holder (as the agent is) and a guardian that has duplicates of its line handles; each prints what was seen as JSON.

The holder requests lines with gpiod in a process of its own, sends duplicates of the handles over a Unix socket and dies or is stopped;
levels are measured past both, at gpio-sim's own pins, and a third process watches what the kernel says of the lines.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gpiod
import simchip
from gpiod.line import Direction, Edge, Value

V2 = Path("/sys/fs/cgroup/victim")
V1 = Path("/run/freezer/victim")
LEVELS = {0: Value.INACTIVE, 1: Value.ACTIVE}
LIMIT = 20.0


def outputs(lines: Sequence[int], level: int) -> dict[int, gpiod.LineSettings]:
    return {line: gpiod.LineSettings(direction=Direction.OUTPUT, output_value=LEVELS[level]) for line in lines}


def inputs(lines: Sequence[int]) -> dict[int, gpiod.LineSettings]:
    return {line: gpiod.LineSettings(direction=Direction.INPUT, edge_detection=Edge.BOTH) for line in lines}


def refusal(work: Callable[[], object]) -> int:
    """The number of the error that the work raises, 0 when it raises none."""
    try:
        work()
    except OSError as error:
        return error.errno or -1
    return 0


def until(what: str, condition: Callable[[], bool]) -> None:
    """Wait for a condition of the kernel's, which has no other way to be told."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.002)


class Guardian:
    """The guardian's process, an interpreter of its own without site packages."""

    def __init__(self, folder: str, user: int = 0) -> None:
        self.path = f"{folder}/handles"
        os.chown(folder, user, user)
        command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("guardian.py")), self.path]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, user=user, group=user)
        self.modules = self.answer()["modules"]

    def ask(self, *words: object) -> dict[str, Any]:
        self.tell(*words)
        return self.answer()

    def tell(self, *words: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """What it says to something told earlier."""
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Holder:
    """The holder's process: forked, so that it starts at once; it makes all its requests itself."""

    def __init__(self, chip: simchip.Chip) -> None:
        self._chip = chip
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                ours.close()
                self._live(theirs)
            finally:
                os._exit(0)
        theirs.close()
        self._stream = ours.makefile("rw")

    def ask(self, *words: object) -> dict[str, Any]:
        self.tell(*words)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """What it says to something told earlier."""
        answer: dict[str, Any] = json.loads(self._stream.readline())
        return answer

    def tell(self, *words: object) -> None:
        self._stream.write(json.dumps(words) + "\n")
        self._stream.flush()

    def _live(self, connection: socket.socket) -> None:
        requests: list[gpiod.LineRequest] = []
        stream = connection.makefile("rw")
        for text in stream:
            verb, *words = json.loads(text)
            stream.write(json.dumps({"errno": refusal(lambda: self._do(requests, verb, words))}) + "\n")  # noqa: B023 - called at once
            stream.flush()

    def _do(self, requests: list[gpiod.LineRequest], verb: str, words: list[Any]) -> None:
        if verb == "output":  # all lines in one request
            requests.append(gpiod.request_lines(self._chip.device, consumer="holder", config=outputs(*words)))
        elif verb == "each":  # a request a line
            requests.extend(
                gpiod.request_lines(self._chip.device, consumer="holder", config=outputs([line], words[1])) for line in words[0]
            )
        elif verb == "active low":
            settings = {
                line: gpiod.LineSettings(direction=Direction.OUTPUT, active_low=True, output_value=LEVELS[words[1]]) for line in words[0]
            }
            requests.append(gpiod.request_lines(self._chip.device, consumer="holder", config=settings))
        elif verb == "input":
            requests.append(gpiod.request_lines(self._chip.device, consumer="holder", config=inputs(*words)))
        elif verb == "send":
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.connect(words[0])
                socket.send_fds(connection, [b"lines"], [request.fd for request in requests])
        elif verb == "set":
            requests[-1].set_values(dict.fromkeys(words[0], LEVELS[words[1]]))
        elif verb == "reconfigure":
            requests[-1].reconfigure_lines(outputs(*words[1:]) if words[0] == "output" else inputs(words[1]))
        elif verb == "event":
            os.set_blocking(requests[-1].fd, False)
            os.read(requests[-1].fd, 48)
        elif verb == "release":
            for request in requests:
                request.release()
            requests.clear()
        elif verb == "toggle":  # for ever, so that its end comes at any point of it
            while True:
                for level in (1, 0):
                    requests[-1].set_values(dict.fromkeys(words[0], LEVELS[level]))

    def state(self) -> str:
        """One letter of the kernel's, or `gone`."""
        if os.waitpid(self.pid, os.WNOHANG)[0]:
            return "gone"
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def suffer(self, kind: str) -> str:
        """Bring the end, wait until it has come; what is left of the process."""
        if kind == "kill":
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            return "gone"
        if kind == "stop":
            os.kill(self.pid, signal.SIGSTOP)
            until("stopped", lambda: self.state() == "T")
        elif kind == "freeze v2":
            V2.mkdir(exist_ok=True)
            (V2 / "cgroup.procs").write_text(str(self.pid))
            (V2 / "cgroup.freeze").write_text("1")
            until("frozen", lambda: "frozen 1" in (V2 / "cgroup.events").read_text())
        else:
            V1.mkdir(exist_ok=True)
            (V1 / "cgroup.procs").write_text(str(self.pid))
            (V1 / "freezer.state").write_text("FROZEN")
            until("frozen", lambda: (V1 / "freezer.state").read_text().strip() == "FROZEN")
        return self.state()

    def relieve(self) -> None:
        """Let it go on, if it can."""
        if V2.exists():
            (V2 / "cgroup.freeze").write_text("0")
        if V1.exists():
            (V1 / "freezer.state").write_text("THAWED")
        try:
            os.kill(self.pid, signal.SIGCONT)
        except ProcessLookupError:
            return

    def end(self) -> None:
        self.relieve()
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            return


class Scene:
    """A chip, a holder with its lines, a guardian; `watched` lines are reported by the kernel as somebody else sees them."""

    def __init__(self, chip: simchip.Chip, watched: Sequence[int] = (), user: int = 0) -> None:
        self.chip = chip
        self._folder = tempfile.TemporaryDirectory()
        self.guardian = Guardian(self._folder.name, user)
        self.holder = Holder(chip)
        self._watch = gpiod.Chip(chip.device)
        self._unwatched = tuple(watched)

    def __enter__(self) -> "Scene":
        return self

    def __exit__(self, *_: object) -> None:
        self.holder.end()
        self.guardian.kill()
        self._watch.close()
        self._folder.cleanup()

    def renew_holder(self) -> None:
        """Another holder in the place of the one that has ended, while the guardian lives on."""
        self.holder.end()
        self.guardian.ask("close")
        self.holder = Holder(self.chip)

    def share(self) -> dict[str, Any]:
        """The holder sends, the guardian takes; from here on the kernel's reports of the watched lines count."""
        self.guardian.tell("receive")
        self.holder.ask("send", self.guardian.path)
        taken = self.guardian.answer()
        for line in self._unwatched:
            self._watch.watch_line_info(line)
        self._unwatched = ()
        return taken

    def reports(self) -> list[str]:
        """What the kernel reported of the watched lines since the last time: requested, released, reconfigured."""
        found = []
        while self._watch.wait_info_event(0):
            found.append(self._watch.read_info_event().event_type.name.removeprefix("LINE_").lower())
        return found

    def info(self, line: int) -> dict[str, Any]:
        known = self._watch.get_line_info(line)
        return {"used": known.used, "consumer": known.consumer, "direction": known.direction.name.lower()}

    def values(self, lines: Sequence[int]) -> list[int]:
        return [self.chip.value(line) for line in lines]

    def request(self, line: int) -> int:
        """A fourth party asks for a line and lets it go; the error's number."""
        return refusal(lambda: gpiod.request_lines(self.chip.device, consumer="other", config=outputs([line], 0)).release())
