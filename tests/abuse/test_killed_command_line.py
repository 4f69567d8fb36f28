"""The command line killed while it replaces its own key and certificate (item 106 of the catalogue)."""

import random
import subprocess
import sys
import time
from pathlib import Path

from picontroller.core.contexts import Context
from picontroller.core.files import write_secret
from picontroller.core.tls.identity import credentials_from
from picontroller.gateway.cli.trust import credential
from tests.fakes.authority import FakeAuthority

KILLS = 8
REPLACING = """
import sys
from pathlib import Path
from picontroller.gateway.cli.trust import credential

folder = Path(sys.argv[1])
pairs = [[(folder / name / file).read_bytes() for file in ("key", "pem")] for name in ("one", "two")]
print("ready", flush=True)
while True:
    for key, chain in pairs:
        credential.store_pair(folder / "client.key", folder / "client.pem", key, chain)
"""


def test_abuse_106_killed_command_line_still_has_a_whole_pair(tmp_path: Path) -> None:
    authority = FakeAuthority()
    serials = set()
    for name in ("one", "two"):
        made = authority.identity(tmp_path / name / "tls", "user/admin").credentials
        write_secret(tmp_path / name / "key", made.key_pem)
        write_secret(tmp_path / name / "pem", made.chain_pem)
        serials.add(made.serial)
    credential.store_pair(
        tmp_path / "client.key", tmp_path / "client.pem", (tmp_path / "one" / "key").read_bytes(), (tmp_path / "one" / "pem").read_bytes()
    )
    context = Context("x", "127.0.0.1:1", "", str(tmp_path / "client.pem"), str(tmp_path / "client.key"))
    chance = random.Random(106)
    for _ in range(KILLS):
        with subprocess.Popen([sys.executable, "-c", REPLACING, str(tmp_path)], stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == b"ready\n"
                time.sleep(chance.uniform(0.005, 0.1))  # the moment of the kill, not a wait for anything
            finally:
                process.kill()
        assert credentials_from(*credential.load_pair(context)).serial in serials
        assert sorted(path.name for path in tmp_path.glob("client.*.new")) == []
