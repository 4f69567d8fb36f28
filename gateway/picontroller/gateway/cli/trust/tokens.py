"""``pictl token``: create, list, revoke join tokens, and with ``--api`` API tokens."""

import re
from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration

from picontroller.gateway.cli import output, times
from picontroller.gateway.cli.output import Column, Format, View
from picontroller.gateway.cli.session import Session
from picontroller.v1 import identity_pb2, identity_pb2_grpc, options_pb2

app = typer.Typer(no_args_is_help=True, help="Join tokens let one Pi join once; API tokens let programs and people call.")

ROLES = ("cluster-admin", "gpio-operator", "monitor")
JOIN_TTL, API_TTL = "10m", "24h"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Api = Annotated[bool, typer.Option("--api", help="API tokens instead of join tokens")]


def state(token: identity_pb2.JoinToken) -> str:
    """Return what became of a join token."""
    if token.HasField("use_time"):
        return f"used {times.ago(token.use_time)}"
    return "expired" if times.ago(token.expire_time).endswith("ago") else "unused"


def api_state(token: identity_pb2.ApiToken) -> str:
    """Return what an API token is worth."""
    if token.HasField("revoke_time"):
        return "revoked"
    return "expired" if times.ago(token.expire_time).endswith("ago") else "good"


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
API_VIEW = View(
    "api_tokens",
    (
        Column("ID", lambda token: token.id),
        Column("SUBJECT", lambda token: f"/user/{token.subject}"),
        Column("ROLES", lambda token: ", ".join(_role_name(role) for role in token.roles)),
        Column("STATE", api_state),
        Column("EXPIRES", lambda token: times.ago(token.expire_time)),
        Column("MADE", lambda token: times.ago(token.create_time), only=Format.WIDE),
        Column("REVOKED", lambda token: times.ago(token.revoke_time), only=Format.WIDE),
    ),
    lambda token: token.id,
)


@app.command()
def create(
    context: typer.Context,
    api: Annotated[bool, typer.Option("--api", help="an API token, for a program or a person")] = False,
    ttl: Annotated[str, typer.Option(help="how long it works: 90s, 10m, 2h, 30d  [10m, at most 24h; --api: 24h, at most 366d]")] = "",
    subject: Annotated[str, typer.Option(help="--api: who its bearer will be: /user/NAME, or just NAME")] = "",
    role: Annotated[list[str] | None, typer.Option(help=f"--api: what it may do: {', '.join(ROLES)}; repeatable")] = None,
    description: Annotated[str, typer.Option(help="join token: for people to remember what it is for")] = "",
    node: Annotated[str, typer.Option(help="join token: id of a node that rejoins under its own identity")] = "",
) -> None:
    """Make a token. It is shown once, alone on standard output.

    pictl token create --ttl 30m --description kitchen

    pictl token create --api --subject grafana --role monitor --ttl 30d
    """
    session: Session = context.obj
    if api:
        if description or node:
            raise typer.BadParameter("--description and --node are for join tokens, without --api")
        _create_api(session, subject.removeprefix("/user/"), role or [], ttl or API_TTL)
        return
    if subject or role:
        raise typer.BadParameter("--subject and --role are for API tokens: add --api")
    _create_join(session, ttl or JOIN_TTL, description, node)


@app.command("list")
def list_tokens(context: typer.Context, api: Api = False) -> None:
    """List tokens, newest first, without their secrets."""
    session: Session = context.obj
    session.refuse_watch(f"pictl event tail --type '{'api_token' if api else 'token'}.*'")
    stub = identity_pb2_grpc.IdentityServiceStub(session.channel)
    if api:
        listed = session.pages(stub.ListApiTokens, identity_pb2.ListApiTokensRequest(page_size=1000), "api_tokens")
        output.show_list(API_VIEW, listed, session.output)
    else:
        listed = session.pages(stub.ListJoinTokens, identity_pb2.ListJoinTokensRequest(page_size=1000), "tokens")
        output.show_list(VIEW, listed, session.output)


@app.command()
def revoke(
    context: typer.Context,
    token_id: Annotated[str, typer.Argument(metavar="ID", help="id of the token; that of an API token has five groups with dashes")],
    api: Api = False,
) -> None:
    """Make a token worthless: a join token that was not used, or an API token, everywhere within seconds.

    pictl token revoke k3v9x2mq

    pictl token revoke --api 1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed
    """
    session: Session = context.obj
    stub = identity_pb2_grpc.IdentityServiceStub(session.channel)
    if api or _UUID.fullmatch(token_id):
        session.call(stub.RevokeApiToken, identity_pb2.RevokeApiTokenRequest(id=token_id))
    else:
        session.call(stub.RevokeJoinToken, identity_pb2.RevokeJoinTokenRequest(id=token_id))
    output.note(f"token {token_id} is revoked")


def _create_join(session: Session, ttl: str, description: str, node: str) -> None:
    request = identity_pb2.CreateJoinTokenRequest(ttl=_span(ttl), description=description, node_id=node)
    token = session.call(identity_pb2_grpc.IdentityServiceStub(session.channel).CreateJoinToken, request)
    if session.output not in (Format.TABLE, Format.WIDE, Format.NAME):
        output.show_one(VIEW, token, session.output)
        return
    typer.echo(token.token)
    host = session.context.server.rpartition(":")[0].strip("[]")
    here = host in ("localhost", "::1") or host.startswith("127.")
    # An address that means this machine here would mean the Pi itself there.
    address = "THIS_MACHINE:8443" if here else session.context.server
    output.note(f"It works once, for {ttl}. On the Pi: pictl join {address} --token-file -   (paste it, then Ctrl-D)")
    if here:
        output.note("A Pi reaches this control plane only if `pictl up` was started with --listen 0.0.0.0:8443 --san NAME.")


def _create_api(session: Session, subject: str, roles: list[str], ttl: str) -> None:
    if not subject or not roles:
        raise typer.BadParameter("an API token needs --subject NAME and at least one --role")
    request = identity_pb2.CreateApiTokenRequest(subject=subject, roles=[_role_from(role) for role in roles], ttl=_span(ttl))
    token = session.call(identity_pb2_grpc.IdentityServiceStub(session.channel).CreateApiToken, request)
    if session.output not in (Format.TABLE, Format.WIDE, Format.NAME):
        output.show_one(API_VIEW, token, session.output)
        return
    typer.echo(token.token)
    output.note(f"It works for {ttl}, as /user/{token.subject}. Keep it in a file with mode 0600: PICTL_TOKEN_FILE, or pictl context add")
    output.note(f"To take it back: pictl token revoke --api {token.id}")


def _span(text: str) -> Duration:
    span = Duration()
    span.FromTimedelta(times.duration(text))
    return span


def _role_from(text: str) -> options_pb2.Role.Value.ValueType:
    if text not in ROLES:
        raise typer.BadParameter(f"a role is one of {', '.join(ROLES)}, not {text!r}")
    return options_pb2.Role.Value.Value(text.upper().replace("-", "_"))


def _role_name(role: options_pb2.Role.Value.ValueType) -> str:
    known = options_pb2.Role.DESCRIPTOR.enum_types_by_name["Value"].values_by_number.get(role)
    return known.name.lower().replace("_", "-") if known else str(role)
