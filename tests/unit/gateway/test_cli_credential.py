"""The command line's own files: whatever a renewal left behind, a whole pair comes out of it."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from picontroller.core.contexts import Context
from picontroller.core.errors import FailedPrecondition
from picontroller.core.files import write_secret
from picontroller.core.tls.identity import Credentials
from picontroller.gateway.cli.trust import credential
from tests.fakes.authority import FakeAuthority


@dataclass
class Files:
    """A context's pair, with an older and a newer one that could be in it."""

    folder: Path
    old: Credentials
    new: Credentials

    @property
    def context(self) -> Context:
        return Context("x", "127.0.0.1:1", str(self.folder / "ca.pem"), str(self.folder / "client.pem"), str(self.folder / "client.key"))

    def write(self, **content: bytes) -> None:
        for name, each in content.items():
            write_secret(self.folder / name.replace("_", "."), each)

    def loaded(self) -> tuple[bytes, bytes]:
        return credential.load_pair(self.context)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def files(tmp_path: Path) -> Files:
    authority = FakeAuthority()
    old, new = (authority.identity(tmp_path / name, "user/admin").credentials for name in ("old", "new"))
    made = Files(tmp_path / "mine", old, new)
    made.write(client_key=old.key_pem, client_pem=old.chain_pem)
    return made


def test_pair_when_replaced_is_the_new_one(files: Files) -> None:
    credential.store_pair(files.folder / "client.key", files.folder / "client.pem", files.new.key_pem, files.new.chain_pem)
    assert files.loaded() == (files.new.key_pem, files.new.chain_pem)
    assert files.names() == ["client.key", "client.pem"]
    assert {path.stat().st_mode & 0o777 for path in files.folder.iterdir()} == {0o600}


@pytest.mark.parametrize(
    ("left", "is_new"),
    [
        (("client_key_new",), False),
        (("client_key_new", "client_pem_new"), True),
        (("client_key", "client_pem_new"), True),
        (("client_pem_new",), False),
    ],
)
def test_pair_when_a_renewal_was_stopped_is_whole(files: Files, left: tuple[str, ...], is_new: bool) -> None:
    files.write(**{name: files.new.key_pem if "key" in name else files.new.chain_pem for name in left})
    wanted = files.new if is_new else files.old
    assert files.loaded() == (wanted.key_pem, wanted.chain_pem)
    assert files.names() == ["client.key", "client.pem"]


def test_pair_when_it_does_not_belong_together_says_what_to_do(files: Files) -> None:
    files.write(client_key=files.new.key_pem)
    with pytest.raises(FailedPrecondition, match="do not belong together; the identity service") as caught:
        files.loaded()
    assert caught.value.reason == "CREDENTIAL_DAMAGED"


def test_key_when_others_may_read_it_is_refused(files: Files) -> None:
    (files.folder / "client.key").chmod(0o644)
    with pytest.raises(FailedPrecondition, match="chmod 600"):
        files.loaded()


def test_roots_when_told_are_written_only_if_they_differ(tmp_path: Path) -> None:
    one, two = FakeAuthority().roots_pem, FakeAuthority().roots_pem
    path = tmp_path / "ca.pem"
    path.write_bytes(b"# ours\n" + one)
    path.chmod(0o640)
    assert not credential.believe(path, one)
    assert path.read_bytes().startswith(b"# ours")
    assert credential.believe(path, one + two)
    assert path.read_bytes() == one + two
    assert path.stat().st_mode & 0o777 == 0o640
    assert not credential.believe(path, two + one)
    assert path.read_bytes() == one + two
