"""Contexts: which control plane the command line talks to, and as whom.

They stand in one TOML file of the user's, mode 0600, which names files and holds no secret. ``pictl up`` writes the context ``local``.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from picontroller.core.config import toml_value
from picontroller.core.errors import FailedPrecondition, NotFound
from picontroller.core.files import make_private_folder, write_atomically


@dataclass(frozen=True, slots=True)
class Context:
    """One control plane. ``server`` is ``HOST:PORT`` of its gateway; either the client pair or the token file proves who we are."""

    name: str
    server: str
    ca_file: str
    client_cert_file: str = ""
    client_key_file: str = ""
    token_file: str = ""


@dataclass(frozen=True, slots=True)
class Contexts:
    """All contexts of a user. ``current`` is the name of the one that is used when nobody says otherwise."""

    current: str
    by_name: Mapping[str, Context]

    def chosen(self, name: str = "") -> Context:
        """Return the context called ``name``, the current one when empty. Raises NotFound with what to do."""
        wanted = name or self.current
        if not wanted:
            raise NotFound("no control plane is known here; start one with: pictl up", reason="CONTEXT_MISSING")
        if wanted not in self.by_name:
            known = ", ".join(sorted(self.by_name)) or "none"
            raise NotFound(f"there is no context {wanted}; known: {known}", reason="CONTEXT_MISSING")
        return self.by_name[wanted]


def default_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where contexts are kept."""
    home = environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "pi-controller" / "contexts.toml"


def load(path: Path) -> Contexts:
    """Return the contexts in ``path``, none when there is no file. Raises FailedPrecondition for a file that can't be read."""
    try:
        raw = tomllib.loads(path.read_text())
        found = {name: Context(name, **fields) for name, fields in raw.get("contexts", {}).items()}
        return Contexts(str(raw.get("current", "")), found)
    except FileNotFoundError:
        return Contexts("", {})
    except (OSError, tomllib.TOMLDecodeError, TypeError) as error:
        raise FailedPrecondition(f"{path} can't be read: {error}", reason="CONTEXTS_DAMAGED") from error


def save(path: Path, contexts: Contexts) -> None:
    """Write ``contexts`` atomically."""
    lines = [f"current = {toml_value(contexts.current)}", ""]
    for context in contexts.by_name.values():
        lines.append(f"[contexts.{toml_value(context.name)}]")
        lines += [f"{key} = {toml_value(value)}" for key, value in asdict(context).items() if key != "name" and value]
        lines.append("")
    make_private_folder(path.parent)
    write_atomically(path, "\n".join(lines).encode(), mode=0o600)


def with_context(contexts: Contexts, context: Context, *, make_current: bool) -> Contexts:
    """Return ``contexts`` with ``context`` added or replaced."""
    current = context.name if make_current or not contexts.current else contexts.current
    return Contexts(current, {**contexts.by_name, context.name: context})
