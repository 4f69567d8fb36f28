"""What the authority's certificates say, and that strict verifiers accept them."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from picontroller.core.callers import Role, SpiffeId
from picontroller.core.rpc.authentication import roles_in
from picontroller.core.tls.identity import new_key, server_name, spiffe_id_of
from picontroller.identity import authority
from picontroller.identity.authority import Issued, Signer

DOMAIN = "pi-controller.local"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROOT = authority.make_root(DOMAIN, NOW)
ISSUING = authority.make_issuing(ROOT, DOMAIN, NOW)
MONTH = timedelta(days=30)
SERVERS = [
    SpiffeId(DOMAIN, "svc", "gpio"),
    SpiffeId(DOMAIN, "node", "5f0c1e6a-2b7e-4a57-9b6f-0d9f6a7d1c11"),
    SpiffeId(DOMAIN, "gateway", ""),
]
ANNA = SpiffeId(DOMAIN, "user", "anna")


def issue(
    identity: SpiffeId, *, now: datetime = NOW, life: timedelta = MONTH, issuing: Signer = ISSUING, roles: tuple[str, ...] = ()
) -> Issued:
    return authority.issue(issuing, identity, new_key().public_key(), now, life, names=("pi.example.org", "192.0.2.7"), roles=roles)


def chain(issued: Issued) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(issued.chain_pem.encode())


def policy(moment: datetime = NOW) -> verification.PolicyBuilder:
    return verification.PolicyBuilder().store(verification.Store([ROOT.certificate])).time(moment)


@pytest.mark.parametrize("identity", [*SERVERS, ANNA])
def test_leaf_when_verified_as_a_client_leads_to_the_root(identity: SpiffeId) -> None:
    leaf, *rest = chain(issue(identity))
    verified = policy().build_client_verifier().verify(leaf, rest)
    assert verified.chain[-1] == ROOT.certificate
    assert spiffe_id_of(leaf) == identity


@pytest.mark.parametrize("identity", SERVERS)
def test_leaf_when_verified_as_a_server_carries_its_names(identity: SpiffeId) -> None:
    leaf, *rest = chain(issue(identity))
    for name in (server_name(identity), "localhost", "pi.example.org"):
        policy().build_server_verifier(x509.DNSName(name)).verify(leaf, rest)
    for address in ("127.0.0.1", "::1", "192.0.2.7"):
        policy().build_server_verifier(x509.IPAddress(ip_address(address))).verify(leaf, rest)
    with pytest.raises(verification.VerificationError):
        policy().build_server_verifier(x509.DNSName("events.pi-controller.local")).verify(leaf, rest)


def test_leaf_when_of_a_person_is_a_client_with_roles_and_no_server() -> None:
    roles = authority.organisations_of(frozenset({Role.CLUSTER_ADMIN, Role.MONITOR}))
    leaf, *rest = chain(issue(ANNA, roles=roles))
    assert roles_in(leaf, ANNA) == {Role.CLUSTER_ADMIN, Role.MONITOR}
    assert leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "anna"
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert [name.value for name in names.value] == ["spiffe://pi-controller.local/user/anna"]
    assert not names.critical
    with pytest.raises(verification.VerificationError):
        policy().build_server_verifier(x509.DNSName("localhost")).verify(leaf, rest)


def test_leaf_when_of_a_server_has_both_usages_and_a_critical_name_beside_its_empty_subject() -> None:
    leaf = chain(issue(SERVERS[0]))[0]
    usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usages) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    assert leaf.subject == x509.Name([])
    assert leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).critical


def test_authorities_when_made_are_bounded_in_depth_and_time() -> None:
    root, issuing = ROOT.certificate, ISSUING.certificate
    constraints = [c.extensions.get_extension_for_class(x509.BasicConstraints) for c in (root, issuing)]
    assert [(c.critical, c.value.ca, c.value.path_length) for c in constraints] == [(True, True, 2), (True, True, 0)]
    assert root.not_valid_after_utc - NOW == timedelta(days=3650)
    assert issuing.not_valid_after_utc - NOW == timedelta(days=365)
    key_ids = issuing.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert key_ids == root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def test_leaf_when_it_tries_to_issue_is_not_believed() -> None:
    key = new_key()
    leaf = chain(authority.issue(ISSUING, SERVERS[0], key.public_key(), NOW, MONTH))
    false = authority.issue(Signer(key, leaf[0]), SpiffeId(DOMAIN, "svc", "identity"), new_key().public_key(), NOW, MONTH)
    with pytest.raises(verification.VerificationError):
        policy().build_client_verifier().verify(chain(false)[0], [leaf[0], leaf[1]])


def test_leaf_when_issued_begins_a_little_earlier_by_at_most_a_tenth_of_its_life() -> None:
    early = NOW + timedelta(days=1)
    assert issue(ANNA, now=early).start == early - timedelta(minutes=5)
    short = issue(ANNA, now=early, life=timedelta(seconds=20))
    assert (short.start, short.expires) == (early - timedelta(seconds=2), early + timedelta(seconds=20))


def test_leaf_when_its_authority_ends_before_ends_with_it() -> None:
    late = NOW + timedelta(days=350)
    assert issue(ANNA, now=late).expires == ISSUING.certificate.not_valid_after_utc


def test_leaf_when_read_says_what_was_recorded() -> None:
    issued = issue(SERVERS[0])
    leaf = chain(issued)[0]
    assert f"{leaf.serial_number:x}" == issued.serial
    assert leaf.serial_number.bit_length() <= 159
    assert (leaf.not_valid_before_utc, leaf.not_valid_after_utc) == (issued.start, issued.expires)


def test_issuing_authority_when_two_thirds_of_life_are_over_is_worn() -> None:
    assert not authority.is_worn(ISSUING, NOW + timedelta(days=243))
    assert authority.is_worn(ISSUING, NOW + timedelta(days=244))


def test_chain_when_of_this_root_leads_to_it_and_to_no_other() -> None:
    pem = issue(SERVERS[0]).chain_pem.encode()
    assert authority.leads_to(ROOT, pem)
    assert not authority.leads_to(authority.make_root(DOMAIN, NOW), pem)
    assert not authority.leads_to(ROOT, pem.split(b"-----END CERTIFICATE-----\n")[0] + b"-----END CERTIFICATE-----\n")
    assert not authority.leads_to(ROOT, b"rubbish")
