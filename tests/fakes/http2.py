"""HTTP/2 by hand over TLS, for what no well-behaved client can be brought to do. Blocking: call it in a thread."""

import socket
import ssl
import struct
from collections.abc import Sequence
from pathlib import Path

import h2.config
import h2.connection
import h2.events

SECONDS = 10.0
Headers = dict[str, str]


class RawConnection:
    """One connection to ``address`` (``HOST:PORT``), whose server is called ``name``, with the certificate in ``pem``."""

    def __init__(self, address: str, name: str, roots_pem: bytes, pem: Path | None, *, newest: ssl.TLSVersion | None = None) -> None:
        context = ssl.create_default_context(cadata=roots_pem.decode())
        if pem is not None:
            context.load_cert_chain(pem)
        context.set_alpn_protocols(["h2"])
        if newest is not None:
            context.maximum_version = newest
        host, _, port = address.rpartition(":")
        self._name = name
        plain = socket.create_connection((host, int(port)), SECONDS)
        try:
            self.socket = context.wrap_socket(plain, server_hostname=name)
        except BaseException:
            plain.close()
            raise
        self.http2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.http2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Send what was prepared."""
        self.socket.sendall(self.http2.data_to_send())

    def receive(self) -> list[h2.events.Event]:
        """Return what came; nothing at all when the other side closed."""
        data = self.socket.recv(65536)
        found: list[h2.events.Event] = self.http2.receive_data(data) if data else []
        self.flush()
        return found or ([h2.events.Event()] if data else [])

    def grpc(self, path: str, messages: Sequence[bytes], *, encoding: str = "") -> Headers:
        """Call a gRPC method and return all headers of the answer. ``messages`` are as on the wire, compressed when ``encoding`` says how.

        Raises ConnectionError when the connection ends before.
        """
        stream = self.http2.get_next_available_stream_id()
        headers = [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", path),
            (":authority", self._name),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]
        self.http2.send_headers(stream, [*headers, ("grpc-encoding", encoding)] if encoding else headers)
        rest = b"".join(struct.pack(">?I", bool(encoding), len(message)) + message for message in messages)
        answer: Headers = {}
        ended = False
        while True:
            while not ended:
                room = min(self.http2.local_flow_control_window(stream), self.http2.max_outbound_frame_size)
                if room <= 0 and rest:
                    break
                piece, rest = rest[:room], rest[room:]
                ended = not rest
                self.http2.send_data(stream, piece, end_stream=ended)
            self.flush()
            came = self.receive()
            if not came:
                raise ConnectionError("the connection was closed")
            for event in came:
                if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                    answer |= {str(name): str(value) for name, value in event.headers}
                elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                    return answer

    def close(self) -> None:
        """Leave without a word."""
        self.socket.close()
