"""The frequency of this machine's time stamp counter, which is what an emulated processor shows its guest.

The guest would find it out by itself with a timer that is emulated too; on a busy machine that fails, and its clock has steps of 4 ms.
"""

import ctypes
import mmap
import time
from functools import cache

# rdtsc; shl rdx, 32; or rax, rdx; ret
READ = bytes((0x0F, 0x31, 0x48, 0xC1, 0xE2, 0x20, 0x48, 0x09, 0xD0, 0xC3))
APART_SECONDS = 0.1


@cache
def kilohertz() -> int:
    """Measure once, for a tenth of a second; some parts in a hundred thousand off at most."""
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
        page.write(READ)
        place = ctypes.c_char.from_buffer(page)
        counter = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(place))
        began, first = _together(counter)
        time.sleep(APART_SECONDS)
        ended, last = _together(counter)
        del counter, place  # the page can't be closed while something points into it
    return round((last - first) * 1e6 / (ended - began))


def _together(counter: "ctypes._FuncPointer") -> tuple[int, int]:
    """The clock in nanoseconds and the counter, read as one: the tightest of some attempts, for another process may come between."""
    attempts = []
    for _ in range(20):
        before = time.monotonic_ns()
        ticks = counter()
        after = time.monotonic_ns()
        attempts.append((after - before, (before + after) // 2, ticks))
    _, when, ticks = min(attempts)
    return when, ticks
