"""The archive format of an initramfs: newc, everything owned by root, nothing that changes from one packing to the next.

The kernel unpacks concatenated archives one after the other, a later file replacing an earlier one, which is what makes layers.
"""

import stat
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import BinaryIO


@dataclass(slots=True)
class Tree:
    """Files, folders and links by path (relative, no leading slash); packing adds the folders that paths imply."""

    entries: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    def file(self, path: str, content: bytes, executable: bool = False) -> None:
        """Add or replace a file."""
        self.entries[path] = (stat.S_IFREG | (0o755 if executable else 0o644), content)

    def folder(self, path: str) -> None:
        """Add a folder, which need not be done for one that has something in it."""
        self.entries.setdefault(path, (stat.S_IFDIR | 0o755, b""))

    def link(self, path: str, target: str) -> None:
        """Add or replace a symbolic link."""
        self.entries[path] = (stat.S_IFLNK | 0o777, target.encode())

    def pack(self, out: BinaryIO) -> None:
        """Write one archive, padded so that another may follow."""
        entries = dict(self.entries)
        for path in self.entries:
            for parent in PurePosixPath(path).parents:
                if str(parent) != "." and str(parent) not in entries:
                    entries[str(parent)] = (stat.S_IFDIR | 0o755, b"")
        # Sorted, so that folders precede what is in them.
        for number, (path, (mode, content)) in enumerate(sorted(entries.items()), start=1):
            _entry(out, path, number, mode, content)
        _entry(out, "TRAILER!!!", 0, 0, b"")


def _entry(out: BinaryIO, path: str, number: int, mode: int, content: bytes) -> None:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (number, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08x" % value for value in fields) + name
    out.write(header + bytes(-len(header) % 4))
    out.write(content + bytes(-len(content) % 4))
