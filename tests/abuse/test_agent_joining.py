"""Abuse of the join flow as the Pi meets it: somebody in between."""

import asyncio
import ssl
from pathlib import Path

import pytest

from picontroller.agent import joining
from picontroller.core.clock import SystemClock
from picontroller.core.errors import FailedPrecondition
from tests.fakes.authority import FakeAuthority
from tests.fakes.control_plane import running_control_plane


async def test_abuse_54_wrong_root_ends_the_join_before_the_secret_is_sent(tmp_path: Path) -> None:
    """A man in the middle ends TLS with a certificate of his own and sees every byte that was meant for the gateway."""
    heard = bytearray()
    mallory = FakeAuthority().identity(tmp_path / "mallory", "gateway")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(mallory.path / "identity.pem")
    context.set_alpn_protocols(["h2", "http/1.1"])

    async with running_control_plane(tmp_path) as plane:

        async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.extend(await reader.read(65536))
            body = mallory.trust.roots_pem
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(between, "127.0.0.1", 0, ssl=context)
        async with server:
            address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with pytest.raises(FailedPrecondition) as caught:
                await joining.join(address, plane.token, tmp_path / "agent", SystemClock())
        assert caught.value.reason == "ROOT_MISMATCH"
        assert heard.startswith(b"GET /ca.pem HTTP/1.1\r\n")
        for part in (plane.secret, plane.token, "CERTIFICATE REQUEST"):
            assert part.encode() not in heard
        assert plane.issued == []


async def test_abuse_54_wrong_root_behind_the_right_file_ends_the_join_before_the_secret_is_sent(tmp_path: Path) -> None:
    """He passes the true root on, and then ends TLS himself: he can't prove that he belongs to it."""
    heard = bytearray()
    mallory = FakeAuthority().identity(tmp_path / "mallory", "gateway")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(mallory.path / "identity.pem")
    context.set_alpn_protocols(["h2", "http/1.1"])

    async with running_control_plane(tmp_path) as plane:

        async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = await reader.read(65536)
            heard.extend(request)
            if request.startswith(b"GET "):
                body = plane.authority.roots_pem
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
                await writer.drain()
            else:
                heard.extend(await reader.read(65536))
            writer.close()

        server = await asyncio.start_server(between, "127.0.0.1", 0, ssl=context)
        async with server:
            address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with pytest.raises(FailedPrecondition) as caught:
                await joining.join(address, plane.token, tmp_path / "agent", SystemClock())
        assert caught.value.reason == "ROOT_MISMATCH"
        assert plane.secret.encode() not in heard
        assert plane.issued == []
