"""The command line's tree of verbs, and the options that may stand anywhere on the line."""

from importlib.metadata import entry_points
from typing import Annotated

import typer

from picontroller.core.version import version as installed
from picontroller.gateway.cli import contexts, doctor, events, gpio, nodes, output, tokens
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
    """Fleets of Raspberry Pis as Kubernetes clusters whose pins anyone may use safely."""
    context.obj = Session(chosen, context_name, server, timeout, yes, watch)


app.add_typer(nodes.app, name="node")
app.add_typer(gpio.app, name="gpio")
app.add_typer(events.app, name="event")
app.add_typer(tokens.app, name="token")
app.add_typer(contexts.app, name="context")
app.command("doctor")(doctor.doctor)


@app.command()
def version(context: typer.Context) -> None:
    """Print the version."""
    session: Session = context.obj
    typer.echo(f'{{"version": "{installed()}"}}' if session.output in (Format.JSON, Format.JSONL) else f"pictl {installed()}")


def _process_verb(name: str) -> None:
    """Add a process verb to the help; running it never comes here (see ``__main__``)."""

    @app.command(name, help=SUMMARIES.get(name, ""), rich_help_panel="Processes", add_help_option=False)
    def run() -> None:
        output.note(f"pictl {name} must be the first word")
        raise typer.Exit(2)


for _entry in entry_points(group=PROCESS_GROUP):
    _process_verb(_entry.name)
