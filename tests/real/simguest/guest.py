"""One tiny x86 guest: boots, runs what a test asks, and is always gone afterwards. Its hands are the emulated Pi's.

Memory is all its disk. It has cgroup v2 at /sys/fs/cgroup, the freezer of v1 at /run/freezer, configfs and debugfs.
"""

import json
import secrets
import time
from collections.abc import Sequence
from typing import Any

from tests.real.pi3b import machine
from tests.real.pi3b.channel import GUEST_PORT, Channel
from tests.real.pi3b.faults import HarnessError
from tests.real.pi3b.guest import PORT_ATTEMPTS, PiGuest
from tests.real.pi3b.image import Image
from tests.real.simguest import ticks
from tests.real.simguest.image import SimImage
from tests.real.simguest.machine import SimMachine

BOOT_LIMIT = 240.0
"""Seconds to READY: some 4 on an idle machine, many times that when its processors are shared."""


class SimGuest(PiGuest):
    """A context manager; entering boots, leaving ends QEMU whatever happened."""

    def __init__(
        self,
        image: SimImage,
        ports: Sequence[int] = (),
        *,
        set_clock: bool = True,
        hostname: str = "simguest",
        arguments: Sequence[str] = (),
        boot_limit: float = BOOT_LIMIT,
    ) -> None:
        """With `ports`, the guest's ports to reach from the machine; without `set_clock` it is 1970; `arguments` are the kernel's."""
        pi_image = Image(image.kernel, image.kernel, image.initramfs)
        super().__init__(pi_image, ports, set_clock=set_clock, hostname=hostname, arguments=arguments, boot_limit=boot_limit)
        self._sim_image = image

    def python(self, script: str, *arguments: str, timeout: float = 60.0) -> Any:
        """Run a Python text in the guest, which prints one JSON document as its last line; the document."""
        done = self.run(["python3", "-c", script, *arguments], timeout, environment={"PYTHONPATH": "/simguest"})
        lines = done.output.strip().splitlines()
        if done.status or not lines:
            raise HarnessError(f"Python in the guest ended with {done.status}:\n{done.output[-4000:]}")
        return json.loads(lines[-1])

    def _boot(self) -> None:
        began = time.monotonic()
        token = secrets.token_hex(8)
        for _ in range(PORT_ATTEMPTS):
            self.ports = dict(zip((GUEST_PORT, *self._guest_ports), machine.free_ports(1 + len(self._guest_ports)), strict=True))
            self._machine = SimMachine(self._sim_image, self._words(token), self.ports)
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

    def _words(self, token: str) -> list[str]:
        # The guest can measure neither its counter's frequency nor its local timer's where processors are shared: the one is told, the
        # other not used.
        clocks = ["tsc=reliable", f"tsc_early_khz={ticks.kilohertz()}", "nolapic_timer"]
        return ["console=ttyS0,115200", *clocks, *super()._words(token)[1:]]
