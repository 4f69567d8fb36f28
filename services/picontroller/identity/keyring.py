"""The authority's keys on disk, each with its certificate, in one folder with mode 0700.

They are ``root-<fingerprint>.pem`` and ``issuing-<fingerprint of its root>.pem``, with the first eight characters of a fingerprint, and
``token-key.pem``.
Which of them count is said by a ``Position``, which is kept in the database and is what a change is committed by: a key is on disk before
a position names it, and one that no position names is rubbish of a change that did not happen. A data folder whose database remembers an
authority but whose keys are gone is refused: a new root would lock everybody out in silence.
"""

import enum
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from picontroller.core.errors import FailedPrecondition
from picontroller.core.files import make_private_folder, read_secret, write_secret
from picontroller.core.tls.identity import key_to_pem, new_key
from picontroller.identity.authority import Signer, leads_to, make_issuing, make_root

EARLY_ROOT, EARLY_ISSUING = "root.pem", "issuing.pem"  # as the first release named them


class State(enum.Enum):
    """Where an authority is on its way to a new root. Names equal those of ``picontroller.v1.AuthorityState``."""

    STABLE = 1
    PREPARED = 2
    ACTIVATED = 3
    RETIRING = 4


@dataclass(frozen=True, slots=True)
class Position:
    """Which roots count. ``active`` is the fingerprint of the one under which certificates are issued.

    ``other`` is that of the one that comes (PREPARED) or goes (ACTIVATED, RETIRING), empty when there is one only; ``cross_pem`` is the
    newer one's certificate by the older. ``last_step`` is the step that led here, empty at first.
    """

    state: State
    active: str
    other: str = ""
    cross_pem: bytes = b""
    last_step: str = ""


@dataclass(frozen=True)
class Keyring:
    """What the authority signs with. ``root`` is the active one, ``other`` the one that comes or goes."""

    folder: Path
    trust_domain: str
    root: Signer
    issuing: Signer
    token_key: ec.EllipticCurvePrivateKey
    state: State = State.STABLE
    other: Signer | None = None
    kept_cross_pem: bytes = b""
    last_step: str = ""

    @property
    def position(self) -> Position:
        """What the database has to say for these keys to count."""
        other = self.other.fingerprint if self.other else ""
        return Position(self.state, self.root.fingerprint, other, self.kept_cross_pem, self.last_step)

    @property
    def roots(self) -> tuple[Signer, ...]:
        """The roots that members are to believe, the oldest first."""
        if self.other is None:
            return (self.root,)
        return (self.root, self.other) if self.state is State.PREPARED else (self.other, self.root)

    @property
    def cross_pem(self) -> bytes:
        """What ends chains: the active root's certificate by the older one, while there is an older one."""
        return b"" if self.state is State.PREPARED else self.kept_cross_pem

    def roots_pem(self) -> bytes:
        """Return the roots that members are to believe in PEM, the oldest first."""
        return b"".join(root.chain_pem() for root in self.roots)

    def with_new_issuing(self, now: datetime) -> "Keyring":
        """Return the keyring with a new issuing authority, written to disk. The old one's certificates stay good: chains carry it."""
        return replace(self, issuing=write_issuing(self.folder, self.trust_domain, self.root, now))

    def tidy(self) -> None:
        """Remove the files of keys that don't count, from a change that ended or did not happen. The position must be in the database."""
        counting = {_root_path(self.folder, root.fingerprint).name for root in self.roots}
        counting.add(_issuing_path(self.folder, self.root.fingerprint).name)
        for pattern in ("root-*.pem", "issuing-*.pem", EARLY_ROOT, EARLY_ISSUING):
            for path in self.folder.glob(pattern):
                if path.name not in counting:
                    path.unlink(missing_ok=True)


def open_keyring(folder: Path, trust_domain: str, now: datetime, position: Position | None, *, create: bool) -> Keyring:
    """Return the keys in ``folder`` that count by ``position``, None for a folder of the first release or a new one.

    With ``create`` a missing authority is made. Raises FailedPrecondition for keys that are missing, readable by others, or don't fit
    their certificates.
    """
    make_private_folder(folder)
    if folder.stat().st_mode & 0o077:
        raise FailedPrecondition(f"{folder} is open to others; run: chmod 700 {folder}", reason="SECRET_UNSAFE")
    token_path = folder / "token-key.pem"
    if create and not token_path.exists():
        write_secret(token_path, key_to_pem(new_key()))
    position = position or _first_position(folder, trust_domain, now, create=create)
    root = _read_root(folder, position.active, now)
    other = _read_root(folder, position.other, now) if position.other else None
    path = _issuing_path(folder, position.active)
    if not path.exists():
        write_issuing(folder, trust_domain, root, now)
    issuing = _read_signer(path)
    _check_signed(issuing, root, path)
    keyring = Keyring(
        folder, trust_domain, root, issuing, _read_key(token_path), position.state, other, position.cross_pem, position.last_step
    )
    return keyring.with_new_issuing(now) if now >= issuing.certificate.not_valid_after_utc else keyring


def write_root(folder: Path, root: Signer) -> None:
    """Put a root on disk, where it counts as soon as a position names it."""
    _write_signer(_root_path(folder, root.fingerprint), root)


def write_issuing(folder: Path, trust_domain: str, root: Signer, now: datetime) -> Signer:
    """Return a new issuing authority under ``root``, put on disk."""
    issuing = make_issuing(root, trust_domain, now)
    _write_signer(_issuing_path(folder, root.fingerprint), issuing)
    return issuing


def _first_position(folder: Path, trust_domain: str, now: datetime, *, create: bool) -> Position:
    """Return the position of an authority that never changed its root: one of the first release, or a new one. Files stay until tidied."""
    early = folder / EARLY_ROOT
    if early.exists() or not create:
        root = _read_signer(early)
        if not _root_path(folder, root.fingerprint).exists() and (folder / EARLY_ISSUING).exists():
            _write_signer(_issuing_path(folder, root.fingerprint), _read_signer(folder / EARLY_ISSUING))
    else:
        root = make_root(trust_domain, now)
    write_root(folder, root)
    return Position(State.STABLE, root.fingerprint)


def _root_path(folder: Path, fingerprint: str) -> Path:
    return folder / f"root-{fingerprint[:8]}.pem"


def _issuing_path(folder: Path, root_fingerprint: str) -> Path:
    return folder / f"issuing-{root_fingerprint[:8]}.pem"


def _read_root(folder: Path, fingerprint: str, now: datetime) -> Signer:
    path = _root_path(folder, fingerprint)
    root = _read_signer(path)
    _check_signed(root, root, path)
    if root.fingerprint != fingerprint:
        raise _damaged(path, "it is another root than the database names")
    if now >= root.certificate.not_valid_after_utc:
        raise FailedPrecondition(f"the root in {path} has expired; is this machine's clock right?", reason="AUTHORITY_EXPIRED")
    return root


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
    if not leads_to(by, signer.chain_pem()):
        raise _damaged(path, "its certificate was not issued by the root")


def _damaged(path: Path, why: str) -> FailedPrecondition:
    return FailedPrecondition(f"{path} is damaged: {why}; restore a backup", reason="AUTHORITY_DAMAGED")
