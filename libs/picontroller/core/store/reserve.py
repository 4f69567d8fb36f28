"""Room on the disk that is kept for what must work even when it is full: a file beside the database that is given up then.

It is made again when there is room to spare. It holds nothing; whoever deletes it loses only that.
"""

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

ROOM_TO_SPARE = 4  # times its size must be free for it to be made: it is to lessen the harm of a full disk, not to fill one


class Reserve:
    """A file of ``size`` bytes at ``path``; with 0 bytes there is none. Call everything from one thread."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._wanted = size > 0 and not path.exists()

    def make(self) -> None:
        """Make the file if it is missing and there is room to spare. After a failure in spite of that it waits for the next start."""
        if not self._wanted:
            return
        free = os.statvfs(self._path.parent)
        if free.f_bavail * free.f_frsize < ROOM_TO_SPARE * self._size:
            return
        self._wanted = False
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._path.unlink(missing_ok=True)
            log.warning("no room could be reserved on the disk", extra={"file": str(self._path), "error": str(error)})

    def give_up(self) -> bool:
        """Remove the file and return whether that made room."""
        if not self._size or not self._path.exists():
            return False
        self._path.unlink()
        self._wanted = True
        log.warning("the disk is full; reserved room was given up for an urgent change", extra={"file": str(self._path)})
        return True
