"""Proofs that are refused although they are not outdated: revoked certificates, API tokens and whole identities.

A denial is never taken back, so that lists from any two moments can be joined. It is kept until what it denies would have ended anyway,
and for a while longer: a clock that was ahead and is set right again makes proofs good that seemed to have ended.
Whoever can't reach the identity service goes on with the list it has; the list is on disk for those who start without it.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from picontroller.core.callers import Caller
from picontroller.core.errors import FailedPrecondition
from picontroller.core.files import make_private_folder, write_atomically

KEPT_AFTER_END_SECONDS = 40 * 86400.0


@dataclass(frozen=True, slots=True)
class Denial:
    """``proof`` is ``certificate:<serial>``, ``token:<id>`` or a SPIFFE id; ``expires`` are Unix seconds."""

    proof: str
    expires: float


class Denials:
    """The denials that one member knows, kept in ``denials.json`` in ``folder``. ``version`` is how far it knows them."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        self._path = folder / "denials.json"
        self._now = now
        self._known: dict[str, float] = {}
        self._mutex = threading.Lock()
        self._listeners: list[Callable[[], None]] = []
        self.version = 0

    def __len__(self) -> int:
        return len(self._known)

    def holds(self, caller: Caller) -> bool:
        """Return whether the caller's proof, or everything that its identity has, is refused."""
        known = self._known
        return bool(known) and (caller.proof in known or caller.principal in known)

    def denies(self, proof: str) -> bool:
        """Return whether ``proof`` itself is refused."""
        return proof in self._known

    def on_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` after each addition, in the thread that adds; return what takes it off again."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def add(self, found: Iterable[Denial], version: int) -> None:
        """Add denials, forget those that ended long ago, and write the rest. They hold even if writing fails with OSError."""
        with self._mutex:
            long_ago = self._now() - KEPT_AFTER_END_SECONDS
            known = {proof: expires for proof, expires in self._known.items() if expires > long_ago}
            known |= {denial.proof: denial.expires for denial in found if denial.expires > long_ago}
            self._known, self.version = known, version
        for listener in list(self._listeners):
            listener()
        self._store()

    def load(self) -> None:
        """Read what was known at the last run. Raises FailedPrecondition for a damaged file: it may say that somebody was revoked."""
        if not self._path.exists():
            return
        try:
            raw = json.loads(self._path.read_text())
            known, version = {str(proof): float(expires) for proof, expires in raw["denials"].items()}, int(raw["version"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise FailedPrecondition(
                f"{self._path} can't be read: {error}; remove it while the identity service is up", reason="IDENTITY_DAMAGED"
            ) from error
        with self._mutex:
            self._known, self.version = known, version

    def _store(self) -> None:
        make_private_folder(self._path.parent)
        with self._mutex:
            body = {"version": self.version, "denials": self._known}
            write_atomically(self._path, json.dumps(body, separators=(",", ":")).encode())
