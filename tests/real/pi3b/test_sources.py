"""Which of the machine's apt sources are used; no network, no emulation."""

from pathlib import Path

import pytest

from tests.real.pi3b import debian
from tests.real.pi3b.debian import Source

pytestmark = pytest.mark.real

DEB822 = """
Types: deb deb-src
# a comment within
URIs: mirror+file:/somewhere
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Types: deb
Enabled: no
URIs: other:/somewhere
Suites: bookworm
Components: main
"""

ONE_LINE = """
# deb old:/place bookworm main
deb [arch=amd64 signed-by=/a/key.gpg] debian:/place bookworm-security main non-free # remark
deb-src debian:/place bookworm main
deb vendor:/place bookworm stable
"""


def test_sources_when_of_both_forms_are_reduced_to_debians_own(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(ONE_LINE)
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "debian.sources").write_text(DEB822)
    assert debian.debian_sources(tmp_path, "bookworm") == [
        Source("debian:/place", "bookworm-security", "main", "/a/key.gpg"),
        Source("mirror+file:/somewhere", "bookworm bookworm-updates", "main", "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc"),
    ]


def test_sources_when_absent_are_none(tmp_path: Path) -> None:
    assert debian.debian_sources(tmp_path, "bookworm") == []
