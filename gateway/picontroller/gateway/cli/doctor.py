"""``pictl doctor``: looks at everything between this machine and a working control plane, and says what to do about what is wrong."""

import importlib.util
import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import typer
from cryptography import x509

from picontroller.core.errors import Error
from picontroller.core.version import version
from picontroller.gateway.cli import output
from picontroller.gateway.cli.output import Format
from picontroller.gateway.cli.session import GATEWAY_NAME, Session
from picontroller.v1 import identity_pb2, identity_pb2_grpc

SOON_DAYS = 10
FIXED_SQLITE = (3, 51, 3)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``fix`` says what to do, empty when nothing has to be done."""

    verdict: Literal["OK", "WARN", "FAIL"]
    what: str
    fix: str = ""


def examine(session: Session) -> None:
    """Print what was found; end with 1 when something fails."""
    findings = [finding for check in (_program, _sqlite, _machine, _credential, _gateway) for finding in _safely(check, session)]
    if session.output in (Format.JSON, Format.JSONL):
        typer.echo(json.dumps([{"verdict": f.verdict, "what": f.what, "fix": f.fix} for f in findings], indent=2))
    else:
        for finding in findings:
            typer.echo(f"{_shown(finding.verdict):4}  {finding.what}" + (f"\n      Try: {finding.fix}" if finding.fix else ""))
    if any(finding.verdict == "FAIL" for finding in findings):
        raise typer.Exit(1)


def _safely(check: Callable[[Session], Iterator[Finding]], session: Session) -> Iterator[Finding]:
    try:
        yield from check(session)
    except Error as error:
        yield Finding("FAIL", error.message, "pictl context list")


def _program(_: Session) -> Iterator[Finding]:
    yield Finding("OK", f"pictl {version()} on Python {sys.version.split()[0]}")
    year = datetime.now(UTC).year
    if year < 2026:
        yield Finding("FAIL", f"the clock says {year}", "set the clock, for example with: timedatectl set-ntp true")


def _sqlite(_: Session) -> Iterator[Finding]:
    if importlib.util.find_spec("apsw") is None:
        yield Finding("WARN", "no SQLite for services here (apsw is not installed); the agent and the command line do not need it")
        return
    import apsw

    found = apsw.sqlite_lib_version()
    if tuple(map(int, found.split("."))) >= FIXED_SQLITE:
        yield Finding("OK", f"SQLite {found} (WAL files are safe with several connections)")
    else:
        yield Finding("FAIL", f"SQLite {found} can corrupt WAL files", "pip install --upgrade apsw")


def _machine(_: Session) -> Iterator[Finding]:
    chips = sorted(Path("/dev").glob("gpiochip*"))
    if not chips:
        yield Finding("OK", "no GPIO chips here (only a Pi has them)")
    elif any(os.access(chip, os.R_OK | os.W_OK) for chip in chips):
        yield Finding("OK", f"{len(chips)} GPIO chips, at least one may be opened")
    else:
        yield Finding("WARN", f"{chips[0]} may not be opened by this user", "sudo usermod -aG gpio $USER, then log in again")


def _credential(session: Session) -> Iterator[Finding]:
    context = session.context
    yield Finding("OK", f"context {context.name}: {context.server}")
    for what, path in (("root certificate", context.ca_file), ("client certificate", context.client_cert_file)):
        if not path:
            continue
        try:
            certificate = x509.load_pem_x509_certificates(Path(path).read_bytes())[0]
        except (OSError, ValueError) as error:
            yield Finding("FAIL", f"{what} {path} can't be read: {error}", "restart `pictl up`, which writes it anew")
            continue
        days = (certificate.not_valid_after_utc - datetime.now(UTC)).days
        verdict: Literal["OK", "WARN", "FAIL"] = "FAIL" if days < 0 else "WARN" if days < SOON_DAYS else "OK"
        fix = "" if verdict == "OK" else "restart `pictl up`, which renews it"
        yield Finding(verdict, f"{what} is valid for {days} days", fix)


def _gateway(session: Session) -> Iterator[Finding]:
    stub = identity_pb2_grpc.IdentityServiceStub(session.channel)
    who = session.call(stub.WhoAmI, identity_pb2.WhoAmIRequest())
    yield Finding("OK", f"the gateway answers, and knows us as {who.spiffe_id} by {who.method}")
    for name, serving in _readiness(session).items():
        if serving:
            yield Finding("OK", f"service {name} is serving")
        else:
            yield Finding("FAIL", f"service {name} does not serve", "look at the log of `pictl up`, or of that service")


def _readiness(session: Session) -> dict[str, bool]:
    """Return ``/readyz``: whether each service serves. The certificate is checked against the pinned root and the gateway's name."""
    trust = ssl.create_default_context(cafile=session.context.ca_file)
    trust.check_hostname = False  # the name that matters is the gateway's own, which gRPC has verified on the same address
    request = urllib.request.Request(f"https://{session.context.server}/readyz", headers={"host": GATEWAY_NAME})
    try:
        with urllib.request.urlopen(request, timeout=session.timeout, context=trust) as answer:  # noqa: S310 - likewise
            body = json.loads(answer.read(65536))
    except urllib.error.HTTPError as error:
        body = json.loads(error.read(65536) or b"{}")
    except (OSError, ValueError):
        return {"gateway (/readyz)": False}
    return {str(name): bool(serving) for name, serving in body.get("services", {}).items()}


def _shown(verdict: str) -> str:
    if not output.coloured():
        return verdict
    return {"OK": "\x1b[32mOK\x1b[0m  ", "WARN": "\x1b[33mWARN\x1b[0m", "FAIL": "\x1b[31mFAIL\x1b[0m"}[verdict]
