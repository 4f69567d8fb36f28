"""Files that must never be half written, and secrets."""

import os
import stat
from pathlib import Path

import pytest

from picontroller.core import files
from picontroller.core.errors import FailedPrecondition


def test_secret_when_written_is_private_and_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "key.pem"
    old = os.umask(0)
    try:
        files.write_secret(path, b"secret")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert files.read_secret(path) == b"secret"
    assert [p.name for p in path.parent.iterdir()] == ["key.pem"]


def test_write_when_it_fails_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_atomically(path, b"old")
    with pytest.raises(TypeError):
        files.write_atomically(path, "not bytes")  # type: ignore[arg-type]  # the failure that is wanted
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_abuse_95_key_file_readable_by_others_or_a_link_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    files.write_secret(path, b"secret")
    path.chmod(0o644)
    with pytest.raises(FailedPrecondition, match="chmod 600"):
        files.read_secret(path)
    path.chmod(0o600)
    link = tmp_path / "link.pem"
    link.symlink_to(path)
    with pytest.raises(FailedPrecondition, match="symbolic link"):
        files.read_secret(link)


def test_abuse_95_key_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    files.write_secret(path, b"secret")
    if os.geteuid() != 0:
        # Nobody but root can give a file away: then the rule shows on a file that belongs to neither root nor us.
        foreign = next(p for p in Path("/proc").iterdir() if p.name.isdigit() and p.stat().st_uid not in (0, os.geteuid())) / "cmdline"
        with pytest.raises(FailedPrecondition, match="another user"):
            files.read_secret(foreign)
        return
    os.chown(path, 12345, 12345)
    with pytest.raises(FailedPrecondition, match="another user"):
        files.read_secret(path)
