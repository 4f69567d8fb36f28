"""The harness's side of the command channel into the guest; `inside/channel.py` is the other. One request a connection."""

import json
import socket
from collections.abc import Mapping
from typing import Any

from tests.real.pi3b.faults import HarnessError

GUEST_PORT = 1

SLACK = 30.0
"""Seconds that a request may take beyond its own limit: one emulated processor does everything, on a machine that others use too."""


class Channel:
    """Requests to one guest."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._token = token

    def ask(self, operation: str, body: bytes = b"", limit: float = 0.0, **fields: object) -> tuple[Mapping[str, Any], bytes]:
        """The answer and the bytes that came with it; raises HarnessError when the guest cannot be reached or refuses."""
        header = {"operation": operation, "token": self._token, "size": len(body), **fields}
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=limit + SLACK) as connection:
                connection.sendall(json.dumps(header).encode() + b"\n" + body)
                with connection.makefile("rb") as stream:
                    line = stream.readline()
                    # QEMU accepts for the guest, so a guest that does not listen shows as an end without an answer.
                    if not line:
                        raise HarnessError(f"the guest closed the connection without answering {operation}")
                    answer = json.loads(line)
                    content = stream.read(answer["size"])
        except OSError as error:
            raise HarnessError(f"the guest did not answer {operation} within {limit + SLACK:.0f} s: {error}") from error
        if "error" in answer:
            raise HarnessError(f"{operation} in the guest: {answer['error']}")
        if len(content) != answer["size"]:
            raise HarnessError(f"the guest's answer to {operation} broke off after {len(content)} of {answer['size']} bytes")
        return answer, content
