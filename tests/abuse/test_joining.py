"""Abuse of joining and of certificates (numbers of the catalogue)."""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from picontroller.core import errors, logs
from picontroller.core.rpc import mesh as rpc
from picontroller.core.tls import joining
from picontroller.core.tls.identity import Credentials, IdentityFolder, key_to_pem, new_key, spiffe_id_of
from picontroller.identity import authority
from picontroller.identity.authority import Signer
from picontroller.identity.settings import Settings
from picontroller.v1 import identity_pb2 as pb
from tests.fakes.authority import FakeAuthority
from tests.rpc.identity.test_joining import issue, refused
from tests.rpc.identity.world import World, request_for_new_key, running, serving_again


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path, Settings()) as made:
        yield made


async def certificates(world: World) -> int:
    page: pb.ListCertificatesResponse = await rpc.unary(world.stub(world.admin()).ListCertificates, pb.ListCertificatesRequest())
    return len(page.certificates)


async def test_abuse_51_used_token_is_unauthenticated_and_reported(world: World) -> None:
    token = await world.join_token()
    answer = await issue(world, token, request_for_new_key()[1])
    before = await certificates(world)
    error = await refused(world, token, request_for_new_key()[1])
    assert isinstance(error, errors.Unauthenticated)
    assert error.reason == "TOKEN_USED"
    assert await certificates(world) == before
    reused = [event for event in world.events() if event["type"] == "token.reused"]
    assert [(event["resource"], event["data"]) for event in reused] == [(joining.parse_token(token).id, {"used_by": answer.spiffe_id})]


async def test_abuse_51_used_token_with_a_wrong_secret_says_nothing_of_its_use(world: World) -> None:
    token = await world.join_token()
    await issue(world, token, request_for_new_key()[1])
    parts = joining.parse_token(token)
    guess = joining.JoinTokenParts(parts.root_hash, parts.id, joining.new_secret()).text()
    assert (await refused(world, guess, request_for_new_key()[1])).reason == "TOKEN_INVALID"


async def test_abuse_52_fifty_parallel_uses_give_one_certificate(world: World) -> None:
    token, before = await world.join_token(), await certificates(world)
    requests = [request_for_new_key()[1] for _ in range(50)]
    outcomes = await asyncio.gather(*(issue(world, token, csr) for csr in requests), return_exceptions=True)
    won = [outcome for outcome in outcomes if isinstance(outcome, pb.IssuedCertificate)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, errors.Unauthenticated)]
    assert (len(won), len(lost)) == (1, 49), {repr(o) for o in outcomes if o not in won + lost}
    assert {error.reason for error in lost} == {"TOKEN_USED"}
    assert await certificates(world) == before + 1


async def test_abuse_53_token_that_expired_a_second_ago_is_unauthenticated(world: World) -> None:
    token = await world.join_token(ttl=timedelta(seconds=10))
    world.clock.shift = timedelta(seconds=11)
    error = await refused(world, token, request_for_new_key()[1])
    assert (type(error), error.reason) == (errors.Unauthenticated, "TOKEN_INVALID")
    world.clock.shift = timedelta(seconds=8)
    assert (await issue(world, token, request_for_new_key()[1])).node_id


async def test_abuse_53_certificate_is_good_for_clocks_five_minutes_late_and_no_more(world: World) -> None:
    before = datetime.now(UTC)
    answer = await issue(world, await world.join_token(), request_for_new_key()[1])
    leaf = x509.load_pem_x509_certificates(answer.certificate_chain_pem.encode())[0]
    assert before - timedelta(minutes=5, seconds=1) <= leaf.not_valid_before_utc <= datetime.now(UTC) - timedelta(minutes=5)
    verify(world, answer, before - timedelta(minutes=4, seconds=55))
    with pytest.raises(x509.verification.VerificationError):
        verify(world, answer, before - timedelta(minutes=5, seconds=5))
    with pytest.raises(x509.verification.VerificationError):
        verify(world, answer, before + timedelta(days=30, hours=1))


def verify(world: World, answer: pb.IssuedCertificate, moment: datetime) -> None:
    leaf, *rest = x509.load_pem_x509_certificates(answer.certificate_chain_pem.encode())
    roots = x509.verification.Store(x509.load_pem_x509_certificates(answer.trust_bundle.roots_pem.encode()))
    x509.verification.PolicyBuilder().store(roots).time(moment).build_client_verifier().verify(leaf, rest)


def csr(key: object, *extensions: x509.ExtensionType, subject: str = "", padding: int = 0) -> str:
    """Return a signing request as a stranger may write it."""
    names = [x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, subject)] if subject else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    if padding:
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"x" * padding), critical=False)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM).decode()  # type: ignore[arg-type]  # any key


def with_broken_signature() -> str:
    raw = bytearray(x509.load_pem_x509_csr(csr(new_key()).encode()).public_bytes(serialization.Encoding.DER))
    raw[-5] ^= 1
    body = base64.encodebytes(raw).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n"


BAD_REQUESTS = {
    "bad signature": with_broken_signature,
    "RSA 1024": lambda: csr(rsa.generate_private_key(65537, 1024)),
    "RSA 2048": lambda: csr(rsa.generate_private_key(65537, 2048)),
    "P-521": lambda: csr(ec.generate_private_key(ec.SECP521R1())),
    "Ed25519": lambda: csr(ed25519.Ed25519PrivateKey.generate()),
    "too large": lambda: csr(new_key(), padding=9000),
    "rubbish": lambda: "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
    "no PEM": lambda: "hello",
    "two": lambda: csr(new_key()) * 2,
    "a key": lambda: key_to_pem(new_key()).decode(),
    "NUL": lambda: csr(new_key()) + "\x00",
}


@pytest.mark.parametrize("kind", BAD_REQUESTS)
async def test_abuse_56_bad_request_is_an_invalid_argument_and_keeps_the_token(world: World, kind: str) -> None:
    token = await world.join_token()
    error = await refused(world, token, BAD_REQUESTS[kind]())
    assert isinstance(error, errors.InvalidArgument)
    assert [violation.field for violation in error.violations] == ["csr_pem"]
    assert (await issue(world, token, request_for_new_key()[1])).node_id


async def test_abuse_56_huge_request_is_refused_and_keeps_the_token(world: World) -> None:
    token = await world.join_token()
    error = await refused(world, token, "x" * 1_000_000)
    assert isinstance(error, errors.InvalidArgument)
    assert (await issue(world, token, request_for_new_key()[1])).node_id


async def test_abuse_56_names_in_a_request_are_ignored(world: World) -> None:
    wishes = (
        x509.BasicConstraints(ca=True, path_length=None),
        x509.SubjectAlternativeName(
            [
                x509.UniformResourceIdentifier("spiffe://pi-controller.local/svc/identity"),
                x509.DNSName("identity.pi-controller.local"),
            ]
        ),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]),
    )
    answer = await issue(world, await world.join_token(), csr(new_key(), *wishes, subject="root"))
    leaf = x509.load_pem_x509_certificates(answer.certificate_chain_pem.encode())[0]
    assert str(spiffe_id_of(leaf)) == answer.spiffe_id
    assert answer.spiffe_id.startswith("spiffe://pi-controller.local/node/")
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {f"{answer.node_id}.node.pi-controller.local", "localhost"}
    assert leaf.subject == x509.Name([])


async def test_abuse_56_strong_keys_of_other_kinds_are_taken(world: World) -> None:
    for key in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 3072)):
        assert (await issue(world, await world.join_token(), csr(key))).node_id


async def test_abuse_58_lost_answer_is_given_again_after_a_restart_but_not_for_another_key(tmp_path: Path) -> None:
    (_, mine), (_, other) = request_for_new_key(), request_for_new_key()
    async with running(tmp_path, Settings()) as world:
        token = await world.join_token()
        first = await issue(world, token, mine)
    async with serving_again(world):
        assert await issue(world, token, mine) == first
        assert (await refused(world, token, other)).reason == "TOKEN_USED"


async def test_abuse_61_secret_is_in_no_file_log_event_or_error(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.handler.setFormatter(logs.JsonFormatter())
    token = await world.join_token(description="garage")
    secret = joining.parse_token(token).secret
    said = [str(await refused(world, token, "rubbish")), str(await refused(world, token + "x", request_for_new_key()[1]))]
    answer = await issue(world, token, request_for_new_key()[1])
    said.append(str(await refused(world, token, request_for_new_key()[1])))
    said += [str(answer), json.dumps(world.events()), caplog.text, str([record.__dict__ for record in caplog.records])]
    assert "token.used" in said[-3]
    assert not any(secret in text for text in said)
    files = [path for path in (world.root / "identity").rglob("*") if path.is_file()]
    assert {"identity.db", "identity.db-wal"} <= {path.name for path in files}
    assert not any(secret.encode() in path.read_bytes() for path in files)


def issuing_of(world: World) -> Signer:
    [path] = (world.root / "identity" / "ca").glob("issuing-*.pem")
    pem = path.read_bytes()
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Signer(key, x509.load_pem_x509_certificates(pem)[0])


def member(world: World, chain_pem: bytes, key_pem: bytes) -> IdentityFolder:
    """Return an identity that was not checked by anybody."""
    gpio = world.folder("gpio")
    folder = IdentityFolder(world.root / "intruder")
    c = gpio.credentials
    folder.store(Credentials(key_pem, chain_pem, c.spiffe_id, c.not_before, c.not_after, c.serial), gpio.trust)
    return folder


def certified(world: World, kind: str) -> IdentityFolder:
    """Return ``svc/gpio`` with a certificate that is wrong in one respect, signed by the world's own authority where that is possible."""
    key, signer = new_key(), issuing_of(world)
    gpio, now, day = world.folder("gpio").credentials.spiffe_id, datetime.now(UTC), timedelta(days=1)
    if kind == "other root":
        return member(world, FakeAuthority().certificate(key.public_key(), str(gpio)), key_to_pem(key))
    start = {"expired": now - 2 * day, "not yet valid": now + day}.get(kind, now - day / 24)
    good = x509.load_pem_x509_certificates(authority.issue(signer, gpio, key.public_key(), now, day).chain_pem.encode())[0]
    builder = (
        x509.CertificateBuilder()
        .subject_name(good.subject)
        .issuer_name(good.issuer)
        .public_key(key.public_key())
        .serial_number(good.serial_number)
        .not_valid_before(start)
        .not_valid_after(start + day)
    )
    for extension in good.extensions:
        value = extension.value
        if isinstance(value, x509.ExtendedKeyUsage) and kind == "wrong usage":
            value = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(value, extension.critical)
    leaf = builder.sign(signer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return member(world, leaf + (b"" if kind == "no issuing authority" else signer.chain_pem()), key_to_pem(key))


@pytest.mark.parametrize("kind", ["other root", "expired", "not yet valid", "wrong usage", "no issuing authority"])
async def test_abuse_32_bad_certificate_is_refused_in_the_handshake(world: World, kind: str) -> None:
    stub = world.stub(certified(world, kind))
    with pytest.raises(errors.Unavailable):
        await rpc.unary(stub.WhoAmI, pb.WhoAmIRequest(), seconds=3)


async def test_abuse_32_certificate_of_the_same_make_without_a_fault_is_taken(world: World) -> None:
    who: pb.Principal = await rpc.unary(world.stub(certified(world, "none")).WhoAmI, pb.WhoAmIRequest())
    assert who.spiffe_id == "spiffe://pi-controller.local/svc/gpio"
