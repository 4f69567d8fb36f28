"""Reading signing requests (PKCS#10). They come from strangers: only the key is taken out, and only when it is proven and strong."""

import re

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from picontroller.core.errors import InvalidArgument, Violation
from picontroller.identity.authority import PublicKey

LARGEST_BYTES = 8192
SMALLEST_RSA_BITS = 3072
LARGEST_RSA_BITS = 8192  # beyond that a verification takes long enough to hurt a Pi
_CURVES = (ec.SECP256R1, ec.SECP384R1)
_ONE_REQUEST = re.compile(r"\s*-----BEGIN (NEW )?CERTIFICATE REQUEST-----[A-Za-z0-9+/=\s]+-----END (NEW )?CERTIFICATE REQUEST-----\s*")


def public_key_of(csr_pem: str) -> PublicKey:
    """Return the key of a request. Raises InvalidArgument naming ``csr_pem``; names and extensions in it are ignored, never copied."""
    raw = csr_pem.encode()
    if len(raw) > LARGEST_BYTES:
        raise _refused(f"is larger than {LARGEST_BYTES} bytes")
    if not _ONE_REQUEST.fullmatch(csr_pem):
        raise _refused("is not one PKCS#10 request in PEM")
    try:
        request = x509.load_pem_x509_csr(raw)
        key = request.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _refused("can't be read, or has a key of a kind that is not supported") from error
    if isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, _CURVES):
            raise _refused(f"has a key on {key.curve.name}; P-256 and P-384 are accepted")
    elif not isinstance(key, rsa.RSAPublicKey) or not SMALLEST_RSA_BITS <= key.key_size <= LARGEST_RSA_BITS:
        raise _refused(f"must have a P-256, P-384 or RSA key of {SMALLEST_RSA_BITS} to {LARGEST_RSA_BITS} bits")
    if not _is_signed(request):
        raise _refused("is not signed by its own key")
    return key


def _is_signed(request: x509.CertificateSigningRequest) -> bool:
    try:
        return request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False


def _refused(why: str) -> InvalidArgument:
    return InvalidArgument(f"csr_pem {why}", reason="CSR_INVALID", violations=[Violation("csr_pem", why)])
