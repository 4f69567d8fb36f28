"""The prototype of a guardian: holds duplicates of line requests that another process made, standard library only.

It speaks a line of JSON each way on its standard streams: `[verb, argument …]` in, `{"errno": …, "microseconds": …, …}` out.
"""

import array
import fcntl
import json
import os
import socket
import struct
import sys
import time

SET_CONFIG, GET_VALUES, SET_VALUES = 0xC110B40D, 0xC010B40E, 0xC010B40F
INPUT, OUTPUT = 1 << 2, 1 << 3
OUTPUT_VALUES = 2
"""The attribute's id of levels for lines that a configuration makes outputs."""


def set_values(fd: int, bits: int, mask: int) -> None:
    """Drive lines of a request; bits count the lines in the order of the request, not the chip's offsets."""
    fcntl.ioctl(fd, SET_VALUES, struct.pack("=QQ", bits, mask))


def get_values(fd: int, mask: int) -> int:
    """Levels of lines of a request."""
    return struct.unpack("=QQ", fcntl.ioctl(fd, GET_VALUES, struct.pack("=QQ", 0, mask)))[0]


def set_config(fd: int, flags: int, bits: int = 0, mask: int = 0) -> None:
    """Reconfigure all lines of a request at once; those of `mask` become outputs with the levels of `bits`."""
    attribute = struct.pack("=IIQQ", OUTPUT_VALUES, 0, bits, mask) if mask else b""
    packed = struct.pack("=QI20x", flags, 1 if mask else 0) + attribute
    fcntl.ioctl(fd, SET_CONFIG, packed.ljust(272, b"\0"))


class Guardian:
    """Handles by the order in which they came."""

    def __init__(self, path: str) -> None:
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(path)
        self._server.listen(8)
        self.handles: list[int] = []

    def receive(self) -> dict[str, object]:
        """Take what the next connection brings."""
        connection, _ = self._server.accept()
        with connection:
            space = socket.CMSG_SPACE(253 * array.array("i").itemsize)
            text, control, flags, _ = connection.recvmsg(4096, space, socket.MSG_CMSG_CLOEXEC)
        fds = array.array("i")
        for level, kind, data in control:
            assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            fds.frombytes(data)
        self.handles += fds
        return {"count": len(fds), "truncated": bool(flags & socket.MSG_CTRUNC), "text": text.decode()}

    def set(self, index: int, bits: int, mask: int) -> dict[str, object]:
        set_values(self.handles[index], bits, mask)
        return {}

    def set_all(self, bits: int, mask: int) -> dict[str, object]:
        for handle in self.handles:
            set_values(handle, bits, mask)
        return {}

    def get(self, index: int, mask: int) -> dict[str, object]:
        return {"bits": get_values(self.handles[index], mask)}

    def input(self, index: int) -> dict[str, object]:
        set_config(self.handles[index], INPUT)
        return {}

    def output(self, index: int, bits: int, mask: int) -> dict[str, object]:
        set_config(self.handles[index], OUTPUT, bits, mask)
        return {}

    def send(self, path: str) -> dict[str, object]:
        """Hand all handles on, as the holder did."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(path)
            socket.send_fds(connection, [b"lines"], self.handles)
        return {}

    def event(self, index: int) -> dict[str, object]:
        os.set_blocking(self.handles[index], False)
        found = os.read(self.handles[index], 48)
        return {"line_sequence": struct.unpack_from("=QIIII", found)[4]}

    def open(self, device: str) -> dict[str, object]:
        """What the guardian may do by itself."""
        os.close(os.open(device, os.O_RDWR))
        return {"user": os.getuid()}

    def close(self) -> dict[str, object]:
        for handle in self.handles:
            os.close(handle)
        self.handles.clear()
        return {}


def main() -> None:
    """Serve until the end of the input."""
    guardian = Guardian(sys.argv[1])
    print(json.dumps({"modules": sorted(name for name in sys.modules if name in {"gpiod", "grpc", "picontroller"})}), flush=True)
    for line in sys.stdin:
        verb, *arguments = json.loads(line)
        began = time.monotonic_ns()
        answer: dict[str, object] = {"errno": 0}
        try:
            answer |= getattr(guardian, verb)(*arguments)
        except OSError as error:
            answer["errno"] = error.errno
        print(json.dumps({**answer, "microseconds": (time.monotonic_ns() - began) // 1000}), flush=True)


if __name__ == "__main__":
    main()
