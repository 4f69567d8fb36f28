"""Join tokens as text: ``PC1.<root>.<id>.<secret>``.

``root`` is the SHA-256 of the root's SubjectPublicKeyInfo in base 32 without padding: whoever holds a token can recognise the control plane
before telling it anything. ``secret`` is 32 random bytes in URL-safe base 64 and must never be logged, which is why no error here quotes
the text it was given.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from picontroller.core.errors import InvalidArgument

PREFIX = "PC1"
SECRET_BYTES = 32
MOST_ROOTS = 8
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class JoinTokenParts:
    """A join token taken apart. ``root_hash`` is 32 bytes; ``secret`` is shown in no representation."""

    root_hash: bytes
    id: str
    secret: str = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the root that the token names."""
        return _base32(self.root_hash)

    def text(self) -> str:
        """Return the whole token."""
        return f"{PREFIX}.{_base32(self.root_hash)}.{self.id}.{self.secret}"


def new_secret() -> str:
    """Return a fresh secret."""
    return secrets.token_urlsafe(SECRET_BYTES)


def parse_token(text: str) -> JoinTokenParts:
    """Return the parts of a token; white space around it is forgiven. Raises InvalidArgument without quoting it."""
    pieces = text.strip().split(".")
    if len(pieces) != 4 or pieces[0] != PREFIX:
        raise _malformed(f"it must be {PREFIX} and three more parts with dots between them")
    _, root, token_id, secret = pieces
    try:
        root_hash = base64.b32decode(root + "=" * (-len(root) % 8))
    except (binascii.Error, ValueError):
        root_hash = b""
    if len(root_hash) != hashlib.sha256().digest_size:
        raise _malformed("its second part is damaged")
    if not _ID.fullmatch(token_id):
        raise _malformed("its third part is damaged")
    if not _SECRET.fullmatch(secret):
        raise _malformed("its last part is damaged; was it cut off?")
    return JoinTokenParts(root_hash, token_id, secret)


def root_hash(certificate: x509.Certificate) -> bytes:
    """Return the SHA-256 of a certificate's SubjectPublicKeyInfo."""
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(certificate.public_key().public_bytes(encoding, form)).digest()


def root_fingerprint(certificate: x509.Certificate) -> str:
    """Return ``root_hash`` as it stands in join tokens, so that a person can compare the two."""
    return _base32(root_hash(certificate))


def pinned(roots_pem: bytes, wanted: bytes) -> bytes | None:
    """Return, alone and in PEM, the certificate in ``roots_pem`` with the key that ``wanted`` is the hash of; None when there is none.

    The others were never compared with anything and must not be believed. All are compared, in constant time; more than ``MOST_ROOTS`` are
    no bundle of ours.
    """
    try:
        found = x509.load_pem_x509_certificates(roots_pem)
    except ValueError:
        return None
    if len(found) > MOST_ROOTS:
        return None
    recognised = [certificate for certificate in found if hmac.compare_digest(root_hash(certificate), wanted)]
    return recognised[0].public_bytes(serialization.Encoding.PEM) if len(recognised) == 1 else None


def _base32(digest: bytes) -> str:
    return base64.b32encode(digest).decode().rstrip("=")


def _malformed(why: str) -> InvalidArgument:
    return InvalidArgument(f"this is not a join token: {why}", reason="TOKEN_MALFORMED")
