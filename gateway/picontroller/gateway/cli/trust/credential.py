"""The user's own certificate and the roots that the command line believes: files that a context names.

Key and certificate are two files. A new pair is complete on disk beside the old one (``.new``) before the first of two renames, so that
wherever a renewal is stopped, the next command finishes it: nobody is locked out by a crash.
"""

import fcntl
import os
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from picontroller.core.contexts import Context
from picontroller.core.errors import DeadlineExceeded, FailedPrecondition, Unavailable
from picontroller.core.files import read_secret, sync_folder, write_atomically, write_secret

if TYPE_CHECKING:
    from picontroller.core.rpc.renewal import Issued
    from picontroller.core.tls.identity import Credentials, Trust
    from picontroller.gateway.cli.session import Session

ATTEMPTS = 3
FRESH_SECONDS = 60.0
FOLLOW_SECONDS = 2.0
WRITER_SECONDS = 1.0
LOOK_SECONDS = 0.05


def load_pair(context: Context) -> tuple[bytes, bytes]:
    """Return the key and the chain of a context's client certificate in PEM, after finishing a renewal that was stopped half way.

    Raises FailedPrecondition for files that are missing, readable by others, or do not belong together.
    """
    key_path, chain_path = Path(context.client_key_file), Path(context.client_cert_file)
    finish(key_path, chain_path)
    deadline = time.monotonic() + WRITER_SECONDS
    while True:
        key, chain = read_secret(key_path), _read(chain_path)
        if _belong_together(key_path, chain_path) and key == key_path.read_bytes() and chain == _read(chain_path):
            return key, chain
        if time.monotonic() > deadline:  # the control plane on this machine may be just between the two
            raise FailedPrecondition(
                f"the key {key_path} and the certificate {chain_path} do not belong together; the identity service on the control"
                " plane's machine makes the admin's anew within the hour and at its start; of any other, copy both files again",
                reason="CREDENTIAL_DAMAGED",
            )
        time.sleep(LOOK_SECONDS)


def store_pair(key_path: Path, chain_path: Path, key_pem: bytes, chain_pem: bytes) -> None:
    """Replace a key and its certificate, both with mode 0600, so that whatever happens one whole pair can be found."""
    with _alone(key_path):
        write_secret(_coming(key_path), key_pem)
        write_secret(_coming(chain_path), chain_pem)
        _take_over(key_path, chain_path)


def finish(key_path: Path, chain_path: Path) -> None:
    """Finish ``store_pair`` where it was stopped: what is there whole comes into force, anything else is dropped."""
    if not _coming(chain_path).exists() and not _coming(key_path).exists():
        return
    with _alone(key_path):
        key = _coming(key_path) if _coming(key_path).exists() else key_path
        if _coming(chain_path).exists() and _belong_together(key, _coming(chain_path)):
            _take_over(key_path, chain_path)
        else:
            _coming(chain_path).unlink(missing_ok=True)
            _coming(key_path).unlink(missing_ok=True)


def certificate_of(context: Context) -> "Credentials | None":
    """Return what the context's client certificate says, None for a context without one. Raises like ``load_pair``."""
    from picontroller.core.tls.identity import credentials_from

    return credentials_from(*load_pair(context)) if context.client_cert_file else None


def renew(session: "Session") -> "Credentials":
    """Renew the context's client certificate, with a fresh key, and return what is in its place.

    An answer that was lost is asked for again with the same key, and is the same. Raises FailedPrecondition for a context without a
    certificate, and what the control plane refuses with.
    """
    from picontroller.core.rpc.renewal import accepted
    from picontroller.core.tls.identity import key_to_pem, new_key, signing_request

    context = session.context
    old = certificate_of(context)
    if old is None:
        raise FailedPrecondition(
            f"context {context.name} has no client certificate: an API token is not renewed, make another", reason="CERTIFICATE_NEEDED"
        )
    key = new_key()
    issued = _asked_for(session, signing_request(key))
    fresh = accepted(key_to_pem(key), issued, old.spiffe_id)
    store_pair(Path(context.client_key_file), Path(context.client_cert_file), fresh.key_pem, fresh.chain_pem)
    believe(Path(context.ca_file), issued.trust.roots_pem)
    session.reconnect()
    return fresh


def believe(path: Path, roots_pem: bytes) -> bool:
    """Put the roots into the CA file ``path`` unless it has just these, and return whether it was changed. Raises OSError."""
    if has_just(path, roots_pem):
        os.utime(path)  # its time says when it was last compared
        return False
    write_atomically(path, roots_pem, mode=path.stat().st_mode & 0o777)
    return True


def has_just(path: Path, roots_pem: bytes) -> bool:
    """Return whether a CA file has the certificates in ``roots_pem`` and no others. Raises OSError."""
    return _certificates(path.read_bytes()) == _certificates(roots_pem)


def trust_told(session: "Session", seconds: float) -> "Trust":
    """Return what the control plane wants believed. Raises our errors."""
    from picontroller.core.rpc.renewal import trust_from
    from picontroller.v1 import identity_pb2_grpc, trust_pb2

    stub = identity_pb2_grpc.IdentityServiceStub(session.channel)
    return trust_from(session.call(stub.GetTrustBundle, trust_pb2.GetTrustBundleRequest(), seconds=seconds))


def kept_by_control_plane(context: Context) -> bool:
    """Return whether the context's files are those that the identity service on this machine renews by itself."""
    return (Path(context.client_cert_file).parent.parent / "identity" / "ca").is_dir()


def follow(session: "Session") -> list[str]:
    """Bring the context's CA file up to date, and its certificate when its root goes; return what was done.

    Done beside other commands, at most once a minute, over a connection that was just used. Raises our errors and OSError.
    """
    context = session.context
    if time.time() - Path(context.ca_file).stat().st_mtime < FRESH_SECONDS:
        return []
    trust = trust_told(session, FOLLOW_SECONDS)
    done = [f"{context.ca_file} has the roots of the control plane now"] if believe(Path(context.ca_file), trust.roots_pem) else []
    if overtaken(context, trust) and not kept_by_control_plane(context):
        fresh = renew(session)
        done.append(f"your certificate was renewed because its root is going; it ends {fresh.not_after:%Y-%m-%d %H:%M} UTC")
    return done


def overtaken(context: Context, trust: "Trust") -> bool:
    """Return whether the context's certificate belongs to another root than the active one."""
    from picontroller.core.rpc.trust import belongs_to

    return bool(context.client_cert_file) and not belongs_to(load_pair(context)[1], trust)


def _asked_for(session: "Session", request_pem: bytes) -> "Issued":
    from picontroller.core.rpc.renewal import issued_from
    from picontroller.v1 import identity_pb2, identity_pb2_grpc

    request = identity_pb2.RenewCertificateRequest(csr_pem=request_pem.decode())
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return issued_from(session.call(identity_pb2_grpc.IdentityServiceStub(session.channel).RenewCertificate, request))
        except (Unavailable, DeadlineExceeded):
            if attempt == ATTEMPTS:
                raise
            session.reconnect()
    raise AssertionError("the last attempt returns or raises")


def _take_over(key_path: Path, chain_path: Path) -> None:
    if _coming(key_path).exists():
        _coming(key_path).replace(key_path)
    _coming(chain_path).replace(chain_path)
    sync_folder(chain_path.parent)
    if key_path.parent != chain_path.parent:
        sync_folder(key_path.parent)


@contextmanager
def _alone(key_path: Path) -> Iterator[None]:
    """Keep other commands of ours from replacing the same pair at the same time."""
    descriptor = os.open(key_path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _belong_together(key_path: Path, chain_path: Path) -> bool:
    """Return whether TLS would take the two as a pair. The standard library answers that in a millisecond."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(chain_path, key_path, password=lambda: "")
    except (OSError, ValueError):
        return False
    return True


def _coming(path: Path) -> Path:
    return path.with_name(path.name + ".new")


def _certificates(pem: bytes) -> set[bytes]:
    """Return the certificates in a PEM file, whatever stands between them."""
    end = b"-----END CERTIFICATE-----"
    return {b"".join(part.partition(b"-----BEGIN CERTIFICATE-----")[2].split()) for part in pem.split(end)[:-1]}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FailedPrecondition(f"the client certificate {path} can't be read: {error.strerror}", reason="CREDENTIAL_MISSING") from error
