"""What members are told while they listen: what to believe, whom to refuse, and now and then that nothing changed.

Denials are held in memory in the order of their versions, in step with the disk by ``run``; a listener that knows more of them than there
are (a backup was restored) is told all.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from picontroller.core.clock import Clock
from picontroller.core.tls.denials import KEPT_AFTER_END_SECONDS, Denial
from picontroller.core.tls.identity import Trust

SIGN_SECONDS = 5.0
MOST_AT_ONCE = 2000
BACKSTOP_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Tidings:
    """What changed; nothing at all is a sign of life. ``denials_version`` is 0 without denials."""

    trust: Trust | None = None
    denials: tuple[Denial, ...] = ()
    denials_version: int = 0


class DenialStore(Protocol):
    """Where denials are."""

    async def denials_after(self, version: int) -> list[tuple[int, Denial]]:
        """Return denials above ``version`` with their versions, in their order."""
        ...


class News:
    """Tells any number of listeners. ``trust`` answers what to believe now; call ``wake`` after whatever may have changed something."""

    def __init__(self, trust: Callable[[], Trust], store: DenialStore, clock: Clock, sign_seconds: float = SIGN_SECONDS) -> None:
        self._trust = trust
        self._store = store
        self._clock = clock
        self._sign_seconds = sign_seconds
        self._known: list[tuple[int, Denial]] = []
        self._version = 0
        self._woken = asyncio.Event()
        self._loaded = asyncio.Event()
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """Have ``run`` look at the disk, and listeners at what to believe."""
        self._woken.set()

    async def run(self) -> None:
        """Keep in step with the disk until cancelled."""
        while True:
            self._woken.clear()
            found = await self._store.denials_after(self._version)
            if found:
                long_ago = self._clock.now().timestamp() - KEPT_AFTER_END_SECONDS
                self._known = [entry for entry in self._known if entry[1].expires > long_ago] + found
                self._version = found[-1][0]
            self._loaded.set()
            self._changed.set()
            self._changed = asyncio.Event()
            try:
                async with asyncio.timeout(BACKSTOP_SECONDS):  # forgives a missed notice
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def listen(self, trust_version: int, denials_version: int) -> AsyncGenerator[Tidings, None]:
        """Yield at once what a listener with these versions lacks, then what changes, without end."""
        await self._loaded.wait()
        if denials_version > self._version:
            denials_version = 0
        told = False
        while True:
            upto = self._version
            for tidings in self._lacking(trust_version, denials_version):
                trust_version = tidings.trust.version if tidings.trust else trust_version
                told = True
                yield tidings
            denials_version = upto
            if not told:
                yield Tidings()
            told = await self._change(trust_version, denials_version)

    async def _change(self, trust_version: int, denials_version: int) -> bool:
        """Return True once there is something to tell, False when a sign of life is due."""
        try:
            async with asyncio.timeout(self._sign_seconds):
                while self._trust().version == trust_version and self._version <= denials_version:
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _lacking(self, trust_version: int, denials_version: int) -> Iterator[Tidings]:
        trust = self._trust()
        if trust.version != trust_version:
            yield Tidings(trust)
        for chunk in _chunks(self._known, denials_version):
            yield Tidings(None, tuple(denial for _, denial in chunk), chunk[-1][0])


def _chunks(known: Sequence[tuple[int, Denial]], after: int) -> Iterator[Sequence[tuple[int, Denial]]]:
    start = bisect_right(known, after, key=lambda entry: entry[0])
    for index in range(start, len(known), MOST_AT_ONCE):
        yield known[index : index + MOST_AT_ONCE]
