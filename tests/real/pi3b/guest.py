"""One emulated Raspberry Pi 3 B: boots, runs what a test asks, and is always gone afterwards.

Everything is by QEMU's own process id. The guest sees the machine at 10.0.2.2; the machine sees chosen ports of the guest on
127.0.0.1. Memory is all its disk, so whatever a power cut should keep has to be fetched with `get` before.
"""

import secrets
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from signal import Signals
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from tests.real.pi3b import machine
from tests.real.pi3b.channel import GUEST_PORT, Channel
from tests.real.pi3b.faults import HarnessError
from tests.real.pi3b.image import Image
from tests.real.pi3b.lines import LineState, PinState, chip_lines, pin_states
from tests.real.pi3b.machine import Machine

PORT_ATTEMPTS = 3

BOOT_LIMIT = 180.0
"""Seconds to READY: 6 on an idle machine, several times that when its processors are shared."""

State = TypeVar("State")
Command = str | Sequence[str]


class Result(NamedTuple):
    """How a command in the guest ended, with its output and errors in one text."""

    status: int
    output: str


@dataclass(frozen=True, slots=True)
class Background:
    """A process in the guest that `PiGuest.start` started."""

    guest: "PiGuest"
    pid: int
    log: str

    def text(self) -> str:
        """What it has written so far."""
        return self.guest.get(self.log).decode(errors="replace")

    def status(self, timeout: float = 0.0) -> int | None:
        """Its exit status (minus the signal that ended it), None while it still runs after the timeout."""
        answer, _ = self.guest.channel.ask("wait", limit=timeout, pid=self.pid, timeout=timeout)
        status: int | None = answer["status"]
        return status

    def wait_for(self, text: str, timeout: float = 60.0) -> str:
        """Wait until the log contains a text; the log. Raises HarnessError with the log when it ends or the time is over before."""
        deadline = time.monotonic() + timeout
        while True:
            status = self.status()
            log = self.text()
            if text in log:
                return log
            if status is not None or time.monotonic() > deadline:
                state = "still running" if status is None else f"ended with {status}"
                raise HarnessError(f"process {self.pid} never wrote {text!r} ({state}); its log:\n{log[-4000:]}")
            time.sleep(0.2)

    def stop(self, grace: float = 10.0) -> int:
        """SIGTERM, and SIGKILL to its whole group when that is not enough; its exit status."""
        for number, patience in ((Signals.SIGTERM, grace), (Signals.SIGKILL, 10.0)):
            status = self.status()
            if status is None:
                self.guest.signal(self.pid, number, group=number == Signals.SIGKILL)
                status = self.status(patience)
            if status is not None:
                return status
        raise HarnessError(f"process {self.pid} outlived SIGKILL")


class PiGuest:
    """A context manager; entering boots, leaving ends QEMU whatever happened.

    It must be entered in a thread that outlives it, for QEMU is also told to end with the thread that started it.
    """

    def __init__(
        self,
        image: Image,
        ports: Sequence[int] = (),
        *,
        set_clock: bool = True,
        hostname: str = "pi3b",
        arguments: Sequence[str] = (),
        boot_limit: float = BOOT_LIMIT,
    ) -> None:
        """With `ports`, the guest's ports to reach from the machine; without `set_clock` it is 1970; `arguments` are the kernel's."""
        self.ports: dict[int, int] = {}
        """The machine's port for each of the guest's."""
        self.boot_seconds = 0.0
        self.channel = Channel(0, "")
        self._image = image
        self._guest_ports = tuple(ports)
        self._set_clock = set_clock
        self._hostname = hostname
        self._arguments = tuple(arguments)
        self._boot_limit = boot_limit
        self._machine: Machine | None = None

    def __enter__(self) -> Self:
        try:
            self._boot()
            return self
        except BaseException:
            self.stop()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """QEMU's."""
        return self._on.pid

    @property
    def console(self) -> str:
        """What the guest wrote on its serial console; show it when something failed."""
        return self._on.console

    def address(self, port: int) -> str:
        """Where the machine reaches a port of the guest: host:port."""
        return f"127.0.0.1:{self.ports[port]}"

    def stop(self) -> None:
        """Cut the power. Harmless when it isn't on."""
        if self._machine is not None:
            self._machine.power_off()
            self._machine = None

    def pause(self) -> None:
        """Stop the emulated machine where it is, and with it everything that it holds and owes to others."""
        self._on.signal(Signals.SIGSTOP)

    def resume(self) -> None:
        """Let it go on. Its clocks, the monotonic one too, jump over the pause."""
        self._on.signal(Signals.SIGCONT)

    def cable(self, plugged: bool) -> None:
        """Pull or plug the network cable: packets are lost both ways and nobody is told; `run` and its like are cut off too."""
        self._on.cable(plugged)

    def set_clock(self, epoch: float) -> None:
        """Let the guest's clock jump to a time."""
        self.channel.ask("set_clock", epoch=epoch)

    def run(self, command: Command, timeout: float = 60.0, stdin: bytes = b"", environment: Mapping[str, str] | None = None) -> Result:
        """Run a command to its end; a text goes through the shell. Raises TimeoutError with the output so far, having killed it."""
        answer, output = self.channel.ask("run", stdin, timeout, argv=_argv(command), timeout=timeout, environment=dict(environment or {}))
        text = output.decode(errors="replace")
        if answer["timed_out"]:
            raise TimeoutError(f"{_shown(command)} did not end within {timeout:g} s; it wrote:\n{text[-4000:]}")
        return Result(answer["status"], text)

    def start(self, command: Command, log: str, environment: Mapping[str, str] | None = None) -> Background:
        """Run a command in the background, its output and errors appended to a file in the guest."""
        answer, _ = self.channel.ask("start", argv=_argv(command), log=log, environment=dict(environment or {}))
        return Background(self, answer["pid"], log)

    def put(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Write a file in the guest, making the folders above it; whoever reads it sees the old or the new one whole."""
        self.channel.ask("put", content, path=path, mode=mode)

    def get(self, path: str) -> bytes:
        """A file of the guest, which may be one of the kernel's."""
        return self.channel.ask("get", path=path)[1]

    def signal(self, pid: int, number: int, group: bool = False) -> None:
        """Send a signal to a process in the guest, or to its group."""
        self.channel.ask("send", pid=pid, signal=int(number), group=group)

    def gpio_debug(self, label: str = "pinctrl-bcm2835") -> dict[int, LineState]:
        """Lines of a gpiochip by offset as the kernel has them: who holds which, in what direction, at what level."""
        return self._parsed(chip_lines(self.get("/sys/kernel/debug/gpio").decode(), label), "/sys/kernel/debug/gpio")

    def pin_debug(self) -> dict[int, PinState]:
        """Function and level of every pin from the registers, also of those that nobody holds."""
        path = "/sys/kernel/debug/pinctrl/3f200000.gpio-pinctrl-bcm2835/pins"
        return self._parsed(pin_states(self.get(path).decode()), path)

    def _parsed(self, found: dict[int, State], path: str) -> dict[int, State]:
        if not found:
            raise HarnessError(f"nothing understood in {path}:\n{self.get(path).decode()[:2000]}")
        return found

    def _boot(self) -> None:
        began = time.monotonic()
        token = secrets.token_hex(8)
        for _ in range(PORT_ATTEMPTS):
            self.ports = dict(zip((GUEST_PORT, *self._guest_ports), machine.free_ports(1 + len(self._guest_ports)), strict=True))
            self._machine = Machine(self._image, self._words(token), self.ports)
            try:
                self._await_ready(token, began)
                break
            except machine.PortsTaken:
                self._machine.power_off()
        else:
            raise HarnessError(f"other processes took the guest's ports {PORT_ATTEMPTS} times")
        self.channel = Channel(self.ports[GUEST_PORT], token)
        if self._set_clock:
            self.set_clock(time.time())
        self.boot_seconds = time.monotonic() - began

    def _await_ready(self, token: str, began: float) -> None:
        while f"PI3B-READY {token}" not in self.console:
            self._on.check()
            if time.monotonic() - began > self._boot_limit:
                raise HarnessError(f"the guest was not ready after {self._boot_limit:.0f} s; {self._on.evidence()}")
            time.sleep(0.05)

    def _words(self, token: str) -> list[str]:
        settings = {"token": token, "hostname": self._hostname}
        if self._set_clock:
            settings["epoch"] = str(int(time.time()))
        words = [f"picontroller.{name}={value}" for name, value in settings.items()]
        return ["console=ttyAMA0,115200", "panic=-1", "quiet", *words, *self._arguments]

    @property
    def _on(self) -> Machine:
        if self._machine is None:
            raise HarnessError("the guest is not running")
        return self._machine


def _argv(command: Command) -> list[str]:
    return ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)


def _shown(command: Command) -> str:
    return command if isinstance(command, str) else shlex.join(command)
