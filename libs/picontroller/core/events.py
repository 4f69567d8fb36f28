"""An event as services speak of it: what happened, to what, when. ``core.store.outbox`` keeps it, the event bus carries it on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. ``type`` is ``<resource>[.<subresource>].<verb>``; ``data`` holds what JSON can hold."""

    type: str
    time: datetime
    resource: str = ""
    cluster_id: str = ""
    node_id: str = ""
    namespace: str = ""
    data: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the event as one JSON object, the form in which an outbox keeps it."""
        return json.dumps(
            {
                "type": self.type,
                "time": self.time.isoformat(),
                "resource": self.resource,
                "cluster_id": self.cluster_id,
                "node_id": self.node_id,
                "namespace": self.namespace,
                "data": dict(self.data),
            },
            separators=(",", ":"),
        )


def event_from_json(text: str) -> Event:
    """Return the event that ``Event.to_json`` wrote."""
    raw = json.loads(text)
    return Event(**(raw | {"time": datetime.fromisoformat(raw["time"])}))
