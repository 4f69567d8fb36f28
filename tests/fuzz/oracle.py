"""What no answer may ever be or hold."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import grpc
from google.rpc import error_details_pb2, status_pb2

# Python's insides, files, SQL, keys. The word before Error is what distinguishes a class from a sentence.
LEAK = re.compile(
    rb"Traceback|File \"|\.py\b|site-packages|<class |object at 0x|\b[A-Za-z_]+(Error|Exception)\b|\b(SELECT|INSERT|DELETE) [A-Za-z*]|"
    rb"\bUPDATE \w+ SET|sqlite|apsw|grpc\.aio|/tmp/|/root/|/home/|/usr/|/var/lib|PRIVATE KEY|NoneType|_pb2"
)
NEVER = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS)
AWAY = frozenset({"NODE_OFFLINE", "NODES_UNAVAILABLE"})
MISSING = frozenset({"FEATURE_MISSING"})
LEFT_OUT = frozenset({"/grpc.health.v1.Health/List"})  # grpcio's own servicer does not have it
SLACK_SECONDS = 3.0


@dataclass(frozen=True)
class Sent:
    """A request as it went out: where, by whom, and the bytes of each message."""

    place: str
    method: str
    caller: str
    raw: tuple[bytes, ...]
    metadata: tuple[tuple[str, str], ...] = ()
    known: bool = True

    def line(self) -> str:
        """Return it on one line, without the proof; of a long run of messages only the first."""
        extra = {name: value for name, value in self.metadata if not value.startswith("Bearer ey")}
        return f"{self.place} {self.caller} {self.method} {len(self.raw)} {self.raw[0].hex() if self.raw else '-'} {extra}"


@dataclass(frozen=True)
class Failure:
    """An answer that may not be."""

    why: str
    code: str
    details: str
    sent: str


@dataclass
class Tally:
    """What a campaign has seen."""

    codes: Counter[tuple[str, str]] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def histogram(self) -> dict[str, dict[str, int]]:
        """Return how often each code was answered, by class of method."""
        found: dict[str, dict[str, int]] = {}
        for (kind, code), count in sorted(self.codes.items()):
            found.setdefault(kind, {})[code] = count
        return found


def leak(raw: bytes, secrets: Iterable[bytes], *, details: bool) -> str:
    """Return what an answer gives away, empty for nothing. In ``details`` of errors our insides count too."""
    if any(secret in raw for secret in secrets):
        return "a secret"
    found = LEAK.search(raw) if details else None
    return found.group().decode(errors="replace") if found else ""


def reason_of(packed: bytes) -> str:
    """Return the reason within a status' details, empty without one."""
    status = status_pb2.Status.FromString(packed)
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info):
            return info.reason
    return ""


def judge(code: grpc.StatusCode, reason: str, *, known: bool, seconds: float, allowed: float, gave_up: bool) -> str:
    """Return what is wrong with a code, empty when nothing is. ``gave_up``: the caller cancelled or gave no time."""
    if seconds > allowed + SLACK_SECONDS:
        return f"lasted {seconds:.1f} s of {allowed:.1f} s"
    if code in NEVER:
        return "a code that is never right"
    if code is grpc.StatusCode.UNIMPLEMENTED and known and reason not in MISSING:
        return "a known method is not there"
    if code is grpc.StatusCode.UNAVAILABLE and reason not in AWAY:
        return "unavailable, and no node is away"
    if code in (grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED) and not gave_up:
        return "given up by the server"
    return ""
