"""The data folder's own rules: what is made for members is for nobody else."""

from pathlib import Path

from picontroller.core.tls.identity import IdentityFolder
from picontroller.host.layout import open_layout
from tests.fakes.authority import FakeAuthority


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_folders_when_made_are_for_nobody_else(tmp_path: Path) -> None:
    root = tmp_path / "data"
    open_layout(root)
    identity: IdentityFolder = FakeAuthority().identity(root / "events" / "tls", "svc/events")
    identity.denials.add([], 1)
    assert [mode(path) for path in (root, root / "events", root / "events" / "tls")] == [0o700] * 3


def test_members_folder_when_open_to_others_is_closed_at_the_next_start(tmp_path: Path) -> None:
    root = tmp_path / "data"
    open_layout(root)
    (root / "events").mkdir(mode=0o755)
    (root / "events").chmod(0o755)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    elsewhere.chmod(0o755)
    (root / "link").symlink_to(elsewhere)
    open_layout(root)
    assert mode(root / "events") == 0o700
    assert mode(elsewhere) == 0o755, "what a link names is not ours"
