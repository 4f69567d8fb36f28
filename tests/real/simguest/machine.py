"""The emulated hardware: one QEMU process with one processor, a serial console and a network card."""

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.real.pi3b import machine
from tests.real.simguest.image import SimImage

MEGABYTES = 512


class SimMachine(machine.Machine):
    """A PC with power on from the start of its life until `power_off`, its files in a folder of its own."""

    def __init__(self, image: SimImage, words: Sequence[str], forwards: Mapping[int, int]) -> None:
        """Switch it on, with the kernel's command line and the machine's port for each of the guest's."""
        self._folder = tempfile.TemporaryDirectory(prefix="simguest-")
        self._path = Path(self._folder.name)
        forwarded = "".join(f",hostfwd=tcp:127.0.0.1:{ours}-{machine.GUEST_ADDRESS}:{theirs}" for theirs, ours in forwards.items())
        command = [
            # The kernel ends QEMU when a killed test run could not.
            *("setpriv", "--pdeathsig", "TERM", "qemu-system-x86_64", "-M", "pc", "-no-reboot", "-nodefaults"),
            # Never KVM: within a virtual machine its guests hang. `max` has RDRAND, so nothing waits for entropy.
            *("-accel", "tcg,thread=single", "-cpu", "max,la57=off", "-m", str(MEGABYTES)),
            *("-kernel", str(image.kernel), "-initrd", str(image.initramfs), "-append", " ".join(words)),
            *("-display", "none", "-serial", f"file:{self._path}/console", "-qmp", f"unix:{self._path}/monitor,server=on,wait=off"),
            *("-netdev", f"user,id=n0,ipv6=off{forwarded}", "-device", "virtio-net-pci,netdev=n0,romfile="),
        ]
        try:
            with (self._path / "errors").open("wb") as errors:
                # In a group of its own, so that Ctrl-C is the test run's to handle.
                self._qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, process_group=0)
        except BaseException:
            self._folder.cleanup()
            raise
