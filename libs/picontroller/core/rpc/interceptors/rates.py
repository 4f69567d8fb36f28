"""Buckets of calls, one for each caller, in bounded memory.

A bucket is one number: when it will be full again. A full bucket is the same as none, so that forgetting one is harmless; when there are
too many, those go that are full or nearest to it, never first the exhausted ones that somebody would like to have forgotten.
"""

import ipaddress
from collections.abc import Callable

MOST_BUCKETS = 10_000


class Buckets:
    """Buckets of ``burst`` calls into which ``per_second`` come back. ``now`` are seconds that never go back."""

    def __init__(self, per_second: float, burst: int, now: Callable[[], float], most: int = MOST_BUCKETS) -> None:
        self._interval = 1.0 / per_second
        self._depth = burst * self._interval
        self._now = now
        self._most = most
        self._full_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, who: str) -> float:
        """Take a call out of the bucket of ``who`` and return 0; return the seconds until there is one when it is empty."""
        now = self._now()
        full_at = max(now, self._full_at.get(who, now)) + self._interval
        wait = full_at - now - self._depth
        if wait > 1e-9:
            return wait
        if who not in self._full_at and len(self._full_at) >= self._most:
            self._forget(now)
        self._full_at[who] = full_at
        return 0.0

    def give_back(self, who: str) -> None:
        """Put a call back that turned out not to count."""
        if who in self._full_at:
            self._full_at[who] -= self._interval

    def _forget(self, now: float) -> None:
        """Make room: for at least a tenth of all, so that this is seldom."""
        self._full_at = {who: full_at for who, full_at in self._full_at.items() if full_at > now}
        surplus = len(self._full_at) - (self._most - max(1, self._most // 10))
        for who in sorted(self._full_at, key=self._full_at.__getitem__)[: max(0, surplus)]:
            del self._full_at[who]


def network_of(address: str) -> str:
    """Return whom an IP address stands for: itself, or its /64 for IPv6; empty for no address."""
    bare = address.partition("%")[0]
    if ":" not in bare:
        return bare
    try:
        found = ipaddress.IPv6Address(bare)
    except ValueError:
        return bare
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return f"{ipaddress.IPv6Address(int(found) >> 64 << 64)}/64"
