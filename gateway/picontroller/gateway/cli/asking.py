"""Asking before something is destroyed."""

import sys

import typer

from picontroller.gateway.cli.session import Session


def confirm(session: Session, what: str, command: str) -> None:
    """Ask on a terminal whether to do ``what``; elsewhere, without ``--yes``, end with 2 and the command that does it."""
    if session.yes:
        return
    if not sys.stdin.isatty():
        sys.stderr.write(f"error: this would {what}; say that you mean it\nTry: {command}\n")
        raise typer.Exit(2)
    sys.stderr.write(f"This will {what}. Go on? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        sys.stderr.write("nothing was changed\n")
        raise typer.Exit(1)
