"""Trust at the command line: certificates, API tokens, the way to a new root, and what is told to those who are shut out."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from picontroller.core.tls.identity import credentials_from
from tests.fakes.authority import FakeAuthority
from tests.integration.plane import PICTL, Plane, embedded, wait_for

pytestmark = pytest.mark.timeout(180)
LONG_AGO = 1_000_000_000


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    with embedded(tmp_path_factory.mktemp("trust"), simulate=1) as running:
        running.ready_nodes(1)
        yield running


@dataclass
class Far:
    """A command line on another machine, with copies of the admin's credential."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "XDG_CONFIG_HOME": str(self.folder / "config"), "HOME": str(self.folder)}

    def run(self, *arguments: str, check: bool = True, **extra: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [PICTL, *arguments], env={**self.environment, **extra}, capture_output=True, text=True, timeout=60, check=False
        )
        assert not check or done.returncode == 0, f"pictl {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def serial(self) -> str:
        return credentials_from((self.folder / "client.key").read_bytes(), (self.folder / "client.pem").read_bytes()).serial

    def roots(self) -> int:
        return (self.folder / "ca.pem").read_text().count("BEGIN")

    def has_not_looked_for_long(self) -> None:
        os.utime(self.folder / "ca.pem", (LONG_AGO, LONG_AGO))


def far(plane: Plane, folder: Path, *, token: bool = False) -> Far:
    folder.mkdir()
    for name in ("ca.pem", "client.pem", "client.key", "token"):
        shutil.copy2(plane.admin / name, folder / name)
    made = Far(folder)
    proof = ["--token-file", str(folder / "token")]
    if not token:
        proof = ["--client-cert-file", str(folder / "client.pem"), "--client-key-file", str(folder / "client.key")]
    made.run("context", "add", "far", "--server", plane.url.removeprefix("https://"), "--ca-file", str(folder / "ca.pem"), *proof)
    return made


def test_certificates_when_listed_say_what_they_are_worth(plane: Plane, tmp_path: Path) -> None:
    user = far(plane, tmp_path / "user")
    old = user.serial()
    ends = user.run("cert", "renew").stdout.strip()
    assert ends.endswith("Z")
    assert user.serial() != old
    assert {path.stat().st_mode & 0o777 for path in user.folder.glob("client.*")} == {0o600}
    assert sorted(path.name for path in user.folder.glob("client.*")) == ["client.key", "client.pem"]
    listed = user.run("cert", "list", "--identity", "/user/admin").stdout
    assert all(serial in listed for serial in (old, user.serial()))
    assert user.run("cert", "revoke", user.serial(), check=False).returncode == 2
    warned = user.run("cert", "revoke", user.serial(), check=False).stderr
    assert "YOUR OWN" in warned
    assert "--yes" in warned
    assert user.run("cert", "revoke", user.serial(), "--reason", "lost", "--yes").stdout.strip() == f"certificates/{user.serial()}"
    refused = wait_for("it is refused", lambda: (done := user.run("node", "list", check=False)).returncode and done, 5)
    assert refused.returncode == 4
    assert "PROOF_REVOKED" in refused.stderr
    assert "Try: ask an administrator" in refused.stderr
    found = json.loads(plane.pictl("cert", "list", "--state", "revoked", "-o", "json").stdout)["certificates"]
    assert [(each["serial"], each["revoke_reason"]) for each in found] == [(user.serial(), "lost")]


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["cert", "revoke", "abc123", "--yes"], 3, "CERTIFICATE_UNKNOWN"),
        (["cert", "revoke", "--identity", "/node/6f1d2c3b-0a4e-4f6d-9a51-2b7c8d9e0f11", "--yes"], 3, "IDENTITY_UNKNOWN"),
        (["cert", "revoke", "--identity", "/svc/gpio", "--yes"], 5, "Try: the same with --may-return"),
        (["cert", "rotate-ca", "--step", "retire", "--yes"], 5, "PREPARE"),
        (["cert", "renew"], 5, "API token"),
        (["token", "revoke", "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"], 3, "1b9d6bcd"),
    ],
)
def test_mistake_when_made_has_its_status_and_says_what_to_do(plane: Plane, arguments: list[str], status: int, told: str) -> None:
    done = plane.pictl(*arguments, check=False)
    assert done.returncode == status, done
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_abuse_61_tokens_made_and_revoked_are_in_no_file_log_or_database(plane: Plane, tmp_path: Path) -> None:
    admin = far(plane, tmp_path / "admin")
    join_token = admin.run("token", "create").stdout.strip()
    made = admin.run("token", "create", "--api", "--subject", "anna", "--role", "monitor", "--ttl", "30d")
    token = made.stdout.strip()
    assert "PICTL_TOKEN_FILE" in made.stderr
    user = far(plane, tmp_path / "user", token=True)
    (user.folder / "token").write_text(token)
    assert "pi-1" in user.run("node", "list").stdout
    listed = json.loads(admin.run("token", "list", "--api", "-o", "json").stdout)["api_tokens"]
    mine = next(each for each in listed if each["subject"] == "anna")
    assert mine["token"] == ""
    admin.run("token", "revoke", mine["id"])
    refused = wait_for("it is refused", lambda: (done := user.run("node", "list", check=False)).returncode and done, 5)
    assert (refused.returncode, "PROOF_REVOKED" in refused.stderr) == (4, True)
    assert "revoked" in next(line for line in admin.run("token", "list", "--api").stdout.splitlines() if mine["id"] in line)
    admin.run("token", "revoke", join_token.split(".")[2])
    admin.run("--show-completion", check=False)
    (user.folder / "token").unlink()
    secrets = [join_token.split(".")[3].encode(), token.split(".")[2].encode()]
    for place in (plane.data_dir.parent, tmp_path):
        for path in place.rglob("*"):
            if path.is_file():
                assert not [secret for secret in secrets if secret in path.read_bytes()], path


def test_rotation_when_driven_and_interrupted_leaves_nobody_out_who_looks_in(plane: Plane, tmp_path: Path) -> None:
    """``often`` is used in each state, ``once`` in the last one for the first time, ``never`` only when all is over."""
    driver, often, once, never = (far(plane, tmp_path / name) for name in ("driver", "often", "once", "never"))
    bare = far(plane, tmp_path / "bare", token=True)
    old = often.serial()
    assert driver.run("cert", "rotate-ca", "--step", "prepare", "--yes").stdout.split()[:2] == ["state", "PREPARED"]
    looks_in(often, roots=2)
    assert wait_for("members follow", lambda: driver.run("cert", "rotate-ca", "--step", "activate", "--yes", check=False).stdout)
    looks_in(often, roots=2)
    told = interrupted(driver, ["cert", "rotate-ca", "--yes"], when="RETIRING")
    assert "To go on: pictl cert rotate-ca" in told
    assert driver.serial() != old
    for each in (often, once, bare):
        looks_in(each, roots=2)
    assert old not in (often.serial(), once.serial())
    done = driver.run("cert", "rotate-ca", "--yes", "-o", "json")
    assert json.loads(done.stdout)["state"] == "STABLE"
    assert "RETIRING" not in done.stderr
    for each in (driver, often, once, bare):
        looks_in(each, roots=1)
    refused = never.run("node", "list", check=False)
    assert (refused.returncode, "ROOT_DROPPED" in refused.stderr) == (4, True), refused.stderr
    assert "dropped the root" in never.run("doctor", check=False).stdout


def looks_in(user: Far, *, roots: int) -> None:
    """Run any command, as one who has not looked for long; its files must be up to date afterwards."""
    user.has_not_looked_for_long()
    assert "pi-1" in user.run("node", "list").stdout
    assert user.roots() == roots


def interrupted(user: Far, arguments: list[str], *, when: str) -> str:
    """Run a command until it has said ``when``, interrupt it, expect 130, and return what it said."""
    errors = user.folder / "errors"
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore interrupts, and so do their children
    with errors.open("wb") as file:
        process = subprocess.Popen([PICTL, *arguments], env=user.environment, stdout=subprocess.DEVNULL, stderr=file, preexec_fn=listen)
    try:
        wait_for(f"it says {when}", lambda: when in errors.read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130, errors.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert "Traceback" not in errors.read_text()
    return errors.read_text()


def test_control_plane_when_it_is_another_one_is_told(plane: Plane, tmp_path: Path) -> None:
    user = far(plane, tmp_path / "user", token=True)
    (user.folder / "ca.pem").write_bytes(FakeAuthority().roots_pem)
    refused = user.run("node", "list", check=False)
    assert (refused.returncode, "ROOT_MISMATCH" in refused.stderr) == (5, True), refused.stderr
    assert "admin/ca.pem" in refused.stderr


def test_abuse_108_doctor_when_the_authority_is_lost_is_red_and_services_go_on(plane: Plane) -> None:
    keys = plane.data_dir / "identity" / "ca"
    assert f"the authority's keys are in {keys}" in plane.pictl("doctor").stdout
    away = keys.with_name("ca-away")
    keys.rename(away)
    try:
        done = plane.pictl("doctor", check=False)
        assert done.returncode == 1
        assert f"the authority's keys are gone: {keys}" in done.stdout
        assert "from a backup" in done.stdout
        assert "pi-1" in plane.pictl("node", "list").stdout
        away.rename(keys)
        (keys / "token-key.pem").rename(keys / "token-key.away")
        assert "token-key.pem does not exist" in plane.pictl("doctor", check=False).stdout
        (keys / "token-key.away").rename(keys / "token-key.pem")
    finally:
        if away.exists():
            away.rename(keys)
    assert "FAIL" not in plane.pictl("doctor").stdout
