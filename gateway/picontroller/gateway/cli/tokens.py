"""``pictl token``: create, list, revoke join tokens."""

from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration

from picontroller.gateway.cli import output, times
from picontroller.gateway.cli.output import Column, Format, View
from picontroller.gateway.cli.session import Session
from picontroller.v1 import identity_pb2, identity_pb2_grpc

app = typer.Typer(no_args_is_help=True, help="Join tokens: each lets one Pi join once.")


def state(token: identity_pb2.JoinToken) -> str:
    """Return what became of a token."""
    if token.HasField("use_time"):
        return f"used {times.ago(token.use_time)}"
    return "expired" if times.ago(token.expire_time).endswith("ago") else "unused"


VIEW = View(
    "tokens",
    (
        Column("ID", lambda token: token.id),
        Column("STATE", state),
        Column("EXPIRES", lambda token: times.ago(token.expire_time)),
        Column("FOR", lambda token: token.identity or "a new node"),
        Column("DESCRIPTION", lambda token: token.description),
        Column("USED BY", lambda token: token.used_by, only=Format.WIDE),
    ),
    lambda token: token.id,
)


@app.command()
def create(
    context: typer.Context,
    ttl: Annotated[str, typer.Option(help="how long it works: 90s, 10m, 2h; at most 24h")] = "10m",
    description: Annotated[str, typer.Option(help="for people to remember what it is for")] = "",
    node: Annotated[str, typer.Option(help="id of a node that rejoins under its own identity")] = "",
) -> None:
    """Make a join token. It is shown once, alone on standard output."""
    session: Session = context.obj
    span = Duration()
    span.FromTimedelta(times.duration(ttl))
    request = identity_pb2.CreateJoinTokenRequest(ttl=span, description=description, node_id=node)
    token = session.call(identity_pb2_grpc.IdentityServiceStub(session.channel).CreateJoinToken, request)
    if session.output in (Format.TABLE, Format.WIDE, Format.NAME):
        typer.echo(token.token)
        host = session.context.server.rpartition(":")[0].strip("[]")
        here = host in ("localhost", "::1") or host.startswith("127.")
        # An address that means this machine here would mean the Pi itself there.
        address = "THIS_MACHINE:8443" if here else session.context.server
        output.note(f"It works once, for {ttl}. On the Pi: pictl join {address} --token-file -   (paste it, then Ctrl-D)")
        if here:
            output.note("A Pi reaches this control plane only if `pictl up` was started with --listen 0.0.0.0:8443 --san NAME.")
    else:
        output.show_one(VIEW, token, session.output)


@app.command("list")
def list_tokens(context: typer.Context) -> None:
    """List join tokens, newest first, without their secrets."""
    session: Session = context.obj
    session.refuse_watch("pictl event tail --type 'token.*'")
    stub = identity_pb2_grpc.IdentityServiceStub(session.channel)
    request = identity_pb2.ListJoinTokensRequest(page_size=1000)
    output.show_list(VIEW, session.pages(stub.ListJoinTokens, request, "tokens"), session.output)


@app.command()
def revoke(context: typer.Context, token_id: Annotated[str, typer.Argument(metavar="ID", help="id of the token")]) -> None:
    """Make an unused token worthless."""
    session: Session = context.obj
    stub = identity_pb2_grpc.IdentityServiceStub(session.channel)
    session.call(stub.RevokeJoinToken, identity_pb2.RevokeJoinTokenRequest(id=token_id))
    output.note(f"token {token_id} is revoked")
