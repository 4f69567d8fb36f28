"""Cursors: places in a journal as readers hold them.

A cursor is 44 characters of base64url: a version byte, the journal's epoch, and the position, encrypted. Encrypted, because a reader whose
filter shows it one event an hour must not learn from its cursors how many others there were; with eight bytes of zeros beside the position,
so that a cursor that was made up is recognised. A restored journal has another epoch, and says so instead of answering with other events.
"""

import base64
import binascii
import struct
import uuid

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from picontroller.core.errors import InvalidArgument, Violation

VERSION = b"\x01"
LENGTH = 44
START = "start"
_POSITION = struct.Struct(">8xq")


class Cursors:
    """Makes and reads the cursors of one journal. ``key`` has 16 bytes and is as old as the epoch. For the event loop's thread only."""

    def __init__(self, epoch: str, key: bytes) -> None:
        self._prefix = VERSION + uuid.UUID(epoch).bytes
        # One block, never two with the same content in one message: the weakness of ECB (equal blocks look equal) is the wish here, since
        # equal positions must give equal cursors.
        cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305
        self._encrypt = cipher.encryptor().update
        self._decrypt = cipher.decryptor().update

    def seal(self, position: int) -> str:
        """Return the cursor after the event with the sequence ``position``."""
        return base64.urlsafe_b64encode(self._prefix + self._encrypt(_POSITION.pack(position))).decode()

    def open(self, cursor: str, field: str = "after") -> int | None:
        """Return the position of a cursor, None for one of another journal.

        Raises InvalidArgument naming ``field`` for text that no journal of ours has made.
        """
        try:
            raw = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            raise _malformed(field) from None
        if len(cursor) != LENGTH or not raw.startswith(VERSION):
            raise _malformed(field)
        if not raw.startswith(self._prefix):
            return None
        block = self._decrypt(raw[len(self._prefix) :])
        if any(block[:8]):
            raise _malformed(field)
        (position,) = _POSITION.unpack(block)
        return int(position)


def _malformed(field: str) -> InvalidArgument:
    fault = Violation(field, "is not a cursor; use one that an event or a batch carried, or `start`")
    return InvalidArgument(f"{field} is not a cursor", reason="CURSOR_MALFORMED", violations=[fault])
