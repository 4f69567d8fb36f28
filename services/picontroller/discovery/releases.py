"""Which releases of agents this control plane works with: its own, the one before and the one after, so that either may be upgraded first.

A release is MAJOR.MINOR; what follows never matters. What is no release (a development version, a word) can't be judged: it is let in, and
its node says so.
"""

import re
from typing import NamedTuple

from picontroller.core.errors import FailedPrecondition

_RELEASE = re.compile(r"([0-9]{1,6})\.([0-9]{1,6})(\.[0-9]{1,6})*")


class Release(NamedTuple):
    """A release, ordered by age."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


class VersionSkew(FailedPrecondition):
    """The agent is too old or too new for this control plane."""

    default_reason = "VERSION_SKEW"


def release_of(version: str) -> Release | None:
    """Return the release that a version belongs to, None for what is no release: ``0.2.0.dev3``, ``0.2.0+local``, ``unknown``."""
    found = _RELEASE.fullmatch(version)
    return Release(int(found[1]), int(found[2])) if found else None


class Releases:
    """What this control plane, of version ``ours``, thinks of agents' versions."""

    def __init__(self, ours: str) -> None:
        self._version = ours
        self._ours = release_of(ours)

    def refusal(self, theirs: str) -> VersionSkew | None:
        """Return why an agent of this version is turned away, None when it is not."""
        ours, agent = self._ours, release_of(theirs)
        if ours is None or agent is None:
            return None
        oldest, newest = Release(ours.major, max(0, ours.minor - 1)), Release(ours.major, ours.minor + 1)
        if oldest <= agent <= newest:
            return None
        remedy = f"upgrade the agent to {ours}" if agent < oldest else f"upgrade the control plane to {agent}, or install agent {ours}"
        text = f"agent {theirs} does not work with control plane {self._version}, which serves agents {oldest} to {newest}; {remedy}"
        return VersionSkew(text, metadata={"agent_version": theirs, "control_plane_version": self._version})

    def lines(self, theirs: str) -> tuple[str, ...]:
        """Return the problems that a node with an agent of this version has, none for most."""
        if (refusal := self.refusal(theirs)) is not None:
            return (turned_away(refusal),)
        if self._ours is not None and release_of(theirs) is None:
            return (f"VERSION_UNKNOWN: agent {theirs!r} is no release; whether it works with control plane {self._version} is not known",)
        return ()


def turned_away(refusal: VersionSkew) -> str:
    """Return the problem of a node whose agent was refused."""
    return f"{refusal.reason}: {refusal.message}"
