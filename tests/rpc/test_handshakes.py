"""Why TLS fails, as it is found out against real servers: what gRPC in Python tells as a server that is away."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from picontroller.core.callers import SpiffeId
from picontroller.core.files import write_secret
from picontroller.core.tls.handshakes import failure_of
from picontroller.core.tls.identity import key_to_pem, new_key, server_name
from tests.fakes.authority import DOMAIN, FakeAuthority

NAME = server_name(SpiffeId(DOMAIN, "gateway", ""))


@dataclass
class Files:
    """An authority, its roots on disk, and certificates that it signs there."""

    authority: FakeAuthority
    folder: Path

    @property
    def roots(self) -> Path:
        path = self.folder / "roots.pem"
        path.write_bytes(self.authority.roots_pem)
        return path

    def identity(self, *, ended: bool = False, begun: bool = True) -> Path:
        """Return a file with a key and a certificate that is good both ways."""
        key, now = new_key(), datetime.now(UTC)
        chain = self.authority.certificate(
            key.public_key(),
            f"spiffe://{DOMAIN}/gateway",
            dns=(NAME,),
            not_before=now - timedelta(hours=2) if begun else now + timedelta(hours=1),
            not_after=now - timedelta(hours=1) if ended else now + timedelta(hours=2),
        )
        path = self.folder / f"identity-{ended}-{begun}.pem"
        write_secret(path, key_to_pem(key) + chain)
        return path


@pytest.fixture
def ours(tmp_path: Path) -> Files:
    (tmp_path / "ours").mkdir()
    return Files(FakeAuthority(), tmp_path / "ours")


@pytest.fixture
def others(tmp_path: Path) -> Files:
    (tmp_path / "others").mkdir()
    return Files(FakeAuthority(), tmp_path / "others")


@contextmanager
def serving(identity: Path, believed: Path) -> Iterator[str]:
    """Serve in a thread: the loop's own TLS closes the connection without its alert."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity)
    context.load_verify_locations(believed)
    context.verify_mode = ssl.CERT_OPTIONAL
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_answer, args=(listener, context), daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def _answer(listener: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # shut down
            return
        with connection, suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(4096)
            secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def found(address: str, roots: Path, identity: Path | None) -> str:
    failure = failure_of(address, NAME, roots, identity)
    return failure.reason if failure else ""


def test_peer_when_it_takes_our_certificate_or_none_is_fine(ours: Files) -> None:
    with serving(ours.identity(), ours.roots) as address:
        assert found(address, ours.roots, ours.identity()) == ""
        assert found(address, ours.roots, None) == ""


def test_certificate_when_its_root_was_dropped_is_told(ours: Files, others: Files) -> None:
    with serving(ours.identity(), ours.roots) as address:
        assert found(address, ours.roots, others.identity()) == "ROOT_DROPPED"


def test_certificate_when_it_has_expired_is_told(ours: Files) -> None:
    with serving(ours.identity(), ours.roots) as address:
        assert found(address, ours.roots, ours.identity(ended=True)) == "CERTIFICATE_EXPIRED"


def test_peer_when_it_is_not_believed_is_told(ours: Files, others: Files) -> None:
    with serving(others.identity(), ours.roots) as address:
        assert found(address, ours.roots, ours.identity()) == "ROOT_MISMATCH"


@pytest.mark.parametrize(("ended", "begun", "reason"), [(True, True, "PEER_EXPIRED"), (False, False, "PEER_NOT_YET_VALID")])
def test_peer_when_its_certificate_is_out_of_its_time_is_told(ours: Files, ended: bool, begun: bool, reason: str) -> None:
    with serving(ours.identity(ended=ended, begun=begun), ours.roots) as address:
        assert found(address, ours.roots, None) == reason


def test_peer_when_nobody_is_there_is_no_failure_of_tls(ours: Files) -> None:
    with serving(ours.identity(), ours.roots) as address:
        pass
    assert found(address, ours.roots, ours.identity()) == ""
