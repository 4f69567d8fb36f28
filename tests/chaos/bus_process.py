"""An event bus in a process of its own, to be stopped, measured and killed: ``python -m tests.chaos.bus_process FOLDER ADDRESS``.

It is built by the service's own wiring and hosted by ``core.rpc.hosting``; the identity lies in ``FOLDER/tls``. A line ``ready`` on its
standard output says that it serves.
"""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from picontroller.core.clock import SystemClock
from picontroller.core.rpc.hosting import Manners, serving, settle, until_signalled
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.rpc.validation import default_validator
from picontroller.core.rpc.wiring import Surroundings
from picontroller.core.tls.identity import IdentityFolder
from picontroller.events.settings import Settings
from picontroller.events.wiring import build
from tests.fakes.authority import FakeAuthority

START_SECONDS = 20.0


async def serve(folder: Path, address: str) -> None:
    """Serve until a signal comes."""
    identity, clock = IdentityFolder(folder / "tls"), SystemClock()
    identity.load()
    surroundings = Surroundings("events", folder / "events", Settings(heartbeat_seconds=1), identity, Mesh(identity, {}), clock)
    async with (
        until_signalled() as stopping,
        build(surroundings) as service,
        serving(service, identity, [address], Manners(default_validator(), clock, grace_seconds=1)),
    ):
        settle()
        print("ready", flush=True)
        await stopping.wait()


class BusProcess:
    """Starts that process, and ends it one way or the other. ``mesh`` speaks to it as whoever is named."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"unix:{folder}/s"
        self.starts = 0
        self._authority = FakeAuthority()
        self._authority.identity(folder / "tls", "svc/events")
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def identity(self, path: str) -> IdentityFolder:
        return self._authority.identity(self.folder / path.replace("/", "-"), path)

    def mesh(self, path: str) -> Mesh:
        return Mesh(self.identity(path), {"events": self.address})

    async def start(self) -> None:
        command = [sys.executable, "-m", "tests.chaos.bus_process", str(self.folder), self.address]
        with (self.folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=log)
        assert self._process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            line = await self._process.stdout.readline()
        assert line == b"ready\n", (self.folder / "log").read_text()[-2000:]
        self.starts += 1

    async def end(self, number: signal.Signals) -> None:
        """Send a signal and wait until the process is gone."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.send_signal(number)
        async with asyncio.timeout(START_SECONDS):
            await self._process.communicate()
        self._process = None

    def resident_bytes(self) -> int:
        """Return the process's resident memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2]))
