"""Nodes that look like the same machine: mostly Pis fresh from the image, all called ``raspberrypi``, or copies of one SD card.

They are kept, and told apart by their ids, so that people see them and can drive their pins. A name belongs to whoever came first: only
those that came later have the problem, or anybody could spoil a node by taking its name. Two machines with one hardware address lose each
other's packets, so that each of them has it.

Only nodes that are alive count: a Pi that was set up anew shares its name with its own past.
"""

from collections import defaultdict
from collections.abc import Iterable

from picontroller.core.ids import NodeId
from picontroller.discovery import nodes
from picontroller.discovery.nodes import ALIVE, Node

NAMED = 3
_REMEDY = "give this one another: sudo hostnamectl set-hostname NAME"


def lines(all_nodes: Iterable[Node]) -> dict[NodeId, tuple[str, ...]]:
    """Return for every node the problems that it has with others, none for most."""
    everybody = list(all_nodes)
    same: dict[tuple[str, str], list[NodeId]] = defaultdict(list)
    for node in sorted(everybody, key=lambda node: (node.create_time, node.id)):
        if node.status in ALIVE:
            same["HOSTNAME", node.registration.hostname.lower()].append(node.id)
            same["MAC", node.registration.mac_address].append(node.id)
    found: dict[NodeId, list[str]] = {node.id: [] for node in everybody}
    for (what, value), owners in same.items():
        if not value or len(owners) < 2:
            continue
        if what == "HOSTNAME":
            for owner in owners[1:]:
                found[owner].append(f"{nodes.HOSTNAME_TAKEN}: {value} is the name of node {owners[0]} already; {_REMEDY}")
        else:
            for owner in owners:
                found[owner].append(_line(what, value, sorted(other for other in owners if other != owner)))
    return {node_id: tuple(problems) for node_id, problems in found.items()}


def _line(what: str, value: str, others: list[NodeId]) -> str:
    more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
    return f"DUPLICATE_{what}: {value} is also that of {', '.join(others[:NAMED])}{more}"
