"""Our certificates under OpenSSL's strict verification; BoringSSL's is what every other test here goes through."""

import ssl
from pathlib import Path

import pytest

from tests.rpc.identity.world import World


def context(world: World, member: str, purpose: ssl.Purpose, folder: Path) -> ssl.SSLContext:
    identity = world.folder(member)
    made = ssl.create_default_context(purpose, cadata=identity.trust.roots_pem.decode())
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.load_cert_chain(identity.path / "identity.pem")
    return made


def shake_hands(
    client: ssl.SSLObject, server: ssl.SSLObject, pipes: tuple[ssl.MemoryBIO, ssl.MemoryBIO, ssl.MemoryBIO, ssl.MemoryBIO]
) -> None:
    """Let both sides speak until both are done. Raises what either objects to."""
    to_client, from_client, to_server, from_server = pipes
    open_sides = [client, server]
    for _ in range(10):
        for side in list(open_sides):
            try:
                side.do_handshake()
                open_sides.remove(side)
            except ssl.SSLWantReadError:
                pass
            to_server.write(from_client.read())
            to_client.write(from_server.read())
        if not open_sides:
            return
    raise AssertionError("the handshake did not come to an end")


@pytest.mark.parametrize("name", ["gateway.pi-controller.local", "localhost", "127.0.0.1", "::1", "192.0.2.7", "pi.example.org"])
async def test_certificates_when_verified_strictly_by_openssl_are_good(world: World, tmp_path: Path, name: str) -> None:
    pipes = (ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO())
    client = context(world, "gpio", ssl.Purpose.SERVER_AUTH, tmp_path).wrap_bio(pipes[0], pipes[1], server_hostname=name)
    server = context(world, "gateway/edge", ssl.Purpose.CLIENT_AUTH, tmp_path).wrap_bio(pipes[2], pipes[3], server_side=True)
    shake_hands(client, server, pipes)
    assert ("URI", "spiffe://pi-controller.local/gateway") in client.getpeercert()["subjectAltName"]  # type: ignore[index]  # it was verified
    assert ("URI", "spiffe://pi-controller.local/svc/gpio") in server.getpeercert()["subjectAltName"]  # type: ignore[index]  # it was verified


async def test_certificates_when_asked_for_another_name_are_refused_by_openssl(world: World, tmp_path: Path) -> None:
    pipes = (ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO())
    client = context(world, "gpio", ssl.Purpose.SERVER_AUTH, tmp_path).wrap_bio(
        pipes[0], pipes[1], server_hostname="events.pi-controller.local"
    )
    server = context(world, "gateway/edge", ssl.Purpose.CLIENT_AUTH, tmp_path).wrap_bio(pipes[2], pipes[3], server_side=True)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client, server, pipes)
