"""The data folder: one folder a member, sockets, and the version of the whole.

``schema`` holds the version of this layout from the first run on, so that a later release can tell what it opens.
"""

import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from picontroller.core.errors import FailedPrecondition
from picontroller.core.files import make_private_folder, write_atomically

LAYOUT_VERSION = 1
LONGEST_SOCKET_PATH = 100  # the kernel takes 107 bytes


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are below one data folder."""

    root: Path

    def member(self, name: str) -> Path:
        """Return the folder of a member."""
        return self.root / name

    def identity(self, name: str) -> Path:
        """Return the folder of a member's identity."""
        return self.root / name / "tls"

    @property
    def edge(self) -> Path:
        """The folder of the identity under which the gateway carries calls."""
        return self.root / "gateway" / "edge"

    @property
    def admin(self) -> Path:
        """The folder of the admin credential."""
        return self.root / "admin"

    def sockets(self) -> Path:
        """Return the folder for sockets, made for this process; a short one elsewhere when the data folder's path is too long."""
        inside = self.root / "run"
        if len(str(inside)) + len("/discovery.sock") <= LONGEST_SOCKET_PATH:
            make_private_folder(inside)
            return inside
        return Path(tempfile.mkdtemp(prefix="pictl-"))


def _is_ours(name: str) -> bool:
    """Return whether a name may be there before the layout is: an agent's folder, or the mark that another process is just writing."""
    return name == "agent" or name.startswith(".schema.")


def open_layout(root: Path) -> Layout:
    """Return the layout below ``root``, made if it is not there.

    Raises FailedPrecondition for a folder that can't be written or was made by a newer release; nothing is changed then.
    """
    try:
        make_private_folder(root)
        mark = root / "schema"
        if mark.exists():
            found = mark.read_text().strip()
            if found != str(LAYOUT_VERSION):
                raise FailedPrecondition(
                    f"{root} was made by another release (layout {found}, this one knows {LAYOUT_VERSION}); install that release",
                    reason="DATA_DIR_VERSION",
                )
        elif any(not _is_ours(entry.name) for entry in root.iterdir()):
            raise FailedPrecondition(f"{root} holds something else; choose an empty folder with --data-dir", reason="DATA_DIR_FOREIGN")
        else:
            write_atomically(mark, f"{LAYOUT_VERSION}\n".encode())
    except OSError as error:
        raise FailedPrecondition(
            f"{root} can't be used: {error.strerror}; choose another with --data-dir", reason="FOLDER_UNWRITABLE"
        ) from error
    if not os.access(root, os.W_OK | os.X_OK):
        raise FailedPrecondition(f"{root} can't be written; choose another with --data-dir", reason="FOLDER_UNWRITABLE")
    _close_to_others(root)
    return Layout(root)


def _close_to_others(root: Path) -> None:
    """Take away what others may do in members' folders: databases in them hold events and audit logs."""
    for folder in root.iterdir():
        status = folder.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_mode & 0o077 and status.st_uid == os.geteuid():
            folder.chmod(0o700)
