"""What the harness says when the machine lacks something; nothing is installed."""

import os
import shutil

import pytest

from tests.real.pi3b import requirements
from tests.real.pi3b.faults import HarnessError

pytestmark = pytest.mark.real


def test_requirements_when_missing_and_not_root_are_named_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda program: None if program == "qemu-system-aarch64" else which(program))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HarnessError, match="missing Debian packages: qemu-system-arm; as root on Debian run: apt-get install"):
        requirements.ensure()


def test_requirements_when_met_are_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "PROGRAMS", {"sh": "dash"})
    requirements.ensure()
