"""Nodes to try things on."""

from dataclasses import replace
from typing import Any

from picontroller.core.ids import NodeId
from picontroller.core.version import version
from picontroller.discovery import nodes
from picontroller.discovery.nodes import Node, NodeStatus, Registration
from tests.fakes.clock import START

ONE = NodeId("11111111-1111-4111-8111-111111111111")
TWO = NodeId("22222222-2222-4222-8222-222222222222")
THREE = NodeId("33333333-3333-4333-8333-333333333333")


def registration(node_id: NodeId = ONE, **facts: Any) -> Registration:
    """Return what a Pi says of itself, some facts replaced."""
    plain = Registration(
        id=node_id,
        hostname=f"pi-{node_id[0]}",
        ip_address="192.0.2.7",
        mac_address="",
        architecture="aarch64",
        model="Raspberry Pi 3 Model B",
        agent_version=version(),
        agent_address="192.0.2.7:7450",
        capabilities=b"",
    )
    return replace(plain, **facts)


def discovered(node_id: NodeId = ONE, **facts: Any) -> Node:
    """Return a node that has just registered."""
    node = nodes.register(registration(node_id, **facts), START)(None).node
    assert node is not None
    return node


def ready(node_id: NodeId = ONE, **facts: Any) -> Node:
    """Return a node that is alive and well."""
    return replace(discovered(node_id, **facts), status=NodeStatus.READY)
