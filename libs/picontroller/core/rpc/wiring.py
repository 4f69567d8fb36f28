"""What a service gets to build itself from, and what it hands back.

Each service has a ``wiring.py`` with ``build(surroundings)``, an asynchronous context manager that opens its store and yields a
``Service``.
Who hosts it, and how many others live in the same process, it never learns.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from picontroller.core.audit.trail import Trail
from picontroller.core.clock import Clock
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.rpc.server import Register
from picontroller.core.tls.identity import IdentityFolder


@dataclass(frozen=True)
class Surroundings:
    """The outside of a service: its own folder, its settings section, its identity, its peers, and the time."""

    name: str
    data_dir: Path
    settings: Any
    identity: IdentityFolder
    mesh: Mesh
    clock: Clock


def never() -> bool:
    """Return False: nothing of the service can break for good."""
    return False


@dataclass(frozen=True)
class Service:
    """A service that was built: what it serves, and the work it does in the background, by name.

    Background work is run again when it fails and cancelled when the service stops. Once
    ``broken`` answers True, for good (its disk failed), the service says NOT_SERVING until somebody restarts it. ``trail`` takes what its
    server refuses to the audit log; a service without a database has none, and its refusals are in its log.
    """

    name: str
    register: tuple[Register, ...]
    background: Mapping[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    broken: Callable[[], bool] = never
    trail: Trail | None = None


Build = Callable[[Surroundings], AbstractAsyncContextManager[Service]]
