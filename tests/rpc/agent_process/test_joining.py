"""Joining over real TLS: the root's file, the pin, and the calls of the first and the last day."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from picontroller.agent import commands, joining
from picontroller.agent.addresses import listen_address, mac_address_of, reach
from picontroller.agent.admission import membership, roots
from picontroller.core.clock import SystemClock
from picontroller.core.errors import FailedPrecondition, InvalidArgument, Unauthenticated, Unavailable
from picontroller.core.tls.joining import JoinTokenParts, new_secret, parse_token
from tests.fakes.authority import FakeAuthority
from tests.fakes.control_plane import NODE_ID, FakeControlPlane


@asynccontextmanager
async def https(folder: Path, answer: bytes, *, hang: bool = False) -> AsyncIterator[str]:
    """An HTTPS server that answers every request with these bytes."""
    identity = FakeAuthority().identity(folder / "server", "gateway")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.path / "identity.pem")

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            writer.write(answer)
            await writer.drain()
        except OSError:
            pass
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_join_and_leave_when_all_is_well(plane: FakeControlPlane, tmp_path: Path) -> None:
    folder = tmp_path / "agent"
    joined = await commands.join(plane.address, plane.token, folder)
    assert joined == membership.Membership(plane.address, NODE_ID)
    assert await commands.leave(folder) == joined
    assert plane.unregistered == [NODE_ID]
    assert not membership.identity_of(folder).exists()


async def test_join_when_the_answer_was_lost_gets_through_with_one_key(plane: FakeControlPlane, tmp_path: Path) -> None:
    plane.lost_answers = 2
    await commands.join(plane.address, plane.token, tmp_path / "agent")
    assert len(plane.issued) == 3
    assert len(set(plane.issued)) == 1


async def test_join_when_the_token_is_wrong_is_refused_and_nothing_is_kept(plane: FakeControlPlane, tmp_path: Path) -> None:
    right = parse_token(plane.token)
    wrong = JoinTokenParts(right.root_hash, right.id, new_secret()).text()
    with pytest.raises(Unauthenticated, match="pictl token create"):
        await commands.join(plane.address, wrong, tmp_path / "agent")
    assert not membership.identity_of(tmp_path / "agent").exists()


async def test_join_when_the_gateway_cannot_prove_the_pinned_root_is_a_mismatch(plane: FakeControlPlane, tmp_path: Path) -> None:
    other = FakeAuthority()
    plane.root_pem = other.roots_pem  # shown, and named by the token, but the gateway's certificate is of the first
    token = JoinTokenParts(joining.parse_token(plane.token).root_hash, "id", new_secret())
    token = JoinTokenParts(_hash_of(other), token.id, token.secret)
    with pytest.raises(FailedPrecondition) as caught:
        await joining.join(plane.address, token.text(), tmp_path / "agent", SystemClock())
    assert caught.value.reason == "ROOT_MISMATCH"
    assert token.secret.encode() not in plane.received
    assert plane.issued == []


async def test_leave_when_the_control_plane_is_away_keeps_everything_unless_forced(plane: FakeControlPlane, tmp_path: Path) -> None:
    folder = tmp_path / "agent"
    await commands.join(plane.address, plane.token, folder)
    membership.save(folder, membership.Membership("127.0.0.1:9", NODE_ID))
    with pytest.raises(FailedPrecondition, match="--force"):
        await commands.leave(folder)
    assert membership.identity_of(folder).exists()
    await commands.leave(folder, force=True)
    assert not membership.identity_of(folder).exists()


async def test_root_when_nobody_listens_says_what_to_check() -> None:
    with pytest.raises(Unavailable, match="connection refused; is it running") as caught:
        await asyncio.to_thread(roots.fetch_root, "127.0.0.1:9")
    assert caught.value.reason == "GATEWAY_UNREACHABLE"


async def test_root_when_the_name_is_unknown_is_unreachable() -> None:
    with pytest.raises(Unavailable):
        await asyncio.to_thread(roots.fetch_root, "nobody.invalid:8443")


async def test_root_when_the_server_has_none_names_the_status(tmp_path: Path) -> None:
    async with https(tmp_path, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") as address:
        with pytest.raises(Unavailable, match="answers 404"):
            await asyncio.to_thread(roots.fetch_root, address)


async def test_root_when_the_answer_is_endless_is_cut_off(tmp_path: Path) -> None:
    async with https(tmp_path, b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 10_000_000) as address:
        with pytest.raises(Unavailable, match="too large"):
            await asyncio.to_thread(roots.fetch_root, address)


async def test_root_when_the_answer_is_no_http_is_unreachable(tmp_path: Path) -> None:
    async with https(tmp_path, b"\x00\x01\x02 hello\r\n\r\n") as address:
        with pytest.raises(Unavailable):
            await asyncio.to_thread(roots.fetch_root, address)


async def test_root_when_the_server_speaks_no_tls_says_so() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        with pytest.raises(Unavailable, match="TLS"):
            await asyncio.to_thread(roots.fetch_root, f"127.0.0.1:{server.sockets[0].getsockname()[1]}")


async def test_address_when_wrong_is_refused_before_anything(tmp_path: Path, plane: FakeControlPlane) -> None:
    with pytest.raises(InvalidArgument, match="HOST:PORT"):
        await commands.join("not an address", plane.token, tmp_path / "agent")


async def test_reach_when_the_gateway_is_here_is_loopback(plane: FakeControlPlane) -> None:
    found = await reach(plane.address)
    assert (found.ip_address, found.mac_address) == ("127.0.0.1", "")
    with pytest.raises(Unavailable, match="no way to"):
        await reach("nobody.invalid:1")


async def test_listen_address_when_not_said_follows_the_gateway() -> None:
    assert await listen_address("10.0.0.2:1", "127.0.0.1:8443") == "10.0.0.2:1"
    assert await listen_address(None, "127.0.0.1:8443") == "127.0.0.1:7450"
    assert await listen_address(None, "unix:/run/gateway.sock") == "127.0.0.1:7450"
    assert await listen_address(None, "nobody.invalid:8443") == "0.0.0.0:7450"


def test_mac_address_when_nobody_has_the_address_is_empty() -> None:
    assert mac_address_of("192.0.2.1") == ""
    assert mac_address_of("2001:db8::1") == ""


def _hash_of(authority: FakeAuthority) -> bytes:
    from picontroller.core.tls.joining import root_hash

    return root_hash(authority.root)
