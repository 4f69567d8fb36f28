"""`python -m tests.real.pi3b [PORT …] [--wheel PATH] [--require REQUIREMENT]`: an emulated Pi until Ctrl-C, its ports forwarded."""

import argparse
import signal
from pathlib import Path

from tests.real.pi3b import image, wheels
from tests.real.pi3b.guest import PiGuest
from tests.real.pi3b.image import ImageSpec
from tests.real.pi3b.machine import GUEST_ADDRESS


def main() -> None:
    """Boot, say where, wait."""
    parser = argparse.ArgumentParser(prog="python -m tests.real.pi3b", description="an emulated Raspberry Pi 3 B until Ctrl-C")
    parser.add_argument("ports", type=int, nargs="*", help="ports of the guest to forward")
    parser.add_argument("--wheel", type=Path, action="append", default=[], help="a local wheel; what it requires is added")
    parser.add_argument("--extra", action="append", default=[], help="an extra of the local wheels")
    parser.add_argument("--require", action="append", default=["gpiod>=2.2,<3"], help="a third-party requirement")
    parser.add_argument("--command", help="what to run in the guest, its log shown at the end")
    chosen = parser.parse_args()
    required = {*chosen.require, *(text for wheel in chosen.wheel for text in wheels.requirements_of(wheel, chosen.extra))}
    with PiGuest(image.build(ImageSpec(tuple(sorted(required)), tuple(chosen.wheel))), chosen.ports) as guest:
        print(f"ready after {guest.boot_seconds:.1f} s, QEMU's process id {guest.pid}; Ctrl-C ends it")
        for theirs in chosen.ports:
            print(f"{GUEST_ADDRESS}:{theirs} is {guest.address(theirs)}")
        process = guest.start(chosen.command, "/var/log/command") if chosen.command else None
        try:
            signal.pause()
        except KeyboardInterrupt:
            print(process.text() if process else guest.console)


if __name__ == "__main__":
    main()
