"""What the harness says when the machine lacks something; nothing is installed."""

import os
import platform
import shutil

import pytest

from tests.real.pi3b.faults import HarnessError
from tests.real.simguest import requirements

pytestmark = pytest.mark.real


def test_requirements_when_missing_and_not_root_are_named_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda program: None if program in {"qemu-system-x86_64", "bison"} else which(program))
    monkeypatch.setattr(requirements, "FILES", {})
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HarnessError, match="missing Debian packages: bison qemu-system-x86; as root on Debian run: apt-get install"):
        requirements.ensure()


def test_requirements_when_the_machine_is_no_pc_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(HarnessError, match="this one is aarch64"):
        requirements.ensure()
