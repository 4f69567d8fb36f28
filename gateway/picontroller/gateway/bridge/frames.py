"""WebSocket framing that says why it ends: a client that breaks the protocol gets the close frame before the connection goes.

Uvicorn closes at once. A socket that is closed with unread data is reset, and the close frame (1009, 1007) is often lost with it; so what
the client still sends is read and dropped for a moment.
"""

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

FAREWELL_SECONDS = 1.0


class PoliteWebSocket(WebSocketsSansIOProtocol):
    """Uvicorn's WebSocket protocol with a farewell."""

    _dropping = False

    def data_received(self, data: bytes) -> None:
        """Take what the client sends; nothing of it counts once it has broken the protocol."""
        if not self._dropping:
            super().data_received(data)

    def handle_parser_exception(self) -> None:
        """Send the close frame that the protocol has ready, tell the application, and give the client a moment to read."""
        sent = self.conn.close_sent
        if sent is None:
            raise RuntimeError("the protocol failed without a close frame")
        self._dropping = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": sent.code, "reason": sent.reason})
        self.stop_keepalive()
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(FAREWELL_SECONDS, self.transport.close)

    def eof_received(self) -> None:
        """Close when the client has."""
        if self._dropping:
            self.transport.close()
