"""A throw-away authority with an issuing certificate between root and leaves, as the real one has."""

from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.fakes.authority import FakeAuthority


class FakeIssuingAuthority(FakeAuthority):
    """Signs with a certificate that its root signed, and hands it out with each leaf. Only the root is trusted."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        issuing = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test issuing authority")]))
            .issuer_name(self.root.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=90))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.issuing_pem = issuing.public_bytes(serialization.Encoding.PEM)
        self.key, self.root = key, issuing

    def certificate(self, public_key: ec.EllipticCurvePublicKey, *uris: str, **options: Any) -> bytes:
        """Return leaf and issuing certificate in PEM."""
        return super().certificate(public_key, *uris, **options) + self.issuing_pem
