"""The command line's tree of verbs, and the options that may stand anywhere on the line.

Only the noun that is used is imported: gRPC and the messages cost more than the rest of a command together.
"""

import os
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points
from typing import Annotated

import typer

from picontroller.core.version import version as installed
from picontroller.gateway.cli import output
from picontroller.gateway.cli.output import Format
from picontroller.gateway.cli.session import DEFAULT_TIMEOUT_SECONDS, Session

PROCESS_GROUP = "picontroller.commands"
SUMMARIES = {
    "up": "Run the whole control plane in this process (--simulate N adds simulated Pis).",
    "serve": "Run one service in this process.",
    "agent": "Run the node agent: agent run.",
    "join": "Join this machine to a control plane.",
    "leave": "Take this machine out of its control plane.",
    "config": "Check, document or show the configuration.",
}
NOUNS = {
    "node": ("nodes", "Nodes: the Pis that joined."),
    "gpio": ("gpio", "GPIO resources: lines in use, what they should be, what they are."),
    "event": ("events", "Events: what happened, in order."),
    "token": ("trust.tokens", "Tokens: join tokens let one Pi join once, API tokens let programs call."),
    "cert": ("trust.certificates", "Certificates: who has which, renewing and revoking them, and the authority behind them."),
    "audit": ("audit.commands", "The audit log: who did what, and who was refused."),
    "context": ("contexts", "Contexts: which control plane, as whom."),
}

app = typer.Typer(
    name="pictl",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Options of this page may stand anywhere on the line.",
)


@app.callback()
def root(
    context: typer.Context,
    chosen: Annotated[Format, typer.Option("-o", "--output", help="how results are shown")] = Format.TABLE,
    context_name: Annotated[str, typer.Option("--context", envvar="PICTL_CONTEXT", help="control plane to talk to")] = "",
    server: Annotated[str, typer.Option(envvar="PICTL_SERVER", help="its gateway, HOST:PORT, instead of the context's")] = "",
    timeout: Annotated[float, typer.Option(min=0.1, max=3600, help="seconds to wait for an answer")] = DEFAULT_TIMEOUT_SECONDS,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="keep showing changes of a list")] = False,
) -> None:
    """Fleets of Raspberry Pis whose pins anyone may use safely."""
    context.obj = session = Session(chosen, context_name, server, timeout, yes, watch)
    context.call_on_close(lambda: _follow(session))


@app.command()
def version(context: typer.Context) -> None:
    """Print the version."""
    session: Session = context.obj
    typer.echo(f'{{"version": "{installed()}"}}' if session.output in (Format.JSON, Format.JSONL) else f"pictl {installed()}")


@app.command()
def doctor(context: typer.Context) -> None:
    """Check this machine, its credential and the control plane; exits with 1 when something fails."""
    import_module("picontroller.gateway.cli.doctor").examine(context.obj)


def _follow(session: Session) -> None:
    """After a call that went well, see to it that the context's roots, and its certificate, outlive a rotation of the authority."""
    if not session.answered or "PICTL_CA_FILE" in os.environ:
        return
    from picontroller.core.errors import Error
    from picontroller.gateway.cli.trust import credential

    try:
        for done in credential.follow(session):
            output.note(done)
    except (Error, OSError):  # another time: this is nothing that was asked for
        pass


def complete(arguments: Sequence[str]) -> typer.Typer:
    """Return the app with the verbs of the noun in ``arguments``, or of all nouns for the shell's completion."""
    everything = "_PICTL_COMPLETE" in os.environ
    for noun, (module, text) in NOUNS.items():
        used = everything or noun in arguments
        verbs = import_module(f"picontroller.gateway.cli.{module}").app if used else typer.Typer()
        app.add_typer(verbs, name=noun, help=text)
    for entry in entry_points(group=PROCESS_GROUP):
        _process_verb(entry.name)
    return app


def _process_verb(name: str) -> None:
    """Add a process verb to the help; running it never comes here (see ``__main__``)."""

    @app.command(name, help=SUMMARIES.get(name, ""), rich_help_panel="Processes", add_help_option=False)
    def run() -> None:
        output.note(f"pictl {name} must be the first word")
        raise typer.Exit(2)
