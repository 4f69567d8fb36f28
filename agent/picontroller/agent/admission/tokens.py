"""Reading a join token: from a file, from standard input, or, with a warning, from the command line.

What stands on a command line can be read by every user of the machine for as long as the process lives. A token given that way is taken off
it by starting the same program again with the token in an unnamed file in memory; it was visible for the moment until then, and stays in
the shell's history.
"""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from picontroller.core.errors import FailedPrecondition, InvalidArgument

log = logging.getLogger(__name__)

LARGEST_BYTES = 4096
OPTION, FILE_OPTION = "--token", "--token-file"


def read_token(source: str) -> str:
    """Return the token in the file ``source``, or on standard input for ``-``. Raises InvalidArgument and FailedPrecondition."""
    try:
        if source == "-":
            raw = sys.stdin.buffer.read(LARGEST_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                raw = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise FailedPrecondition(f"{source} can't be read: {error.strerror}", reason="TOKEN_FILE_UNREADABLE") from error
    text = raw.decode("ascii", errors="replace").strip()
    if not text or len(raw) > LARGEST_BYTES:
        what = "is empty" if not text else "is too large to be a token"
        raise InvalidArgument(f"{'standard input' if source == '-' else source} {what}", reason="TOKEN_MALFORMED")
    return text


def scrubbed(command: Sequence[str], path: str) -> list[str] | None:
    """Return ``command`` with the token in it replaced by the file ``path``; None when it can't be found there."""
    words = list(command)
    for index, word in enumerate(words):
        if word == OPTION and index + 1 < len(words):
            return [*words[:index], FILE_OPTION, path, *words[index + 2 :]]
        if word.startswith(f"{OPTION}="):
            return [*words[:index], FILE_OPTION, path, *words[index + 1 :]]
    return None


def hide_token(token: str) -> None:
    """Start this program again without the token on its command line. Returns only where that is not possible."""
    log.warning("a token on the command line can be read by every user of this machine; better: --token-file FILE, or - for standard input")
    descriptor = os.memfd_create("join-token", 0)  # not closed by exec
    os.write(descriptor, token.encode())
    command = scrubbed(sys.orig_argv, f"/proc/self/fd/{descriptor}")
    if command is None:
        os.close(descriptor)
        return
    sys.stderr.flush()
    os.execv(sys.executable, command)  # noqa: S606 - the very program that runs already
