"""What this Pi remembers of the control plane that it joined, and the lock that keeps two programs from being the same node at once.

Below the agent's folder: ``join.json`` (where the gateway is and who we are there), ``tls/`` (the identity), ``join.key`` (the key of a
join that has not succeeded yet), ``agent.lock``, ``lines.json`` (outputs), ``last-seen`` (the time).
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from picontroller.core.errors import FailedPrecondition
from picontroller.core.files import make_private_folder, write_atomically
from picontroller.core.tls.identity import IdentityFolder


@dataclass(frozen=True, slots=True)
class Membership:
    """``gateway`` is ``HOST:PORT`` as it was given to join; ``node_id`` is our identity there."""

    gateway: str
    node_id: str


def identity_of(folder: Path) -> IdentityFolder:
    """Return the identity kept in the agent's folder, not loaded yet."""
    return IdentityFolder(folder / "tls")


def load(folder: Path) -> Membership:
    """Return what was remembered. Raises FailedPrecondition NOT_JOINED with the next step, or JOIN_DAMAGED."""
    path = folder / "join.json"
    try:
        raw = json.loads(path.read_text())
        return Membership(str(raw["gateway"]), str(raw["node_id"]))
    except FileNotFoundError as error:
        raise FailedPrecondition(
            f"this machine has not joined a control plane ({path} does not exist); run: pictl join ADDRESS --token-file FILE",
            reason="NOT_JOINED",
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FailedPrecondition(
            f"{path} can't be read: {error}; run: pictl leave --force, then join again with a fresh token", reason="JOIN_DAMAGED"
        ) from error


def save(folder: Path, membership: Membership) -> None:
    """Remember it."""
    make_private_folder(folder)
    write_atomically(folder / "join.json", json.dumps(asdict(membership), indent=1).encode() + b"\n")


def forget(folder: Path) -> None:
    """Remove identity and membership, the identity first. What is known of outputs stays: they need their safe states later as well."""
    shutil.rmtree(folder / "tls", ignore_errors=True)
    for name in ("join.json", "join.key"):
        (folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the agent's folder until the block is left. Raises FailedPrecondition FOLDER_IN_USE while another process does.

    The lock goes with the process, however it ends.
    """
    try:
        make_private_folder(folder)
        file = (folder / "agent.lock").open("a+")
    except OSError as error:
        raise FailedPrecondition(
            f"{folder} can't be written: {error.strerror}; choose another with --data-dir", reason="FOLDER_UNWRITABLE"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise FailedPrecondition(
                f"an agent runs on {folder} already (process {holder}); stop it first: systemctl stop pi-agent", reason="FOLDER_IN_USE"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
