"""Nodes that look like the same machine."""

from dataclasses import replace
from datetime import timedelta

import pytest

from picontroller.core.ids import NodeId
from picontroller.discovery import duplicates
from picontroller.discovery.nodes import NodeStatus
from tests.fakes.clock import START
from tests.unit.discovery.samples import ONE, THREE, TWO, ready

MAC = "b8:27:eb:00:00:01"


def taken(by: NodeId) -> str:
    return f"DUPLICATE_HOSTNAME: pi is the name of node {by} already; give this one another: sudo hostnamectl set-hostname NAME"


def test_nodes_when_all_differ_have_no_lines() -> None:
    assert duplicates.lines([ready(ONE), ready(TWO)]) == {ONE: (), TWO: ()}
    assert duplicates.lines([]) == {}


def test_nodes_when_cloned_say_so() -> None:
    clones = [ready(node_id, hostname="pi", mac_address=MAC) for node_id in (ONE, TWO)]
    assert duplicates.lines([*clones, ready(THREE)]) == {
        ONE: (f"DUPLICATE_MAC: {MAC} is also that of {TWO}",),
        TWO: (taken(ONE), f"DUPLICATE_MAC: {MAC} is also that of {ONE}"),
        THREE: (),
    }


def test_name_when_shared_belongs_to_whoever_came_first() -> None:
    first, later = ready(TWO, hostname="pi"), replace(ready(ONE, hostname="pi"), create_time=START + timedelta(seconds=1))
    assert duplicates.lines([later, first]) == {TWO: (), ONE: (taken(TWO),)}


@pytest.mark.parametrize("status", [NodeStatus.LOST, NodeStatus.DISCOVERED])
def test_node_when_not_alive_is_nobodys_twin(status: NodeStatus) -> None:
    assert duplicates.lines([ready(ONE, hostname="pi"), replace(ready(TWO, hostname="pi"), status=status)]) == {ONE: (), TWO: ()}


def test_line_when_a_thousand_share_an_address_stays_short() -> None:
    found = duplicates.lines([ready(NodeId(f"{number:036}"), mac_address=MAC, hostname=f"pi-{number}") for number in range(1000)])
    assert all(len(line) < 300 for lines in found.values() for line in lines)
    assert found[NodeId(f"{0:036}")][0].endswith(" and 996 more")
