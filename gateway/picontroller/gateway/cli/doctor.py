"""``pictl doctor``: looks at everything between this machine and a working control plane, and says what to do about what is wrong."""

import contextlib
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
from cryptography.hazmat.primitives import serialization

from picontroller.core import config
from picontroller.core.errors import Error, FailedPrecondition
from picontroller.core.files import read_secret
from picontroller.core.tls.joining import root_fingerprint
from picontroller.core.version import version
from picontroller.gateway.cli import exits, output
from picontroller.gateway.cli.output import Format
from picontroller.gateway.cli.session import GATEWAY_NAME, Session
from picontroller.gateway.cli.trust import credential, diagnosis
from picontroller.v1 import discovery_pb2, discovery_pb2_grpc, identity_pb2, identity_pb2_grpc

SOON_DAYS = 10
ROOT_SOON_DAYS = 180
FIXED_SQLITE = (3, 51, 3)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``fix`` says what to do, empty when nothing has to be done."""

    verdict: Literal["OK", "WARN", "FAIL"]
    what: str
    fix: str = ""


def examine(session: Session) -> None:
    """Print what was found; end with 1 when something fails."""
    findings = [finding for check in CHECKS for finding in _safely(check, session)]
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
        yield Finding("FAIL", error.message, exits.advice_for(error) if error.reason in exits.ADVICE else "pictl context list")


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
    try:
        roots = x509.load_pem_x509_certificates(Path(context.ca_file).read_bytes())
        days = min((root.not_valid_after_utc - datetime.now(UTC)).days for root in roots)
        yield _aged(f"root certificate ({len(roots)} in {context.ca_file})", days, ROOT_SOON_DAYS, "pictl cert rotate-ca")
    except (OSError, ValueError) as error:
        yield Finding("FAIL", f"root certificate {context.ca_file} can't be read: {error}", exits.ADVICE["ROOT_MISMATCH"])
    if wrong := diagnosis.own_dates(context):
        yield Finding("FAIL", wrong.message, exits.advice_for(wrong))
    elif own := credential.certificate_of(context):
        days = (own.not_after - datetime.now(UTC)).days
        yield _aged(f"your certificate, of /{own.spiffe_id.kind}/{own.spiffe_id.name},", days, SOON_DAYS, "pictl cert renew")


def _aged(what: str, days: int, soon: int, fix: str) -> Finding:
    if days < 0:
        return Finding("FAIL", f"{what} has expired", fix)
    return Finding("WARN", f"{what} ends in {days} days", fix) if days < soon else Finding("OK", f"{what} is valid for {days} days")


def _authority(session: Session) -> Iterator[Finding]:
    """Look at the authority's keys, where this machine has them: the identity service reads them at its start only."""
    places = [config.default_data_dir()]
    with contextlib.suppress(Error):
        places.insert(0, Path(session.context.ca_file).parent.parent)
    for place in dict.fromkeys(places):
        try:
            if not (place / "identity" / "identity.db").exists():
                continue
            missing = list(_lost(place / "identity" / "ca", place / "admin" / "ca.pem"))
        except OSError as error:
            yield Finding(
                "WARN", f"the authority's keys can't be looked at: {error}", "run it as the user that the identity service runs as"
            )
            continue
        if not missing:
            yield Finding("OK", f"the authority's keys are in {place / 'identity' / 'ca'}")
        for each in missing:
            yield Finding(
                "FAIL",
                f"{each}; what runs goes on until its certificates end, and the identity service won't start again",
                f"put {place / 'identity' / 'ca'} back from a backup before its next start; without one, all join a new control plane",
            )


def _lost(keys: Path, roots_file: Path) -> Iterator[str]:
    """Yield what is gone or damaged of the authority's keys. Raises OSError for a folder that this user may not enter."""
    if not keys.is_dir() or not list(keys.iterdir()):
        yield f"the authority's keys are gone: {keys}"
        return
    names = ["token-key.pem"]
    with contextlib.suppress(OSError, ValueError):
        names += [f"root-{root_fingerprint(root)[:8]}.pem" for root in x509.load_pem_x509_certificates(roots_file.read_bytes())]
    for name in names:
        try:
            pem = read_secret(keys / name)
            key = serialization.load_pem_private_key(pem, None)
            start = pem.find(b"-----BEGIN CERTIFICATE-----")
            if start >= 0 and x509.load_pem_x509_certificate(pem[start:]).public_key() != key.public_key():
                yield f"{keys / name} is damaged: its key does not belong to its certificate"
        except FailedPrecondition as error:
            yield f"a key of the authority: {error.message}"
        except (ValueError, TypeError):
            yield f"{keys / name} is damaged: it holds no key"


def _gateway(session: Session) -> Iterator[Finding]:
    stub = identity_pb2_grpc.IdentityServiceStub(session.channel)
    who = session.call(stub.WhoAmI, identity_pb2.WhoAmIRequest())
    yield Finding("OK", f"the gateway answers, and knows us as {who.spiffe_id} by {who.method}")
    trust = credential.trust_told(session, session.timeout)
    if credential.has_just(Path(session.context.ca_file), trust.roots_pem):
        yield Finding("OK", "the CA file has the roots that count")
    else:
        fix = "any command brings it up to date within a minute" if "PICTL_CA_FILE" not in os.environ else exits.ADVICE["ROOT_MISMATCH"]
        yield Finding("WARN", "the control plane's roots are others than those in the CA file: its authority changes", fix)
    for name, serving in _readiness(session).items():
        if serving:
            yield Finding("OK", f"service {name} is serving")
        else:
            yield Finding("FAIL", f"service {name} does not serve", "look at the log of `pictl up`, or of that service")
    yield from _nodes(session)


def _nodes(session: Session) -> Iterator[Finding]:
    """Say which nodes do not hear of revocations, or can't renew their certificates."""
    stub = discovery_pb2_grpc.DiscoveryServiceStub(session.channel)
    for node in session.pages(stub.ListNodes, discovery_pb2.ListNodesRequest(page_size=1000), "nodes"):
        for problem in node.problems:
            if problem.startswith(("TRUST_", "CERTIFICATE_")):
                yield Finding("WARN", f"node {node.hostname} ({node.id}): {problem}", "look at the log of its agent")


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


CHECKS = (_program, _sqlite, _machine, _credential, _authority, _gateway)


def _shown(verdict: str) -> str:
    if not output.coloured():
        return verdict
    return {"OK": "\x1b[32mOK\x1b[0m  ", "WARN": "\x1b[33mWARN\x1b[0m", "FAIL": "\x1b[31mFAIL\x1b[0m"}[verdict]
