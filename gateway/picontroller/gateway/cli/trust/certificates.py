"""``pictl cert``: list, renew, revoke, authority, rotate-ca."""

import time
from collections.abc import Sequence
from typing import Annotated

import typer

from picontroller.core.errors import Error, NotFound
from picontroller.gateway.cli import asking, output, times
from picontroller.gateway.cli.output import Column, Format, View
from picontroller.gateway.cli.session import Session
from picontroller.gateway.cli.trust import credential, rotating
from picontroller.gateway.cli.trust.rotating import Step
from picontroller.v1 import identity_pb2, identity_pb2_grpc, trust_pb2

app = typer.Typer(no_args_is_help=True, help="Certificates: who has which, renewing and revoking them, and the authority behind them.")

STATES = ("good", "expired", "revoked")
STEPS = {name.lower(): number for name, number in Step.Value.items() if number}
SHORT_ROOT = 8


def state(certificate: identity_pb2.Certificate) -> str:
    """Return what a certificate is worth."""
    if certificate.HasField("revoke_time"):
        return "revoked"
    return "expired" if certificate.expire_time.ToSeconds() <= time.time() else "good"


VIEW = View(
    "certificates",
    (
        Column("IDENTITY", lambda each: _path(each.spiffe_id)),
        Column("SERIAL", lambda each: each.serial),
        Column("EXPIRES", lambda each: times.ago(each.expire_time)),
        Column("STATE", state),
        Column("ROOT", lambda each: each.root[:SHORT_ROOT], only=Format.TABLE),
        Column("ROOT", lambda each: each.root, only=Format.WIDE),
        Column("REVOKED", lambda each: times.ago(each.revoke_time), only=Format.WIDE),
        Column("REASON", lambda each: each.revoke_reason, only=Format.WIDE),
    ),
    lambda each: each.serial,
)
MEMBERS = (
    Column("MEMBER", lambda row: _path(row[1].spiffe_id)),
    Column("IS", lambda row: row[0]),
    Column("BELIEVES", lambda row: f"version {row[1].trust_version}" if row[1].trust_version else "-"),
    Column("ROOT", lambda row: row[1].root[:SHORT_ROOT]),
    Column("SEEN", lambda row: times.ago(row[1].last_seen)),
)


@app.command("list")
def list_certificates(
    context: typer.Context,
    identity: Annotated[str, typer.Option(help="only of this identity: /node/ID, /user/NAME, /svc/NAME, /gateway")] = "",
    wanted: Annotated[str, typer.Option("--state", help="only good, expired or revoked ones")] = "",
) -> None:
    """List certificates that were issued, newest first."""
    session: Session = context.obj
    session.refuse_watch("pictl event tail --type 'certificate.*'")
    if wanted and wanted not in STATES:
        raise typer.BadParameter(f"a state is one of {', '.join(STATES)}, not {wanted!r}")
    found = [each for each in _issued(session) if identity in ("", _path(each.spiffe_id)) and wanted in ("", state(each))]
    output.show_list(VIEW, found, session.output)


@app.command()
def renew(context: typer.Context) -> None:
    """Renew the certificate of the context in use, with a fresh key, in its own files."""
    session: Session = context.obj
    fresh = credential.renew(session)
    path = f"/{fresh.spiffe_id.kind}/{fresh.spiffe_id.name}"
    output.note(f"the certificate of {path} is renewed: {session.context.client_cert_file} (serial {fresh.serial})")
    typer.echo(f"{fresh.not_after:%Y-%m-%dT%H:%M:%SZ}")


@app.command()
def revoke(
    context: typer.Context,
    serial: Annotated[str, typer.Argument(metavar="[SERIAL]", help="of the certificate, as in pictl cert list")] = "",
    identity: Annotated[str, typer.Option(help="instead: all that an identity has, API tokens too: /node/ID, /user/NAME, /svc/NAME")] = "",
    reason: Annotated[str, typer.Option(help="why, for people")] = "",
    may_return: Annotated[bool, typer.Option("--may-return", help="of an identity: a fresh token lets it in again")] = False,
) -> None:
    """Make a certificate, or all that an identity has, worthless everywhere within seconds. There is no way back.

    pictl cert revoke 5f3a…c1 --reason "laptop stolen"

    pictl cert revoke --identity /node/6f1d2c3b-0a4e-4f6d-9a51-2b7c8d9e0f11
    """
    session: Session = context.obj
    if bool(serial) == bool(identity):
        raise typer.BadParameter("give a serial number or --identity, one of them")
    if may_return and serial:
        raise typer.BadParameter("--may-return goes with --identity")
    what = f"revoke all that {identity} has" if identity else f"revoke certificate {serial} of {_owner(session, serial)}"
    if identity and not may_return:
        what += " and keep that identity out for good"
    if _is_own(session, serial, identity):
        what += ", which is YOUR OWN: you will be refused from then on"
    asking.confirm(session, what, _again(serial, identity, reason, may_return=may_return))
    if identity:
        request = trust_pb2.RevokeCertificateRequest(identity=identity, reason=reason, may_return=may_return)
    else:
        request = trust_pb2.RevokeCertificateRequest(serial=serial, reason=reason)
    revoked = session.call(identity_pb2_grpc.IdentityServiceStub(session.channel).RevokeCertificate, request)
    for each in revoked.serials:
        typer.echo(f"certificates/{each}")
    for each in revoked.api_tokens:
        typer.echo(f"api_tokens/{each}")
    if not revoked.serials and not revoked.api_tokens:
        output.note("nothing was left to revoke")


@app.command()
def authority(context: typer.Context) -> None:
    """Show where the authority is on its way to a new root, and who is behind."""
    session: Session = context.obj
    _show(session, rotating.authority(session))


@app.command("rotate-ca")
def rotate_ca(
    context: typer.Context,
    step: Annotated[str, typer.Option(help=f"take this step only: {', '.join(STEPS)}")] = "",
    force: Annotated[bool, typer.Option("--force", help="with --step: cut off members that are behind; they must join again")] = False,
    patience: Annotated[str, typer.Option("--wait", help="how long to wait for members in all: 90s, 10m, 2h")] = "10m",
) -> None:
    """Replace the root of all trust, without a failed call. Goes on wherever it was stopped; all steps may be repeated.

    prepare: members learn a new root. activate: it is used. retire: everybody renews. finish: the old root is dropped.
    abandon, after prepare only: the new root is forgotten.
    """
    session: Session = context.obj
    if step and step not in STEPS:
        raise typer.BadParameter(f"a step is one of {', '.join(STEPS)}, not {step!r}")
    if force and not step:
        raise typer.BadParameter("--force goes with --step: nobody should be cut off by a step that they never saw")
    if step:
        cut = " and cut off whoever is behind" if force else ""
        asking.confirm(session, f"{step} the new root{cut}", f"pictl cert rotate-ca --step {step}{' --force' if force else ''} --yes")
        _show(session, rotating.take(session, STEPS[step], force=force))
        return
    seconds = times.duration(patience).total_seconds()
    asking.confirm(session, "replace the root of all trust", "pictl cert rotate-ca --yes")
    try:
        _show(session, rotating.drive(session, seconds, lambda absent: _confirm_end(session, absent)))
    except KeyboardInterrupt:
        output.note("stopped; what was done stays. To go on: pictl cert rotate-ca. To see where it is: pictl cert authority")
        output.note("As long as that says PREPARED, this takes it back: pictl cert rotate-ca --step abandon")
        raise


def _confirm_end(session: Session, absent: Sequence[trust_pb2.Straggler]) -> None:
    if absent:
        output.note(f"switched off, with certificates of the old root: {rotating.named(absent)}; they will need a fresh join token")
        asking.confirm(session, f"drop the old root, and {len(absent)} members with it", "pictl cert rotate-ca --yes")


def _show(session: Session, found: trust_pb2.Authority) -> None:
    if session.output is Format.NAME:
        typer.echo(f"authorities/{found.active_root}")
        return
    if session.output not in (Format.TABLE, Format.WIDE):
        output.show_one(VIEW, found, session.output)
        return
    typer.echo(f"state         {rotating.state_name(found.state)}")
    typer.echo(f"active root   {found.active_root}")
    for root in found.roots:
        if root != found.active_root:
            typer.echo(f"other root    {root}")
    typer.echo(f"trust bundle  version {found.trust_version}")
    rows = [("behind", each) for each in found.stragglers] + [("absent", each) for each in found.absent]
    if rows and found.state != trust_pb2.AuthorityState.STABLE:  # nobody is in the way of anything then
        typer.echo("\n" + output.table([each.heading for each in MEMBERS], [[each.text(row) for each in MEMBERS] for row in rows]))


def _issued(session: Session) -> list[identity_pb2.Certificate]:
    stub = identity_pb2_grpc.IdentityServiceStub(session.channel)
    return session.pages(stub.ListCertificates, identity_pb2.ListCertificatesRequest(page_size=1000), "certificates")


def _owner(session: Session, serial: str) -> str:
    """Return whose certificate it is. Raises NotFound."""
    for each in _issued(session):
        if each.serial == serial:
            return _path(each.spiffe_id)
    raise NotFound(f"there is no certificate {serial}; pictl cert list has them", reason="CERTIFICATE_UNKNOWN")


def _is_own(session: Session, serial: str, identity: str) -> bool:
    if identity:
        stub = identity_pb2_grpc.IdentityServiceStub(session.channel)
        return _path(session.call(stub.WhoAmI, identity_pb2.WhoAmIRequest()).spiffe_id) == identity
    try:
        own = credential.certificate_of(session.context)
    except Error:
        return False
    return own is not None and own.serial == serial


def _again(serial: str, identity: str, reason: str, *, may_return: bool) -> str:
    target = f"--identity {identity}" if identity else serial
    return f"pictl cert revoke {target}{' --reason …' if reason else ''}{' --may-return' if may_return else ''} --yes"


def _path(spiffe_id: str) -> str:
    return "/" + spiffe_id.partition("://")[2].partition("/")[2]
