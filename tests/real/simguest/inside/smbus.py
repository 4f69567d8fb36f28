"""SMBus byte transfers by the kernel's own ioctl, standard library only: what shows that i2c-stub answers."""

import ctypes
import fcntl
import os
from pathlib import Path

SLAVE, FUNCS, RDWR, SMBUS = 0x0703, 0x0705, 0x0707, 0x0720
WRITE, READ = 0, 1
BYTE_DATA, WORD_DATA = 2, 3
PLAIN_I2C = 0x1
"""Bit of the functions: combined transfers of any length, which are not SMBus."""


class Transfer(ctypes.Structure):
    """struct i2c_smbus_ioctl_data."""

    _fields_ = [("read_write", ctypes.c_uint8), ("command", ctypes.c_uint8), ("size", ctypes.c_uint32), ("data", ctypes.c_void_p)]


class Bus:
    """An adapter's device file."""

    def __init__(self, device: str) -> None:
        self._fd = os.open(device, os.O_RDWR)

    def functions(self) -> int:
        """What the adapter can do, as a mask."""
        answer = ctypes.c_ulong()
        fcntl.ioctl(self._fd, FUNCS, answer)
        return answer.value

    def read(self, address: int, register: int, size: int = BYTE_DATA) -> int:
        """One register of a device. Raises OSError."""
        return self._transfer(address, READ, register, size, 0)

    def write(self, address: int, register: int, value: int, size: int = BYTE_DATA) -> None:
        """Set one register of a device. Raises OSError."""
        self._transfer(address, WRITE, register, size, value)

    def _transfer(self, address: int, direction: int, register: int, size: int, value: int) -> int:
        fcntl.ioctl(self._fd, SLAVE, address)
        data = (ctypes.c_uint8 * 34)(value & 0xFF, value >> 8)
        fcntl.ioctl(self._fd, SMBUS, Transfer(direction, register, size, ctypes.addressof(data)))
        return data[0] if size == BYTE_DATA else data[0] | data[1] << 8


def stub() -> str:
    """The device file of i2c-stub's adapter."""
    for path in Path("/sys/class/i2c-dev").glob("i2c-*/name"):
        if "stub" in path.read_text():
            return f"/dev/{path.parent.name}"
    raise FileNotFoundError("no adapter of i2c-stub")
