"""Files that must never be seen half written, and secrets that nobody else may read."""

import os
import secrets
import stat
from pathlib import Path

from picontroller.core.errors import FailedPrecondition


def write_atomically(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replace ``path`` by ``content``: a reader, or a crash at any moment, sees the old file or the new one.

    The temporary file gets its mode before its first byte, so that a secret is never readable by others.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_secret(path: Path, content: bytes) -> None:
    """Write ``content`` atomically with mode 0600 in a folder that is made with mode 0700."""
    make_private_folder(path.parent)
    write_atomically(path, content, mode=0o600)


def read_secret(path: Path) -> bytes:
    """Return a secret's content, or refuse when others could have read or swapped it (as sshd does).

    Raises FailedPrecondition naming the file and the command that mends it.
    """
    try:
        status = path.lstat()
    except FileNotFoundError as error:
        raise FailedPrecondition(f"{path} does not exist", reason="SECRET_MISSING") from error
    if stat.S_ISLNK(status.st_mode):
        raise FailedPrecondition(f"{path} is a symbolic link; secrets must be plain files", reason="SECRET_UNSAFE")
    if status.st_uid not in (os.geteuid(), 0):
        raise FailedPrecondition(f"{path} belongs to another user; run: chown {os.geteuid()} {path}", reason="SECRET_UNSAFE")
    if status.st_mode & 0o077:
        raise FailedPrecondition(f"{path} can be read by others; run: chmod 600 {path}", reason="SECRET_UNSAFE")
    return path.read_bytes()


def make_private_folder(path: Path) -> None:
    """Make a folder, and those of its parents that are missing, that only this user may enter. Existing ones are left as they are."""
    for folder in reversed([path, *path.parents]):
        folder.mkdir(mode=0o700, exist_ok=True)


def sync_folder(path: Path) -> None:
    """Make a rename within ``path`` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
