"""The agent's verbs: run, join, leave. ``pictl`` uses them, and so does ``python -m picontroller.agent`` where no ``pictl`` is installed.

argparse, because an agent runs for months and should not keep a command line's libraries in memory. ``main`` returns an exit status of
``core.exits``.
"""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from picontroller.agent import joining, supervision
from picontroller.agent.admission import membership, tokens
from picontroller.agent.admission.membership import Membership
from picontroller.agent.admission.roots import join_address, split_address
from picontroller.agent.settings import Settings
from picontroller.core import config, errors, logs
from picontroller.core.clock import SystemClock
from picontroller.core.config import ConfigurationError
from picontroller.core.errors import Error, FailedPrecondition
from picontroller.core.exits import FAILED, INTERRUPTED, WRONG_USAGE, status_of
from picontroller.core.logs import LogSettings
from picontroller.core.tasks import cancel_and_wait

log = logging.getLogger(__name__)

Read = Callable[[Path | None], Mapping[str, Any]]
"""Reads the configuration and returns its sections, ``agent`` and ``log`` among them."""


async def run(settings: Settings, data_dir: Path) -> None:
    """Run the agent until SIGTERM or SIGINT: outputs safe, calls in flight finished, then the end. Prints the address once it serves."""
    from picontroller.agent.wiring import running_agent  # here and below: whoever joins needs no server
    from picontroller.core.rpc.hosting import settle, until_signalled

    clock = SystemClock()
    async with AsyncExitStack() as stack:
        stopping = await stack.enter_async_context(until_signalled(lambda: supervision.notify("STOPPING=1")))
        agent = await stack.enter_async_context(running_agent(settings, data_dir, clock))
        alive = asyncio.create_task(supervision.signs_of_life(lambda: agent.driver.perform(lambda _: None), clock))
        stack.push_async_callback(cancel_and_wait, alive)
        metrics = "" if settings.metrics is None else f", metrics on {_serve_metrics(settings.metrics, stack)}"  # after outputs are safe
        sys.stdout.write(f"agent of node {agent.node_id} serves on {agent.address}{metrics}\n")
        sys.stdout.flush()
        settle()
        supervision.notify("READY=1")
        await stopping.wait()


def _serve_metrics(wanted: str, stack: AsyncExitStack) -> str:
    """Serve metrics on ``HOST:PORT`` until the stack is left and return that with the port that was bound. Raises FailedPrecondition."""
    from picontroller.core.rpc import metrics

    host, _, port = wanted.rpartition(":")
    try:
        bound, server, _ = metrics.serve(host.strip("[]"), int(port))
    except OSError as error:
        raise FailedPrecondition(
            f"metrics can't be served on {wanted}: {error.strerror}; choose another port, or 0 for a free one: [agent] metrics",
            reason="METRICS_ADDRESS_TAKEN",
        ) from error
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    log.info("metrics are served", extra={"address": f"{host}:{bound}"})
    return f"{host}:{bound}"


async def join(address: str, token: str, data_dir: Path) -> Membership:
    """Join the control plane at ``HOST[:PORT]``. See ``joining.join`` for errors."""
    return await joining.join(join_address(*split_address(address)), token, data_dir, SystemClock())


async def leave(data_dir: Path, settings: Settings | None = None, *, force: bool = False) -> Membership | None:
    """Leave the control plane and return what it was; ``settings`` say how outputs are reached. See ``leaving.leave`` for errors."""
    from picontroller.agent import leaving
    from picontroller.agent.gateway import Gateway

    async def unregister(known: Membership) -> None:
        identity = membership.identity_of(data_dir)
        identity.load()
        gateway = Gateway(identity, known.gateway, known.node_id)
        try:
            await gateway.unregister()
        finally:
            await gateway.close()

    async def make_safe() -> None:
        await leaving.make_outputs_safe(data_dir, settings or Settings(), SystemClock())

    return await leaving.leave(data_dir, unregister, make_safe, force=force)


def read_own(path: Path | None) -> Mapping[str, Any]:
    """Return the sections that an agent alone has, from ``path`` or the default file if that exists. Raises ConfigurationError."""
    chosen = path or (config.default_path() if config.default_path().exists() else None)
    return config.load({"agent": Settings, "log": LogSettings}, chosen, os.environ)


def default_data_dir() -> Path:
    """Return where an agent keeps its state when nobody says: a folder of its own, beside a control plane's on the same machine."""
    return config.default_data_dir() / "agent"


def main(arguments: list[str], read: Read = read_own, prog: str = "pictl") -> int:
    """Carry out ``run``, ``join`` or ``leave`` and return the exit status. The verb is the first of ``arguments``."""
    verbs = {"run": _main_run, "join": _main_join, "leave": _main_leave}
    if arguments[:1] in (["-h"], ["--help"]):
        sys.stdout.write(f"usage: {prog} {{{','.join(verbs)}}} ...\n\nEach verb says what it takes: {prog} run --help\n")
        return 0
    if not arguments or arguments[0] not in verbs:
        wanted = f"{arguments[0]!r} is not one of run, join, leave" if arguments else "say one of run, join, leave"
        sys.stderr.write(f"error: {wanted}\nTry: {prog} join --help\n")
        return WRONG_USAGE
    return verbs[arguments[0]](arguments[1:], read, prog)


def _main_run(arguments: list[str], read: Read, prog: str) -> int:
    parser = _parser(f"{prog} agent run" if prog == "pictl" else f"{prog} run", "Run the agent of this machine.")
    parser.add_argument("--listen", metavar="HOST:PORT", help="where to serve; port 0 takes a free one and prints it")
    parser.add_argument("--advertise", metavar="HOST:PORT", help="where the control plane reaches this agent (default: found out)")
    parser.add_argument("--simulate", action="store_true", help="pretend to be a board that exists in software only")
    said = parser.parse_args(arguments)

    async def work(sections: Mapping[str, Any]) -> None:
        await run(_overridden(sections["agent"], said), said.data_dir)

    return _carry_out(said.config, read, work, interrupted=0)


def _main_join(arguments: list[str], read: Read, prog: str) -> int:
    parser = _parser(f"{prog} join", "Join a control plane. A token comes from: pictl token create")
    parser.add_argument("address", metavar="ADDRESS", help="HOST[:PORT] of the gateway")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(tokens.FILE_OPTION, metavar="PATH", help="file with the token, - for standard input")
    source.add_argument(tokens.OPTION, metavar="TOKEN", help="the token itself; others on this machine may see it")
    said = parser.parse_args(arguments)

    async def work(_sections: Mapping[str, Any]) -> None:
        if said.token is not None:
            tokens.hide_token(said.token)
        token = said.token if said.token is not None else tokens.read_token(said.token_file)
        joined = await join(said.address, token, said.data_dir)
        sys.stdout.write(f"joined {joined.gateway} as node {joined.node_id}\n")
        sys.stderr.write(f"Next: {prog} {'agent run' if prog == 'pictl' else 'run'} (or: systemctl enable --now pi-agent)\n")

    return _carry_out(said.config, read, work)


def _main_leave(arguments: list[str], read: Read, prog: str) -> int:
    parser = _parser(f"{prog} leave", "Leave the control plane and forget the identity. Stop the agent first.")
    parser.add_argument("--force", action="store_true", help="go on when outputs can't be made safe or the control plane can't be told")
    parser.add_argument("--simulate", action="store_true", help="the agent's board was simulated: no hardware is touched")
    said = parser.parse_args(arguments)

    async def work(sections: Mapping[str, Any]) -> None:
        settings: Settings = replace(sections["agent"], backend="sim") if said.simulate else sections["agent"]
        left = await leave(said.data_dir, settings, force=said.force)
        was = "a control plane that is not known any more" if left is None else f"{left.gateway}; node {left.node_id} is no more"
        sys.stdout.write(f"left {was}\n")

    return _carry_out(said.config, read, work)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"error: {message}\nTry: {self.prog} --help\n")
        raise SystemExit(WRONG_USAGE)


def _parser(prog: str, summary: str) -> _Parser:
    parser = _Parser(prog=prog, description=summary, allow_abbrev=False)
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration (default: the system's, else the user's, if it exists)")
    parser.add_argument(
        "--data-dir", type=Path, default=default_data_dir(), metavar="DIR", help="where state is kept (default: %(default)s)"
    )
    return parser


def _overridden(settings: Settings, said: argparse.Namespace) -> Settings:
    """Return ``settings`` with what the command line said. Raises ConfigurationError."""
    fields = {name: getattr(settings, name) for name in settings.__slots__}
    fields |= {name: value for name, value in (("listen", said.listen), ("advertise", said.advertise)) if value is not None}
    if said.simulate:
        fields["backend"] = "sim"
    try:
        return Settings(**fields)
    except ValueError as error:
        raise ConfigurationError(str(error), violations=[errors.Violation("command line", str(error))]) from error


def _carry_out(
    path: Path | None, read: Read, work: Callable[[Mapping[str, Any]], Coroutine[Any, Any, None]], *, interrupted: int = INTERRUPTED
) -> int:
    """Read the configuration, set up the log, do the work; an error becomes one line and a status."""
    try:
        sections = read(path)
        logs.configure(sections["log"].level, sections["log"].style)
        asyncio.run(work(sections))
    except KeyboardInterrupt:
        return interrupted
    except ConfigurationError as error:
        for mistake in error.violations:
            sys.stderr.write(f"error: {mistake.field}: {mistake.description}\n")
        return WRONG_USAGE
    except Error as error:
        sys.stderr.write(f"error: {error.message} ({error.reason})\n")
        return status_of(error)
    except OSError as error:
        sys.stderr.write(f"error: {error}\n")
        return FAILED
    return 0
