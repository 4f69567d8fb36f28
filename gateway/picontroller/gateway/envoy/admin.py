"""Envoy's administration, over a Unix socket that only this user may open. It is never reachable from the network."""

import asyncio
from pathlib import Path


async def ask(socket: Path, method: str, path: str, *, seconds: float = 2.0) -> tuple[int, str]:
    """Return status and body of a request to the administration. Raises OSError when nobody answers in time."""
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write(f"{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode())
                raw = await reader.read(-1)
            finally:
                writer.close()
    except TimeoutError as error:
        raise OSError(f"envoy's administration did not answer within {seconds:g} s") from error
    head, _, body = raw.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[1].isdigit():
        raise OSError("envoy's administration answered something else than HTTP")
    return int(words[1]), body.decode(errors="replace")


async def is_ready(socket: Path) -> bool:
    """Return whether Envoy takes requests."""
    try:
        status, _ = await ask(socket, "GET", "/ready")
    except OSError:
        return False
    return status == 200
