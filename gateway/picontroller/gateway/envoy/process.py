"""Envoy's life: found, configured, started, watched, restarted when it dies, stopped without dropping calls.

What is wrong before the start (no program, a taken port) is one error and nothing is started; what happens later is logged and mended.
"""

import asyncio
import contextlib
import importlib.util
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from picontroller.core import tasks
from picontroller.core.clock import Clock
from picontroller.core.errors import FailedPrecondition, Unavailable
from picontroller.core.files import make_private_folder, write_secret
from picontroller.core.tls.identity import IdentityFolder
from picontroller.gateway.envoy import admin, bootstrap, descriptors
from picontroller.gateway.envoy.bootstrap import Edge

log = logging.getLogger(__name__)

FLAGS = ("--concurrency", "1", "--disable-hot-restart", "--drain-time-s", "5", "--log-level", "warning")
LAUNCHER = Path(__file__).with_name("launcher.py")
POLL_SECONDS = 0.02
ROTATION_SECONDS = 10.0
REVOKED_SECONDS = 0.5
TERMINATION_SECONDS = 3.0


def find(configured: Path | None) -> Path:
    """Return Envoy's program: the one configured, the one installed with this Python, or the one in PATH.

    Raises FailedPrecondition with the next step when there is none.
    """
    if configured is not None:
        if not os.access(configured, os.X_OK):
            raise FailedPrecondition(f"{configured} is not a program; correct envoy_file in [gateway]", reason="ENVOY_MISSING")
        return configured
    package = importlib.util.find_spec("envoy")
    for folder in (package.submodule_search_locations or ()) if package else ():
        program = Path(folder) / "_bin" / "envoy"
        if os.access(program, os.X_OK):
            return program
    found = shutil.which("envoy")
    if found is None:
        raise FailedPrecondition("envoy is not installed; run: pip install 'picontroller[gateway]'", reason="ENVOY_MISSING")
    return Path(found)


def bindable(host: str, port: int) -> tuple[str, int]:
    """Return the IP address of ``host``, and ``port`` or a free one when it is 0. Raises OSError naming them when taken or not ours."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            return str(where[0]), int(probe.getsockname()[1])
    except OSError as error:
        raise OSError(f"{host}:{port} can't be bound: {error.strerror or error}; choose another address with --listen") from error


def write_configuration(edge: Edge) -> Path:
    """Write all that Envoy reads beside the descriptors, and return the path of the bootstrap file."""
    folder = edge.descriptors.parent
    make_private_folder(folder)
    for name, content in bootstrap.secrets(edge.identity).items():
        write_secret(folder / name, content)
    write_secret(edge.descriptors, descriptors.descriptor_set())
    write_secret(folder / "envoy.json", bootstrap.render(edge))
    return folder / "envoy.json"


class Envoy:
    """One Envoy that is kept alive. ``restarts`` counts how often it had to be started again."""

    def __init__(self, program: Path, edge: Edge, clock: Clock) -> None:
        self._program = program
        self._edge = edge
        self._clock = clock
        self._configuration = edge.descriptors.parent / "envoy.json"
        self._log = edge.descriptors.parent / "envoy.log"
        self._process: asyncio.subprocess.Process | None = None
        self.restarts = 0

    @property
    def pid(self) -> int:
        """Process id of the running Envoy, 0 when there is none."""
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    async def start(self) -> None:
        """Start Envoy and wait until it takes requests. Raises Unavailable with the last words of its log when it doesn't."""
        self._edge.admin.unlink(missing_ok=True)
        _keep_small(self._log, self._edge.settings.log_bytes)
        arguments = (*FLAGS, "--log-path", str(self._log), "--config-path", str(self._configuration))
        launched = (sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(self._program), *arguments)
        # A session of its own: Ctrl-C reaches us, and we stop Envoy when its callers have been served.
        self._process = await asyncio.create_subprocess_exec(
            *launched, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        deadline = self._clock.monotonic() + self._edge.settings.start_seconds
        while not await admin.is_ready(self._edge.admin):
            if self._process.returncode is not None:
                raise Unavailable(f"envoy ended at its start: {self._last_words()}", reason="ENVOY_FAILED")
            if self._clock.monotonic() > deadline:
                await self._end()
                raise Unavailable(
                    f"envoy was not ready within {self._edge.settings.start_seconds:g} s: {self._last_words()}", reason="ENVOY_FAILED"
                )
            await self._clock.sleep(POLL_SECONDS)
        log.info("envoy is ready", extra={"pid": self._process.pid, "port": self._edge.port})

    async def keep_alive(self) -> None:
        """Start Envoy again whenever it ends. Never returns."""
        failures = 0
        while True:
            if self._process is not None:
                began = self._clock.monotonic()
                status = await self._process.wait()
                failures = 0 if self._clock.monotonic() - began > tasks.STEADY_SECONDS else failures
                log.error("envoy ended and is started again", extra={"status": status, "log": str(self._log)})
            await self._clock.sleep(tasks.next_pause(failures))
            failures += 1
            self.restarts += 1
            try:
                await self.start()
            except (Unavailable, OSError) as error:
                log.error("envoy could not be started", extra={"error": str(error)})
                await self._end()

    async def replace_revoked(self, identity: IdentityFolder) -> None:
        """End Envoy, for ``keep_alive`` to start again, when it has connections with a revoked certificate. Never returns.

        It takes a new certificate from ``identity`` by itself, but for new connections only: those that it has to services would stay
        refused. The last certificate but one may still be that of some.
        """
        presented = [identity.credentials.serial]
        while True:
            await self._clock.sleep(REVOKED_SECONDS)
            if (present := identity.credentials.serial) != presented[-1]:
                presented = [presented[-1], present]
            denied = [identity.denials.denies(f"certificate:{serial}") for serial in presented]
            if any(denied) and not denied[-1]:
                log.warning("envoy is started again because its certificate was revoked", extra={"serial": present})
                presented = [present]
                await self._end()

    async def rotate_log(self) -> None:
        """Begin a new access log whenever the present one is full. Never returns."""
        while True:
            await self._clock.sleep(ROTATION_SECONDS)
            await self.rotate_if_full()

    async def rotate_if_full(self) -> bool:
        """Begin new logs if one is full, and return whether that was so."""
        full = [_keep_small(path, self._edge.settings.log_bytes) for path in (self._edge.access_log, self._log)]
        if any(full):
            await admin.ask(self._edge.admin, "POST", "/reopen_logs")
        return any(full)

    async def stop(self, grace_seconds: float) -> None:
        """Take no new connections, wait up to ``grace_seconds`` for requests in flight, and end."""
        if self.pid:
            with contextlib.suppress(OSError):
                await admin.ask(self._edge.admin, "POST", "/drain_listeners")
                deadline = self._clock.monotonic() + grace_seconds
                while self._clock.monotonic() < deadline:
                    _, text = await admin.ask(self._edge.admin, "GET", "/stats?filter=http.edge.downstream_rq_active&usedonly")
                    if text.strip() in ("", "http.edge.downstream_rq_active: 0"):
                        break
                    await self._clock.sleep(POLL_SECONDS)
        await self._end()

    async def _end(self) -> None:
        if self._process is None:
            return
        for number, patience in ((signal.SIGTERM, TERMINATION_SECONDS), (signal.SIGKILL, TERMINATION_SECONDS)):
            if self._process.returncode is not None:
                return
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._process.wait()

    def _last_words(self) -> str:
        try:
            lines = [line for line in self._log.read_text(errors="replace").splitlines() if "[critical]" in line or "[error]" in line]
        except OSError:
            lines = []
        return f"{lines[-1] if lines else 'it said nothing'} (see {self._log})"


@asynccontextmanager
async def running(edge: Edge, clock: Clock, *, grace_seconds: float) -> AsyncIterator[Envoy]:
    """Run Envoy until the block is left. Raises FailedPrecondition, OSError or Unavailable when it can't be started."""
    envoy = Envoy(find(edge.settings.envoy_file), edge, clock)
    await asyncio.to_thread(write_configuration, edge)
    loop = asyncio.get_running_loop()
    background: list[asyncio.Task[None]] = []
    try:
        await envoy.start()
        background.append(loop.create_task(envoy.keep_alive(), name="gateway: envoy"))
        background.append(loop.create_task(tasks.keep_running("envoy log rotation", envoy.rotate_log, clock), name="gateway: log rotation"))
        yield envoy
    finally:
        await tasks.cancel_and_wait(*background)
        await envoy.stop(grace_seconds)


def _keep_small(path: Path, most: int) -> bool:
    """Move a log that is larger than ``most`` bytes aside, over the one moved before."""
    try:
        if path.stat().st_size < most:
            return False
        path.replace(path.with_name(f"{path.name}.1"))
    except FileNotFoundError:
        return False
    return True
