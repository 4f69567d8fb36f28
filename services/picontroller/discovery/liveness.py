"""When each node was last heard of. Kept in memory: a sign of life every five seconds from every node must not wear out an SD card.

Silence is measured by the monotonic clock, so that a wall clock that jumps loses nobody. Nodes that were known before this process began
have a full grace period: nobody listened while it was away.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from picontroller.core.clock import Clock
from picontroller.core.ids import NodeId


@dataclass(frozen=True, slots=True)
class _Heard:
    monotonic: float
    wall: datetime


class Liveness:
    """The last signs of life by node. ``lost_after`` is in seconds."""

    def __init__(self, clock: Clock, lost_after: float) -> None:
        self._clock = clock
        self._lost_after = lost_after
        self._heard: dict[NodeId, _Heard] = {}
        self._unwritten: set[NodeId] = set()

    def hear(self, node_id: NodeId) -> datetime:
        """Note a sign of life and return its wall time."""
        heard = _Heard(self._clock.monotonic(), self._clock.now())
        self._heard[node_id] = heard
        self._unwritten.add(node_id)
        return heard.wall

    def remember(self, node_id: NodeId, last_seen: datetime) -> None:
        """Note a node from before: last seen then, and granted a full grace period from now."""
        self._heard[node_id] = _Heard(self._clock.monotonic(), last_seen)

    def forget(self, node_id: NodeId) -> None:
        """Drop what is known of a node."""
        self._heard.pop(node_id, None)
        self._unwritten.discard(node_id)

    def last_seen(self, node_id: NodeId) -> datetime | None:
        """Return the wall time of the last sign of life, None when there was none."""
        heard = self._heard.get(node_id)
        return heard.wall if heard else None

    def grant_grace(self) -> None:
        """Begin the silence of every node anew, after this process itself was held up and could hear nobody."""
        now = self._clock.monotonic()
        self._heard = {node_id: _Heard(now, heard.wall) for node_id, heard in self._heard.items()}

    def silent(self, node_id: NodeId) -> bool:
        """Return whether a node has been silent for too long. One that was never heard of is."""
        heard = self._heard.get(node_id)
        return heard is None or self._clock.monotonic() - heard.monotonic >= self._lost_after

    def seconds_until_silent(self, node_ids: Iterable[NodeId]) -> float:
        """Return when, at the earliest, one of ``node_ids`` can have been silent for too long; never more than that time itself."""
        now = self._clock.monotonic()
        remaining = [self._heard[node_id].monotonic + self._lost_after - now for node_id in node_ids if node_id in self._heard]
        return max(0.0, min(remaining, default=self._lost_after))

    def unwritten(self) -> dict[NodeId, datetime]:
        """Return the last signs of life that are not on disk yet."""
        return {node_id: self._heard[node_id].wall for node_id in self._unwritten}

    def count_as_written(self, times: Mapping[NodeId, datetime]) -> None:
        """Take note that ``times`` are on disk; a node that was heard of since then stays unwritten."""
        self._unwritten -= {node_id for node_id, wall in times.items() if self.last_seen(node_id) == wall}
