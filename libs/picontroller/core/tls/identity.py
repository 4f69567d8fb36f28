"""A member's own identity on disk, and what it believes.

One folder holds ``identity.pem`` (private key, then the chain, leaf first: one file, so that a crash can't pair a new key with an old
certificate), ``roots.pem`` and ``trust.json`` (version, trust domain, API token keys). All are written atomically, the first with mode
0600.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from picontroller.core.callers import SpiffeId, parse_spiffe_id
from picontroller.core.errors import FailedPrecondition
from picontroller.core.files import make_private_folder, read_secret, write_atomically, write_secret
from picontroller.core.tls.denials import Denials

DNS_SUFFIX = "pi-controller.local"


def server_name(identity: SpiffeId) -> str:
    """Return the DNS name that a member's certificate carries and that callers verify, whatever address they dialled."""
    if identity.kind == "node":
        return f"{identity.name}.node.{DNS_SUFFIX}"
    return f"{identity.name or 'gateway'}.{DNS_SUFFIX}"


@dataclass(frozen=True, slots=True)
class Trust:
    """What a member believes: roots in PEM and the public keys of API tokens as a JSON Web Key Set.

    ``active_root`` is the fingerprint of the root under which certificates are issued now, empty when nobody said; ``renew_now`` asks
    everybody with a certificate of another root to renew it at once.
    """

    version: int
    trust_domain: str
    roots_pem: bytes
    jwks_json: str
    active_root: str = ""
    renew_now: bool = False


@dataclass(frozen=True, slots=True)
class Credentials:
    """A private key with its chain in PEM, and what the leaf says."""

    key_pem: bytes
    chain_pem: bytes
    spiffe_id: SpiffeId
    not_before: datetime
    not_after: datetime
    serial: str

    def renewal_time(self) -> datetime:
        """Return when two thirds of the certificate's life are over."""
        return self.not_before + (self.not_after - self.not_before) * 2 / 3


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as unencrypted PKCS#8."""
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def signing_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a PKCS#10 request in PEM that proves possession of ``key`` and asks for nothing else."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def spiffe_id_of(certificate: x509.Certificate) -> SpiffeId:
    """Return the one SPIFFE id of a certificate. Raises ValueError when there is none, several, or one that isn't ours."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise ValueError("the certificate names no identity") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise ValueError(f"the certificate has {len(uris)} identities instead of one")
    return parse_spiffe_id(uris[0])


def credentials_from(key_pem: bytes, chain_pem: bytes) -> Credentials:
    """Return credentials after checking that key and leaf belong together. Raises FailedPrecondition when they don't."""
    try:
        leaf = x509.load_pem_x509_certificates(chain_pem)[0]
        key = serialization.load_pem_private_key(key_pem, None)
        matches = key.public_key() == leaf.public_key()
        spiffe_id = spiffe_id_of(leaf)
    except (ValueError, IndexError) as error:
        raise FailedPrecondition(f"the identity can't be read: {error}", reason="IDENTITY_DAMAGED") from error
    if not matches:
        raise FailedPrecondition("the private key does not belong to the certificate", reason="IDENTITY_DAMAGED")
    return Credentials(key_pem, chain_pem, spiffe_id, leaf.not_valid_before_utc, leaf.not_valid_after_utc, f"{leaf.serial_number:x}")


class IdentityFolder:
    """The identity kept in one folder. Safe to use from several threads: gRPC asks for it during handshakes in its own.

    ``version`` rises with each change, so that whoever made something of an older state can tell.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.version = 0
        self.denials = Denials(path)
        self._mutex = threading.Lock()
        self._credentials: Credentials | None = None
        self._trust: Trust | None = None
        self._listeners: list[Callable[[], None]] = []

    def exists(self) -> bool:
        """Return whether there is an identity in the folder."""
        return (self.path / "identity.pem").exists() and (self.path / "trust.json").exists()

    def load(self) -> None:
        """Read the folder. Raises FailedPrecondition for what is missing, readable by others, or does not fit together."""
        pem = read_secret(self.path / "identity.pem")
        mark = b"-----BEGIN CERTIFICATE-----"
        key_pem, separator, chain = pem.partition(mark)
        if not separator:
            raise FailedPrecondition(f"{self.path / 'identity.pem'} holds no certificate", reason="IDENTITY_DAMAGED")
        credentials = credentials_from(key_pem, mark + chain)
        try:
            raw = json.loads((self.path / "trust.json").read_text())
            trust = Trust(
                int(raw["version"]),
                str(raw["trust_domain"]),
                (self.path / "roots.pem").read_bytes(),
                str(raw["jwks"]),
                str(raw.get("active_root", "")),
                bool(raw.get("renew_now", False)),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FailedPrecondition(f"{self.path / 'trust.json'} can't be read: {error}", reason="IDENTITY_DAMAGED") from error
        self.denials.load()
        with self._mutex:
            self._credentials, self._trust = credentials, trust
            self.version += 1

    def store(self, credentials: Credentials, trust: Trust) -> None:
        """Write both, trust first: a new certificate is of no use to those who don't know its root."""
        self.store_trust(trust)
        write_secret(self.path / "identity.pem", credentials.key_pem + credentials.chain_pem)
        with self._mutex:
            self._credentials = credentials
            self.version += 1

    def on_trust(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` after each change of what is believed, in the thread that stores it; return what takes it off again."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def store_trust(self, trust: Trust) -> None:
        """Write what is believed."""
        make_private_folder(self.path)
        write_atomically(self.path / "roots.pem", trust.roots_pem)
        body = {
            "version": trust.version,
            "trust_domain": trust.trust_domain,
            "jwks": trust.jwks_json,
            "active_root": trust.active_root,
            "renew_now": trust.renew_now,
        }
        write_atomically(self.path / "trust.json", json.dumps(body).encode())
        with self._mutex:
            changed = self._trust != trust
            self._trust = trust
            self.version += 1
        if changed:
            for listener in list(self._listeners):
                listener()

    @property
    def credentials(self) -> Credentials:
        """The newest credentials. Raises FailedPrecondition before ``load`` or ``store``."""
        with self._mutex:
            if self._credentials is None:
                raise FailedPrecondition(f"there is no identity in {self.path}", reason="IDENTITY_MISSING")
            return self._credentials

    @property
    def trust(self) -> Trust:
        """What is believed now. Raises FailedPrecondition before ``load`` or ``store``."""
        with self._mutex:
            if self._trust is None:
                raise FailedPrecondition(f"there is no identity in {self.path}", reason="IDENTITY_MISSING")
            return self._trust

    def expired(self) -> bool:
        """Return whether the certificate's life is over by the wall clock."""
        return datetime.now(UTC) >= self.credentials.not_after
