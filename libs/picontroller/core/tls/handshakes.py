"""Why TLS with a peer fails, found out with a handshake of the standard library.

gRPC in Python tells a refused certificate and a dead server by the same words. The alert of the other side, or what we did not believe of
it, shows the difference. Nothing secret is sent.
"""

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

ATTEMPTS = 3
PROBE_SECONDS = 3.0
ALERT_SECONDS = 0.5
EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED
NOT_YET_VALID = 9
_ALERTS = {
    "UNKNOWN_CA": "ROOT_DROPPED",
    "CERTIFICATE_EXPIRED": "CERTIFICATE_EXPIRED",
    "CERTIFICATE_REVOKED": "PROOF_REVOKED",
    "BAD_CERTIFICATE": "CERTIFICATE_REFUSED",
    "CERTIFICATE_UNKNOWN": "CERTIFICATE_REFUSED",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """What is wrong.

    ``reason`` is, of our certificate, ROOT_DROPPED, CERTIFICATE_EXPIRED, PROOF_REVOKED or CERTIFICATE_REFUSED; of theirs ROOT_MISMATCH,
    PEER_EXPIRED or PEER_NOT_YET_VALID. ``text`` is TLS's own word for it.
    """

    reason: str
    text: str


def failure_of(address: str, name: str, roots_file: Path, chain_file: Path | None = None, key_file: Path | None = None) -> Failure | None:
    """Return why TLS with ``name`` at ``HOST:PORT`` fails; None when it does not, or nobody is there at all.

    ``chain_file`` holds our certificate, and our key too unless ``key_file`` does. Blocks, for some seconds at most.
    """
    for _ in range(ATTEMPTS):
        try:
            if _shake_hands(address, name, roots_file, chain_file, key_file):
                return None
        except ssl.SSLCertVerificationError as error:
            reason = {EXPIRED: "PEER_EXPIRED", NOT_YET_VALID: "PEER_NOT_YET_VALID"}.get(error.verify_code, "ROOT_MISMATCH")
            return Failure(reason, error.verify_message)
        except ssl.SSLError as error:
            for alert, reason in _ALERTS.items():
                if alert in (error.reason or ""):
                    return Failure(reason, error.reason.lower().replace("_", " "))
        except ConnectionResetError:
            continue  # it may have come before the alert was read
        except OSError:
            return None
    return None


def _shake_hands(address: str, name: str, roots_file: Path, chain_file: Path | None, key_file: Path | None) -> bool:
    """Return whether the peer talks to us. Raises OSError, ssl.SSLError with the peer's alert among them.

    Under TLS 1.3 a refused certificate shows when something is read. Nothing is written before that: it would meet a closed connection,
    and the alert would be lost.
    """
    trust = ssl.create_default_context(cafile=roots_file)
    if chain_file is not None:
        trust.load_cert_chain(chain_file, key_file, password=lambda: "")
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host.strip("[]"), int(port)), PROBE_SECONDS) as connection,
        trust.wrap_socket(connection, server_hostname=name) as secured,
    ):
        secured.settimeout(ALERT_SECONDS)
        try:
            return bool(secured.recv(1))
        except TimeoutError:
            secured.settimeout(PROBE_SECONDS)
            secured.sendall(f"GET /healthz HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            return bool(secured.recv(1))
