"""Becomes Envoy, after asking the kernel to end it together with its parent: an orphan would hold the port for ever.

Run as a script of its own, ``python -I -S launcher.py PARENT PROGRAM ARGUMENT…``, because code between fork and exec is not safe in a
process with threads. Standard library only.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Replace this process by the program named."""
    parent, program = int(sys.argv[1]), sys.argv[2]
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before the kernel knew of our wish
        sys.exit(1)
    os.umask(0o077)  # its logs say who did what
    os.execv(program, sys.argv[2:])  # noqa: S606 - the program is the one the supervisor found; no shell is wanted


if __name__ == "__main__":
    main()
