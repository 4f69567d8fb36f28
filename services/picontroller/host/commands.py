"""The process entries of ``pictl``: up, serve, agent, join, leave, config.

They are found by entry point and use argparse, so that a process that runs for months does not keep a command line's libraries in memory.
Each takes its arguments and returns an exit status. What a verb needs is imported by that verb: on a Pi there are no services' libraries.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn

from picontroller.core import config as configuration_files
from picontroller.core import logs
from picontroller.core.config import ConfigurationError
from picontroller.core.errors import Error
from picontroller.core.exits import DONE, FAILED, INTERRUPTED, WRONG_USAGE, status_of
from picontroller.host import configuration
from picontroller.host.services import GATEWAY_PORT, SERVICES, sections


class _Parser(argparse.ArgumentParser):
    """argparse that ends with our wording of the next step."""

    def error(self, message: str) -> NoReturn:
        """Print one line and the next step, and end with 2."""
        sys.stderr.write(f"error: {message}\nTry: {self.prog} --help\n")
        raise SystemExit(WRONG_USAGE)


def _parser(verb: str, summary: str) -> _Parser:
    parser = _Parser(prog=f"pictl {verb}", description=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration (default: the system's, else the user's, if it exists)")
    return parser


def _data_dir(parser: argparse.ArgumentParser) -> None:
    default = configuration_files.default_data_dir()
    parser.add_argument("--data-dir", type=Path, default=default, metavar="DIR", help="where state is kept (default: %(default)s)")


def explain(error: BaseException) -> str:
    """Return what a person needs to know of an error that ended a process: one line."""
    if isinstance(error, BaseExceptionGroup):
        return explain(error.exceptions[0])
    if isinstance(error, Error):
        return error.message
    return str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"


def fail(error: BaseException) -> int:
    """Print why a process ended, one line a mistake, and return the exit status."""
    if isinstance(error, ConfigurationError):
        for violation in error.violations:
            sys.stderr.write(f"error: {violation.field}: {violation.description}\n")
        sys.stderr.write("Try: pictl config default\n")
        return WRONG_USAGE
    sys.stderr.write(f"error: {explain(error)}\n")
    return status_of(error) if isinstance(error, Error) else FAILED


def _run(path: Path | None, work: Callable[[dict[str, Any]], Coroutine[Any, Any, None]]) -> int:
    """Read the configuration, set up the log, and run ``work``; errors become one line."""
    try:
        sections = configuration.read(path)
        logs.configure(sections["log"].level, sections["log"].style)
        asyncio.run(work(sections))
    except (Error, OSError, BaseExceptionGroup) as error:
        return fail(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    return DONE


def up(arguments: list[str]) -> int:
    """Run the whole control plane in this process."""
    from picontroller.host.banner import show
    from picontroller.host.embedded import Up
    from picontroller.host.embedded import up as run_up

    parser = _parser("up", "Run the whole control plane in this process, with Envoy as its child. Ctrl-C drains and stops it.")
    _data_dir(parser)
    parser.add_argument("--listen", default=f"127.0.0.1:{GATEWAY_PORT}", metavar="HOST:PORT", help="gateway address (default: %(default)s)")
    parser.add_argument("--simulate", type=int, default=0, metavar="N", help="add N agents with simulated hardware")
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help="write a JSON object there when all is healthy")
    parser.add_argument("--san", action="append", default=[], metavar="NAME", help="further name or address of the gateway; repeatable")
    said = parser.parse_args(arguments)
    _check_address(parser, said.listen)
    if not 0 <= said.simulate <= 200:
        parser.error(f"--simulate takes 0 to 200, not {said.simulate}")
    wanted = Up(said.listen, said.data_dir, said.config, said.simulate, said.ready_file, said.san)
    return _run(said.config, lambda sections: run_up(wanted, sections, show))


def serve(arguments: list[str]) -> int:
    """Run one service in this process."""
    from picontroller.host.alone import Alone
    from picontroller.host.alone import serve as run_alone

    parser = _parser("serve", "Run one service in this process.")
    parser.add_argument("name", choices=[*SERVICES, "gateway"], help="which service")
    _data_dir(parser)
    parser.add_argument("--listen", default="", metavar="HOST:PORT", help="address to serve on; port 0 takes a free one and prints it")
    parser.add_argument("--san", action="append", default=[], metavar="NAME", help="further name or address of the gateway; repeatable")
    said = parser.parse_args(arguments)
    if said.listen and not said.listen.startswith("unix:"):
        _check_address(parser, said.listen)
    wanted = Alone(said.name, said.listen, said.data_dir, said.config, said.san)
    return _run(said.config, lambda sections: run_alone(wanted, sections))


def serve_main(name: str) -> NoReturn:
    """Run one service as ``python -m picontroller.<name>``."""
    raise SystemExit(serve([name, *sys.argv[1:]]))


def agent(arguments: list[str]) -> int:
    """Run the node agent of this machine: ``pictl agent run``."""
    from picontroller.agent import commands

    if arguments[:1] in (["-h"], ["--help"]):
        arguments = ["run", "--help"]  # the only verb: its help is all there is
    if arguments[:1] != ["run"]:
        sys.stderr.write("error: the agent's verb is run\nTry: pictl agent run --help\n")
        return WRONG_USAGE
    return commands.main(arguments, configuration.read)


def join(arguments: list[str]) -> int:
    """Join this machine to a control plane."""
    from picontroller.agent import commands

    return commands.main(["join", *arguments], configuration.read)


def leave(arguments: list[str]) -> int:
    """Take this machine out of its control plane."""
    from picontroller.agent import commands

    return commands.main(["leave", *arguments], configuration.read)


def config(arguments: list[str]) -> int:
    """Check, document or show the configuration."""
    parser = _parser("config", "check: say whether the configuration is good. default: print all settings. show: print those in force.")
    parser.add_argument("verb", choices=["check", "default", "show"])
    said = parser.parse_args(arguments)
    try:
        if said.verb == "default":
            defaults = {name: kind() for name, kind in sections().items()}
            sys.stdout.write(configuration_files.render(defaults, comments=True))
            return DONE
        in_force = configuration.read(said.config)
    except Error as error:
        return fail(error)
    if said.verb == "show":
        sys.stdout.write(configuration_files.render(in_force, comments=False))
    else:
        sys.stderr.write("the configuration is good\n")
    return DONE


def _check_address(parser: argparse.ArgumentParser, text: str) -> None:
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isdigit() or int(port) > 65535:
        parser.error(f"--listen takes HOST:PORT, not {text!r}")
