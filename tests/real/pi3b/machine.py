"""The emulated hardware: one QEMU process, started, cabled and always ended by its own process id."""

import json
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import Signals

from tests.real.pi3b.faults import HarnessError
from tests.real.pi3b.image import Image

GUEST_ADDRESS = "10.0.2.15"
HOST_ADDRESS = "10.0.2.2"
"""The machine as the guest sees it; a connection there arrives at the machine's loopback."""


class PortsTaken(Exception):
    """Another process was faster to take a port."""


class Machine:
    """A Pi 3 B with power on from the start of its life until `power_off`, its files in a folder of its own."""

    def __init__(self, image: Image, words: Sequence[str], forwards: Mapping[int, int]) -> None:
        """Switch it on, with the kernel's command line and the machine's port for each of the guest's."""
        self._folder = tempfile.TemporaryDirectory(prefix="pi3b-")
        self._path = Path(self._folder.name)
        forwarded = "".join(f",hostfwd=tcp:127.0.0.1:{ours}-{GUEST_ADDRESS}:{theirs}" for theirs, ours in forwards.items())
        command = [
            # The kernel ends QEMU when a killed test run could not.
            *("setpriv", "--pdeathsig", "TERM", "qemu-system-aarch64", "-M", "raspi3b", "-no-reboot"),
            # With a thread a processor the three that wait to be brought up spin: on two cores that costs 4 to 10 seconds a boot.
            *("-accel", "tcg,thread=single"),
            *("-kernel", str(image.kernel), "-dtb", str(image.device_tree), "-initrd", str(image.initramfs), "-append", " ".join(words)),
            *("-display", "none", "-monitor", "none", "-serial", f"file:{self._path}/console"),
            *("-qmp", f"unix:{self._path}/monitor,server=on,wait=off"),
            *("-netdev", f"user,id=n0,ipv6=off{forwarded}", "-device", "usb-net,netdev=n0"),
        ]
        try:
            with (self._path / "errors").open("wb") as errors:
                # In a group of its own, so that Ctrl-C is the test run's to handle.
                self._qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, process_group=0)
        except BaseException:
            self._folder.cleanup()
            raise

    @property
    def pid(self) -> int:
        """QEMU's."""
        return self._qemu.pid

    @property
    def console(self) -> str:
        """What the guest wrote on its serial console."""
        return self._text("console")

    def check(self) -> None:
        """Raise when QEMU or the guest's kernel gave up; PortsTaken when QEMU only wants other ports."""
        ended = self._qemu.poll()
        if ended is not None and "forwarding rule" in self._text("errors"):
            raise PortsTaken
        if ended is not None:
            raise HarnessError(f"QEMU ended with {ended}; {self.evidence()}")
        if "PI3B-FAULT" in self.console or "Kernel panic" in self.console:
            raise HarnessError(f"the guest failed to boot; {self.evidence()}")

    def evidence(self) -> str:
        """What to show when something went wrong."""
        return f"console:\n{self.console[-6000:]}\nQEMU:\n{self._text('errors')[-2000:]}"

    def signal(self, number: Signals) -> None:
        """Send QEMU a signal."""
        self._qemu.send_signal(number)

    def cable(self, plugged: bool) -> None:
        """Turn the link of the network card on or off."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(30)
            monitor.connect(f"{self._path}/monitor")
            with monitor.makefile("rw") as stream:
                for command in ({"execute": "qmp_capabilities"}, {"execute": "set_link", "arguments": {"name": "n0", "up": plugged}}):
                    stream.write(json.dumps(command) + "\n")
                    stream.flush()
                    # A greeting and events come between the answers.
                    while not (answer := json.loads(stream.readline())).keys() & {"return", "error"}:
                        pass
                    if "error" in answer:
                        raise HarnessError(f"QEMU refused to turn the link {'on' if plugged else 'off'}: {answer['error']}")

    def power_off(self) -> None:
        """SIGTERM, then SIGKILL; harmless a second time."""
        if self._qemu.poll() is None:
            self._qemu.send_signal(Signals.SIGCONT)
            self._qemu.terminate()
            try:
                self._qemu.wait(5)
            except subprocess.TimeoutExpired:
                self._qemu.kill()
                self._qemu.wait()
        self._folder.cleanup()

    def _text(self, name: str) -> str:
        path = self._path / name
        return path.read_text(errors="replace") if path.exists() else ""


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago; all are held until the last is found, so that they differ."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [server.getsockname()[1] for server in held]
    finally:
        for server in held:
            server.close()
