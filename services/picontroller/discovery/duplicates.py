"""Nodes that look like the same machine: mostly Pis that boot from copies of one SD card.

They are kept, and told apart by their ids, but K3s and the network would mix them up, so that each of them says so.

Only nodes that are alive count: a Pi that was set up anew shares its name with its own past.
"""

from collections import defaultdict
from collections.abc import Iterable

from picontroller.core.ids import NodeId
from picontroller.discovery.nodes import ALIVE, Node

NAMED = 3


def lines(nodes: Iterable[Node]) -> dict[NodeId, tuple[str, ...]]:
    """Return for every node the problems that it has with others, none for most."""
    everybody = list(nodes)
    same: dict[tuple[str, str], list[NodeId]] = defaultdict(list)
    for node in everybody:
        if node.status in ALIVE:
            same["HOSTNAME", node.registration.hostname.lower()].append(node.id)
            same["MAC", node.registration.mac_address].append(node.id)
    found: dict[NodeId, list[str]] = {node.id: [] for node in everybody}
    for (what, value), owners in same.items():
        if value and len(owners) > 1:
            for owner in owners:
                found[owner].append(_line(what, value, sorted(other for other in owners if other != owner)))
    return {node_id: tuple(problems) for node_id, problems in found.items()}


def _line(what: str, value: str, others: list[NodeId]) -> str:
    more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
    return f"DUPLICATE_{what}: {value} is also that of {', '.join(others[:NAMED])}{more}"
