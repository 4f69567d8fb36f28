"""``pictl context``: list, use, add."""

from pathlib import Path
from typing import Annotated

import typer

from picontroller.core import contexts
from picontroller.core.contexts import Context, Contexts
from picontroller.gateway.cli import output

app = typer.Typer(no_args_is_help=True, help="Contexts: which control plane, as whom.")


@app.command("list")
def list_contexts() -> None:
    """List contexts; the current one is starred."""
    known = contexts.load(contexts.default_path())
    if not known.by_name:
        output.note("no contexts; start a control plane with: pictl up")
        return
    rows = [("*" if name == known.current else " ", name, each.server, _proof(each)) for name, each in known.by_name.items()]
    typer.echo(output.table(("", "NAME", "SERVER", "CREDENTIAL"), rows))


@app.command()
def use(name: Annotated[str, typer.Argument(help="name of a context")]) -> None:
    """Make a context the current one."""
    path = contexts.default_path()
    known = contexts.load(path)
    contexts.save(path, Contexts(known.chosen(name).name, known.by_name))


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="name of the context")],
    server: Annotated[str, typer.Option(help="HOST:PORT of the gateway")],
    ca_file: Annotated[Path, typer.Option(help="root certificate of the control plane")],
    token_file: Annotated[Path | None, typer.Option(help="file with an API token")] = None,
    client_cert_file: Annotated[Path | None, typer.Option(help="client certificate")] = None,
    client_key_file: Annotated[Path | None, typer.Option(help="its key")] = None,
) -> None:
    """Add a context, or replace the one of that name."""
    path = contexts.default_path()
    files = [str(each.absolute()) if each else "" for each in (ca_file, client_cert_file, client_key_file, token_file)]
    context = Context(name, server, *files)
    contexts.save(path, contexts.with_context(contexts.load(path), context, make_current=False))


def _proof(context: Context) -> str:
    return context.token_file or context.client_cert_file or "-"
