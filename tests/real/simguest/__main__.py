"""`python -m tests.real.simguest [PORT …] [--wheel PATH]`: the guest until Ctrl-C, its ports forwarded, with a chip like a Pi 4's."""

import argparse
import signal
import tempfile
from pathlib import Path

from tests.real.simguest import chips, image, wheels
from tests.real.simguest.guest import SimGuest
from tests.real.simguest.image import SimImageSpec


def main() -> None:
    """Boot, say where, wait."""
    parser = argparse.ArgumentParser(prog="python -m tests.real.simguest", description="a guest with simulated chips until Ctrl-C")
    parser.add_argument("ports", type=int, nargs="*", help="ports of the guest to forward")
    parser.add_argument("--wheel", type=Path, help="the agent's wheel; without it that of this tree is built")
    parser.add_argument("--command", help="what to run in the guest, its log shown at the end")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = chosen.wheel or wheels.of_this_tree(Path(folder))
        built = image.build(SimImageSpec(wheels.requirements_of(wheel, ("agent",)), (wheel,)))
    with SimGuest(built, chosen.ports) as guest:
        chip = chips.make(guest, "header", "pinctrl-bcm2711", 58, chips.HEADER_NAMES)
        print(f"ready after {guest.boot_seconds:.1f} s, QEMU's process id {guest.pid}; the header is {chip.device}; Ctrl-C ends it")
        for theirs in chosen.ports:
            print(f"the guest's port {theirs} is {guest.address(theirs)}")
        process = guest.start(chosen.command, "/var/log/command") if chosen.command else None
        try:
            signal.pause()
        except KeyboardInterrupt:
            print(process.text() if process else guest.console)


if __name__ == "__main__":
    main()
