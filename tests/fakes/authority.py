"""A throw-away authority: identities for tests that are not about identity."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from picontroller.core.callers import SpiffeId
from picontroller.core.tls.identity import IdentityFolder, Trust, credentials_from, key_to_pem, server_name

DOMAIN = "pi-controller.local"


class FakeAuthority:
    """One self-signed root that signs whatever it is asked to."""

    def __init__(self, *, trust_domain: str = DOMAIN, jwks: str = '{"keys":[]}') -> None:
        self.trust_domain = trust_domain
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test root")])
        now = datetime.now(UTC)
        self.root = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .add_extension(
                x509.KeyUsage(False, False, False, False, False, True, True, False, False),
                critical=True,
            )
            .sign(self.key, hashes.SHA256())
        )
        self.roots_pem = self.root.public_bytes(serialization.Encoding.PEM)
        self.trust = Trust(1, trust_domain, self.roots_pem, jwks)

    def certificate(
        self,
        public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
        *uris: str,
        dns: tuple[str, ...] = (),
        organisations: tuple[str, ...] = (),
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        usages: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH),
    ) -> bytes:
        """Return a leaf in PEM with the names given."""
        now = datetime.now(UTC)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
        names += [x509.DNSName(name) for name in dns]
        names += [x509.IPAddress(ip_address("127.0.0.1"))]
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in organisations])
        leaf = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.root.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before or now - timedelta(minutes=5))
            .not_valid_after(not_after or now + timedelta(days=30))
            .add_extension(x509.SubjectAlternativeName(names), critical=not organisations)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return leaf.public_bytes(serialization.Encoding.PEM)

    def identity(self, folder: Path, path: str, *, roles: tuple[str, ...] = ()) -> IdentityFolder:
        """Return an identity for ``path`` (``svc/gpio``, ``node/<uuid>``, ``user/anna``, ``gateway``), written to ``folder``."""
        kind, _, name = path.partition("/")
        identity = SpiffeId(self.trust_domain, kind, name)
        key = ec.generate_private_key(ec.SECP256R1())
        dns = () if kind == "user" else (server_name(identity), "localhost")
        chain = self.certificate(key.public_key(), str(identity), dns=dns, organisations=roles)
        made = IdentityFolder(folder)
        made.store(credentials_from(key_to_pem(key), chain), self.trust)
        return made
