"""Who is calling, as the RPC layer established it and as servicers and domains may ask."""

import enum
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal


class Role(enum.Enum):
    """What a caller may be. Names equal those of ``picontroller.v1.Role``."""

    CLUSTER_ADMIN = 1
    GPIO_OPERATOR = 2
    MONITOR = 3
    AGENT = 4
    SERVICE = 5
    GATEWAY = 6


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """``spiffe://<trust_domain>/<kind>[/<name>]``; kind is svc, node, user or gateway (which has no name)."""

    trust_domain: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/{self.kind}" + (f"/{self.name}" if self.name else "")


def parse_spiffe_id(text: str) -> SpiffeId:
    """Return the parts of a SPIFFE id of ours. Raises ValueError for anything else."""
    scheme, _, rest = text.partition("://")
    domain, _, path = rest.partition("/")
    kind, _, name = path.partition("/")
    named = kind in ("svc", "node", "user") and name and "/" not in name
    if scheme != "spiffe" or not domain or not (named or path == "gateway"):
        raise ValueError(f"not one of our identities: {text!r}")
    return SpiffeId(domain, kind, name)


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller with proof. ``expires`` is the end of that proof in Unix seconds; ``identity`` is None for the anonymous.

    ``proof`` names the proof itself: ``certificate:<serial>`` or ``token:<id>``, empty without one.
    """

    identity: SpiffeId | None
    roles: frozenset[Role]
    method: Literal["certificate", "token", "none"]
    expires: float
    forwarded: bool = False
    proof: str = ""

    @property
    def principal(self) -> str:
        """The identity as text, ``anonymous`` without one."""
        return str(self.identity) if self.identity else "anonymous"

    @property
    def node_id(self) -> str:
        """The node's id when the caller is an agent, else empty."""
        return self.identity.name if self.identity and self.identity.kind == "node" else ""

    @property
    def service(self) -> str:
        """The service's name when the caller is a service, else empty."""
        return self.identity.name if self.identity and self.identity.kind == "svc" else ""


ANONYMOUS = Caller(None, frozenset(), "none", float("inf"))

_current: ContextVar[Caller] = ContextVar("caller", default=ANONYMOUS)
_address: ContextVar[str] = ContextVar("address", default="")


def current() -> Caller:
    """Return the caller of the RPC that this task serves."""
    return _current.get()


def current_address() -> str:
    """Return the IP address that the RPC of this task came from, as the gateway or our own socket saw it; empty on this machine."""
    return _address.get()


def set_current(caller: Caller, address: str = "") -> None:
    """Make ``caller`` the caller of this task, calling from ``address``. For the RPC layer."""
    _current.set(caller)
    _address.set(address)
