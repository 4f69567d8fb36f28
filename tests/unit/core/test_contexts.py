"""Contexts of the command line."""

import stat
from pathlib import Path

import pytest

from picontroller.core import contexts
from picontroller.core.contexts import Context, Contexts
from picontroller.core.errors import FailedPrecondition, NotFound

HOME = Context("home", "pi.local:8443", "/ca.pem", "/client.pem", "/client.key")
LAB = Context("lab", "10.0.0.1:8443", '/odd "folder"\\/lab.pem', token_file="/token")


def test_contexts_when_saved_come_back(tmp_path: Path) -> None:
    path = tmp_path / "config" / "contexts.toml"
    known = contexts.with_context(contexts.with_context(contexts.load(path), HOME, make_current=False), LAB, make_current=False)
    contexts.save(path, known)
    assert contexts.load(path) == Contexts("home", {"home": HOME, "lab": LAB})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_context_when_made_current_is_chosen_unless_another_is_named() -> None:
    known = contexts.with_context(Contexts("home", {"home": HOME}), LAB, make_current=True)
    assert known.chosen() == LAB
    assert known.chosen("home") == HOME


def test_context_when_unknown_or_none_says_what_to_do() -> None:
    with pytest.raises(NotFound, match="pictl up"):
        Contexts("", {}).chosen()
    with pytest.raises(NotFound, match="known: home"):
        Contexts("home", {"home": HOME}).chosen("office")


@pytest.mark.parametrize("text", ["[", "current = 3\n[contexts.x]\nwrong = 1\n"])
def test_file_when_damaged_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "contexts.toml"
    path.write_text(text)
    with pytest.raises(FailedPrecondition, match=r"contexts\.toml"):
        contexts.load(path)
