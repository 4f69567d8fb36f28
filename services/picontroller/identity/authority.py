"""The certificate authority: a root, an issuing authority under it, and the leaves that it signs.

Only the root is trusted by anybody, so that the issuing authority can be replaced at any time: each chain carries it. While a new root
takes an old one's place, chains carry the new one's certificate by the old one as well (the cross-certificate), for those who know the old
one only. What a leaf says comes from our own records alone; of a signing request nothing but the key is looked at.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from picontroller.core.callers import Role, SpiffeId
from picontroller.core.errors import FailedPrecondition
from picontroller.core.tls import joining
from picontroller.core.tls.identity import new_key, server_name

ROOT_LIFE = timedelta(days=3650)
ISSUING_LIFE = timedelta(days=365)
LONGEST_BACKDATE = timedelta(minutes=5)  # a Pi has no clock chip; its clock may be that late
ROOT_PATH_LENGTH = 2  # a root vouches for the next one, that for its issuing authority, and that for leaves
HERE = ("localhost", "127.0.0.1", "::1")

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@dataclass(frozen=True)
class Signer:
    """A key with the certificate of an authority."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def fingerprint(self) -> str:
        """The fingerprint of its key, as it stands in join tokens for a root."""
        return joining.root_fingerprint(self.certificate)

    def chain_pem(self) -> bytes:
        """Return the certificate in PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was issued. ``key_hash`` is the SHA-256 of its SubjectPublicKeyInfo; ``chain_pem`` has the leaf first.

    ``revoked`` says when it was revoked, if it was, and ``revoke_reason`` why. ``root`` is the fingerprint of the root it belongs to.
    """

    serial: str
    identity: SpiffeId
    key_hash: bytes
    start: datetime
    expires: datetime
    chain_pem: str
    revoked: datetime | None = None
    revoke_reason: str = ""
    root: str = ""


def key_hash(key: PublicKey) -> bytes:
    """Return the SHA-256 of a key's SubjectPublicKeyInfo."""
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(encoding, form)).digest()


def organisations_of(roles: frozenset[Role]) -> tuple[str, ...]:
    """Return roles as they stand in the subject of a person's certificate."""
    return tuple(sorted(role.name.lower().replace("_", "-") for role in roles))


def make_root(trust_domain: str, now: datetime) -> Signer:
    """Return a new root, good for ten years."""
    key = new_key()
    name = _name(f"Pi-Controller root {key_hash(key.public_key()).hex()[:8]}", (trust_domain,))
    return Signer(key, _authority(name, name, key, key, now, ROOT_LIFE, ROOT_PATH_LENGTH))


def make_issuing(root: Signer, trust_domain: str, now: datetime) -> Signer:
    """Return a new issuing authority under ``root``, good for a year or as long as the root is."""
    key = new_key()
    name = _name(f"Pi-Controller issuing authority {key_hash(key.public_key()).hex()[:8]}", (trust_domain,))
    life = min(ISSUING_LIFE, root.certificate.not_valid_after_utc - now)
    return Signer(key, _authority(name, root.certificate.subject, key, root.key, now, life, 0))


def cross_certify(coming: Signer, by: Signer, now: datetime) -> bytes:
    """Return a certificate in PEM of the root ``coming`` by the root ``by``, good for as long as both are.

    Raises FailedPrecondition ROOT_TOO_OLD for a root of an early release, which can't vouch for another.
    """
    constraints = by.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    if constraints.path_length is not None and constraints.path_length < ROOT_PATH_LENGTH:
        raise FailedPrecondition(
            "the root was made by an early release and can't vouch for another; a new data folder gets one that can", reason="ROOT_TOO_OLD"
        )
    life = min(coming.certificate.not_valid_after_utc, by.certificate.not_valid_after_utc) - now
    subject, issuer = coming.certificate.subject, by.certificate.subject
    made = _authority(subject, issuer, coming.key, by.key, now, life, ROOT_PATH_LENGTH - 1)
    return made.public_bytes(serialization.Encoding.PEM)


def is_worn(issuing: Signer, now: datetime) -> bool:
    """Return whether an issuing authority has lived two thirds of its life, when it is time for a new one."""
    start, end = issuing.certificate.not_valid_before_utc, issuing.certificate.not_valid_after_utc
    return now >= start + (end - start) * 2 / 3


def leads_to(root: Signer, chain_pem: bytes) -> bool:
    """Return whether each certificate of a chain was issued by the next, until one was issued by ``root``. Dates are not looked at."""
    try:
        chain = x509.load_pem_x509_certificates(chain_pem)
    except ValueError:
        return False
    for certificate, issuer in zip(chain, [*chain[1:], None], strict=True):
        if _is_issued_by(certificate, root.certificate):
            return True
        if issuer is None or not _is_issued_by(certificate, issuer):
            return False
    return False


def issue(
    issuing: Signer,
    identity: SpiffeId,
    key: PublicKey,
    now: datetime,
    life: timedelta,
    *,
    names: Sequence[str] = (),
    roles: Sequence[str] = (),
    cross_pem: bytes = b"",
    root: str = "",
) -> Issued:
    """Return a certificate for ``identity`` that holds for ``life``, or as long as the authority does.

    ``names`` are further DNS names and addresses of a server; ``roles`` are the organisations of a person, who gets a client's certificate.
    ``cross_pem`` ends the chain; ``root`` is the fingerprint to remember.
    """
    now = now.replace(microsecond=0)
    start = now - min(LONGEST_BACKDATE, life / 10)
    start = max(start.replace(microsecond=0), issuing.certificate.not_valid_before_utc)
    expires = min(now + life, issuing.certificate.not_valid_after_utc)
    person = identity.kind == "user"
    subject = _name(identity.name, roles) if person else x509.Name([])
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH] if person else [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    serial = x509.random_serial_number()
    leaf = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuing.certificate.subject)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(start)
        .not_valid_after(expires)
        # RFC 5280 4.2.1.6: critical exactly when the subject is empty.
        .add_extension(x509.SubjectAlternativeName(_general_names(identity, names)), critical=not person)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuing.key.public_key()), critical=False)
        .sign(issuing.key, hashes.SHA256())
    )
    chain = leaf.public_bytes(serialization.Encoding.PEM) + issuing.chain_pem() + cross_pem
    return Issued(f"{serial:x}", identity, key_hash(key), start, expires, chain.decode(), root=root)


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _authority(
    name: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    life: timedelta,
    path_length: int,
) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - LONGEST_BACKDATE)
        .not_valid_after(now + life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def _name(common_name: str, organisations: Sequence[str]) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in organisations]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_names(identity: SpiffeId, names: Sequence[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(identity))]
    if identity.kind == "user":
        return found
    for name in dict.fromkeys((server_name(identity), *HERE, *names)):
        try:
            found.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
