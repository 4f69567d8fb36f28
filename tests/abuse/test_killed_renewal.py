"""A member that is killed while it writes its new identity has the old one or the new one, never a key without its certificate."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from picontroller.core.tls.identity import IdentityFolder
from tests.fakes.authority import FakeAuthority

KILLS = 6
WRITER = """
import itertools, sys
from pathlib import Path
from picontroller.core.tls.identity import IdentityFolder
target = IdentityFolder(Path(sys.argv[1]))
sources = [IdentityFolder(Path(path)) for path in sys.argv[2:]]
for source in sources:
    source.load()
print("writing", flush=True)
for source in itertools.cycle(sources):
    target.store(source.credentials, source.trust)
"""


def test_abuse_106_member_killed_while_it_stores_a_certificate_has_a_pair_that_fits(tmp_path: Path) -> None:
    authority, chosen = FakeAuthority(), random.Random(106)
    serials = {authority.identity(tmp_path / name, "svc/gpio").credentials.serial for name in ("old", "new")}
    authority.identity(tmp_path / "member", "svc/gpio")
    found = set()
    for _ in range(KILLS):
        command = [sys.executable, "-c", WRITER, *(str(tmp_path / name) for name in ("member", "old", "new"))]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"writing\n"
            time.sleep(chosen.uniform(0.002, 0.05))
            process.send_signal(signal.SIGKILL)
            assert process.wait(10) == -signal.SIGKILL
        member = IdentityFolder(tmp_path / "member")
        member.load()
        found.add(member.credentials.serial)
    assert found <= serials
    assert len(serials) == 2
