"""Further names of servers: the DNS names and addresses by which a member is reached, beside the one that its identity gives it.

A member that could take any name could pass for another, so that names below our own suffix belong to their identities alone.
"""

import re
from collections.abc import Iterable
from ipaddress import ip_address

from cryptography import x509

from picontroller.core.callers import SpiffeId
from picontroller.core.errors import InvalidArgument, PermissionDenied, Violation
from picontroller.core.tls.identity import DNS_SUFFIX, Credentials, server_name
from picontroller.identity.authority import HERE

MOST_NAMES = 64
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DNS = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")


def checked(identity: SpiffeId, asked: Iterable[str]) -> tuple[str, ...]:
    """Return names in their usual form, sorted, without those that every server has.

    Raises InvalidArgument for what is no name, PermissionDenied for names that the identity may not have.
    """
    found = {_usual(name, index) for index, name in enumerate(asked)} - {server_name(identity), *HERE}
    if found and identity.kind not in ("svc", "gateway"):
        raise PermissionDenied("only services and the gateway may have further names", reason="NAMES_REFUSED")
    for name in sorted(found):
        if name == DNS_SUFFIX or name.endswith(f".{DNS_SUFFIX}"):
            raise PermissionDenied(f"{name} belongs to another member", reason="NAMES_REFUSED")
    if len(found) > MOST_NAMES:
        raise InvalidArgument(f"at most {MOST_NAMES} further names", reason="NAMES_TOO_MANY")
    return tuple(sorted(found))


def reachable(hosts: Iterable[str]) -> tuple[str, ...]:
    """Return the hosts of listen addresses and ``--san`` that a certificate may carry: those that mean every address are left out."""
    return tuple(host for host in dict.fromkeys(hosts) if not _means_every_address(host))


def carried(credentials: Credentials) -> list[str]:
    """Return all names that a certificate carries, those that every server has included."""
    leaf = x509.load_pem_x509_certificates(credentials.chain_pem)[0]
    found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [*found.get_values_for_type(x509.DNSName), *(str(address) for address in found.get_values_for_type(x509.IPAddress))]


def lacks(credentials: Credentials, wanted: Iterable[str]) -> bool:
    """Return whether a certificate is without one of the names ``wanted``. Raises as ``checked`` does."""
    identity = credentials.spiffe_id
    return bool(set(checked(identity, wanted)) - set(checked(identity, carried(credentials))))


def is_shareable(name: str) -> bool:
    """Return whether several identities may carry ``name``: addresses, as members share machines."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def is_same_member(one: SpiffeId, other: SpiffeId) -> bool:
    """Return whether two identities are the same server's: the gateway has ``/svc/gateway`` for itself and ``/gateway`` for its callers."""
    return server_name(one) == server_name(other)


def _means_every_address(host: str) -> bool:
    try:
        return host == "" or ip_address(host).is_unspecified
    except ValueError:
        return False


def _usual(name: str, index: int) -> str:
    try:
        address = ip_address(name)
    except ValueError:
        pass
    else:
        if address.is_unspecified or address.is_multicast or "%" in name:
            raise _refused(name, index, "is not an address that a server can be reached at")
        return str(address)
    lower = name.lower()
    last = lower.rpartition(".")[2]
    if not _DNS.fullmatch(lower) or last.isdigit():
        raise _refused(name, index, "is neither a DNS name nor an IP address")
    return lower


def _refused(name: str, index: int, why: str) -> InvalidArgument:
    return InvalidArgument(f"{name!r} {why}", reason="NAME_INVALID", violations=[Violation(f"san[{index}]", why)])
