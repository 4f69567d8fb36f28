"""How people name things on the command line: nodes by id, id prefix or host name; resources by id, prefix or [namespace/]name; pins."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from picontroller.core.errors import InvalidArgument, NotFound
from picontroller.gateway.cli.session import Session
from picontroller.v1 import discovery_pb2, discovery_pb2_grpc, gpio_pb2, gpio_pb2_grpc, types_pb2

SHORTEST_PREFIX = 4


def pick(wanted: str, things: Sequence[Any], what: str, names: Callable[[Any], Sequence[str]]) -> Any:
    """Return the one thing that ``wanted`` means. Raises NotFound for none, InvalidArgument for several."""
    exact = [thing for thing in things if thing.id == wanted] or [thing for thing in things if wanted in names(thing)]
    near = exact or [thing for thing in things if len(wanted) >= SHORTEST_PREFIX and thing.id.startswith(wanted)]
    if not near:
        raise NotFound(f"there is no {what} {wanted}", reason=f"{what.upper()}_UNKNOWN")
    if len(near) > 1:
        listed = ", ".join(thing.id for thing in near[:5])
        raise InvalidArgument(f"{wanted} means several: {listed}; give an id", reason="AMBIGUOUS")
    return near[0]


def node(session: Session, wanted: str) -> discovery_pb2.Node:
    """Return the node that ``wanted`` means."""
    stub = discovery_pb2_grpc.DiscoveryServiceStub(session.channel)
    listed = session.pages(stub.ListNodes, discovery_pb2.ListNodesRequest(page_size=1000), "nodes")
    found: discovery_pb2.Node = pick(wanted, listed, "node", lambda each: (each.hostname,))
    return found


def resources(session: Session, wanted: Sequence[str]) -> list[gpio_pb2.GpioResource]:
    """Return the GPIO resources that each of ``wanted`` means, in order."""
    stub = gpio_pb2_grpc.GpioServiceStub(session.channel)
    listed = session.pages(stub.ListGpioResources, gpio_pb2.ListGpioResourcesRequest(page_size=1000), "gpio_resources")
    return [pick(each, listed, "resource", lambda thing: (thing.name, f"{thing.namespace}/{thing.name}")) for each in wanted]


def pin(text: str) -> types_pb2.PinRef:
    """Return a pin: ``17`` is the Broadcom number, ``J8:11`` the header position, ``GPIO17`` and the like go by name."""
    if text.isdigit():
        return types_pb2.PinRef(bcm=int(text))
    if match := re.fullmatch(r"(?:J8:|BOARD)(\d+)", text, re.IGNORECASE):
        return types_pb2.PinRef(header=int(match[1]))
    return types_pb2.PinRef(name=text)


def level(text: str) -> types_pb2.Level.Value.ValueType:
    """Return a level. Raises InvalidArgument for anything but high and low (or 1 and 0)."""
    known = {"high": types_pb2.Level.HIGH, "1": types_pb2.Level.HIGH, "low": types_pb2.Level.LOW, "0": types_pb2.Level.LOW}
    if text.lower() not in known:
        raise InvalidArgument(f"a level is high or low, not {text!r}", reason="LEVEL_INVALID")
    return known[text.lower()]
