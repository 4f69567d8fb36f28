"""The authority's keys on disk: ``root.pem``, ``issuing.pem`` (key, then certificate) and ``token-key.pem``, in one folder with mode 0700.

They are made once. A data folder whose database remembers an authority but whose keys are gone is refused: a new root would lock everybody
out in silence.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from picontroller.core.errors import FailedPrecondition
from picontroller.core.files import make_private_folder, read_secret, write_secret
from picontroller.core.tls.identity import key_to_pem, new_key
from picontroller.identity.authority import Signer, make_issuing, make_root


@dataclass(frozen=True)
class Keyring:
    """What the authority signs with."""

    folder: Path
    trust_domain: str
    root: Signer
    issuing: Signer
    token_key: ec.EllipticCurvePrivateKey

    def with_new_issuing(self, now: datetime) -> "Keyring":
        """Return the keyring with a new issuing authority, written to disk. The old one's certificates stay good: chains carry it."""
        issuing = make_issuing(self.root, self.trust_domain, now)
        _write_signer(self.folder / "issuing.pem", issuing)
        return replace(self, issuing=issuing)


def open_keyring(folder: Path, trust_domain: str, now: datetime, *, create: bool) -> Keyring:
    """Return the keyring in ``folder``; make what is missing if ``create``.

    Raises FailedPrecondition for keys that are missing, readable by others, or don't fit their certificates.
    """
    make_private_folder(folder)
    if folder.stat().st_mode & 0o077:
        raise FailedPrecondition(f"{folder} is open to others; run: chmod 700 {folder}", reason="SECRET_UNSAFE")
    root_path, issuing_path, token_path = folder / "root.pem", folder / "issuing.pem", folder / "token-key.pem"
    if create:
        if not root_path.exists():
            _write_signer(root_path, make_root(trust_domain, now))
        if not token_path.exists():
            write_secret(token_path, key_to_pem(new_key()))
    root = _read_signer(root_path)
    _check_signed(root, root, root_path)
    if not issuing_path.exists():
        _write_signer(issuing_path, make_issuing(root, trust_domain, now))
    issuing = _read_signer(issuing_path)
    _check_signed(issuing, root, issuing_path)
    if now >= root.certificate.not_valid_after_utc:
        raise FailedPrecondition(f"the root in {root_path} has expired; is this machine's clock right?", reason="AUTHORITY_EXPIRED")
    if now >= issuing.certificate.not_valid_after_utc:
        return Keyring(folder, trust_domain, root, issuing, _read_key(token_path)).with_new_issuing(now)
    return Keyring(folder, trust_domain, root, issuing, _read_key(token_path))


def _write_signer(path: Path, signer: Signer) -> None:
    write_secret(path, key_to_pem(signer.key) + signer.chain_pem())


def _read(path: Path) -> bytes:
    if not path.exists():
        raise FailedPrecondition(f"{path} is gone, a key that can't be made again; restore a backup", reason="AUTHORITY_MISSING")
    return read_secret(path)


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(_read(path), None)
    except (ValueError, TypeError) as error:
        raise _damaged(path, "it holds no key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _damaged(path, "its key is not a P-256 key")
    return key


def _read_signer(path: Path) -> Signer:
    pem = _read(path)
    key = _read_key(path)
    try:
        certificate = x509.load_pem_x509_certificate(pem[pem.find(b"-----BEGIN CERTIFICATE-----") :])
    except ValueError as error:
        raise _damaged(path, "it holds no certificate") from error
    if certificate.public_key() != key.public_key():
        raise _damaged(path, "its key does not belong to its certificate")
    return Signer(key, certificate)


def _check_signed(signer: Signer, by: Signer, path: Path) -> None:
    try:
        signer.certificate.verify_directly_issued_by(by.certificate)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise _damaged(path, "its certificate was not issued by the root") from error


def _damaged(path: Path, why: str) -> FailedPrecondition:
    return FailedPrecondition(f"{path} is damaged: {why}; restore a backup", reason="AUTHORITY_DAMAGED")
