"""The rules by which a node changes."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picontroller.core.errors import Conflict, InvalidArgument
from picontroller.discovery import nodes
from picontroller.discovery.nodes import Changes, Decision, Node, NodeNotFound, NodeRole, NodeStatus, Precondition
from tests.fakes.clock import START
from tests.unit.discovery.samples import ONE, discovered, ready, registration

LATER = START + timedelta(seconds=30)


def types(decision: Decision) -> list[str]:
    return [event.type for event in decision.events]


def outcome(decision: Decision) -> Node:
    assert decision.node is not None
    return decision.node


def test_registration_when_new_makes_a_discovered_node() -> None:
    decision = nodes.register(registration(), LATER)(None)
    node = outcome(decision)
    assert (node.status, node.create_time, node.last_seen, types(decision)) == (NodeStatus.DISCOVERED, LATER, LATER, ["node.discovered"])


@pytest.mark.parametrize("status", list(NodeStatus))
def test_registration_when_it_says_something_new_leaves_the_status(status: NodeStatus) -> None:
    before = replace(ready(), status=status)
    decision = nodes.register(registration(agent_version="0.2.0"), LATER)(before)
    after = outcome(decision)
    assert (after.status, after.registration.agent_version, types(decision)) == (status, "0.2.0", ["node.updated"])
    assert after.etag != before.etag


@pytest.mark.parametrize("before", [NodeStatus.DISCOVERED, NodeStatus.LOST, NodeStatus.ERROR, NodeStatus.PROVISIONING])
def test_report_when_all_is_well_makes_a_node_ready(before: NodeStatus) -> None:
    decision = nodes.report(ONE, (), LATER)(replace(discovered(), status=before))
    assert (outcome(decision).status, outcome(decision).last_seen, types(decision)) == (NodeStatus.READY, LATER, ["node.ready"])


@pytest.mark.parametrize("before", [NodeStatus.DISCOVERED, NodeStatus.LOST, NodeStatus.READY])
def test_report_when_something_is_wrong_degrades_a_node(before: NodeStatus) -> None:
    decision = nodes.report(ONE, ("HOT: 85",), LATER)(replace(discovered(), status=before))
    assert (outcome(decision).status, outcome(decision).problems, types(decision)) == (NodeStatus.ERROR, ("HOT: 85",), ["node.degraded"])


def test_report_when_nothing_is_new_is_the_same_node() -> None:
    before = replace(ready(), reported=("HOT: 85",), status=NodeStatus.ERROR)
    assert nodes.report(ONE, ("HOT: 85",), LATER)(before) == Decision(before)


def test_report_when_only_figures_are_new_has_another_etag_and_no_event() -> None:
    before = replace(ready(), reported=("HOT: 85",), status=NodeStatus.ERROR)
    decision = nodes.report(ONE, ("HOT: 86",), LATER)(before)
    assert (outcome(decision).problems, types(decision)) == (("HOT: 86",), [])
    assert outcome(decision).etag != before.etag


def test_report_when_another_kind_of_problem_joins_tells_it() -> None:
    before = replace(ready(), reported=("HOT: 85",), status=NodeStatus.ERROR)
    assert types(nodes.report(ONE, ("HOT: 85", "UNDERVOLTAGE: now"), LATER)(before)) == ["node.degraded"]


def test_report_when_noticed_problems_remain_keeps_the_node_in_error() -> None:
    before = replace(ready(), reported=("HOT: 85",), noticed=("DUPLICATE_MAC: x",), status=NodeStatus.ERROR)
    after = outcome(nodes.report(ONE, (), LATER)(before))
    assert (after.status, after.problems) == (NodeStatus.ERROR, ("DUPLICATE_MAC: x",))


def test_notice_when_the_node_is_not_alive_keeps_its_status_and_tells_nobody() -> None:
    lost = replace(ready(), status=NodeStatus.LOST, noticed=("DUPLICATE_MAC: x",))
    decision = nodes.notice((), LATER)(lost)
    assert (outcome(decision).status, outcome(decision).noticed, types(decision)) == (NodeStatus.LOST, (), [])
    assert nodes.notice((), LATER)(None) == Decision(None)


def test_loss_when_declared_twice_happens_once() -> None:
    decision = nodes.lose(LATER)(ready())
    assert (outcome(decision).status, types(decision)) == (NodeStatus.LOST, ["node.lost"])
    assert nodes.lose(LATER)(decision.node) == Decision(decision.node)
    assert nodes.lose(LATER)(None) == Decision(None)


def test_changes_when_there_are_none_are_refused() -> None:
    with pytest.raises(InvalidArgument) as caught:
        Changes()
    assert caught.value.reason == "NOTHING_TO_CHANGE"


def test_update_when_the_node_has_another_etag_is_refused() -> None:
    decide = nodes.update(ONE, Changes(cluster_id="home"), Precondition(frozenset({"old"})), LATER)
    with pytest.raises(Conflict):
        decide(ready())
    with pytest.raises(NodeNotFound):
        decide(None)


def test_update_when_values_are_empty_clears_them() -> None:
    before = replace(ready(), labels={"a": "1"}, role=NodeRole.WORKER, cluster_id="home")
    decision = nodes.update(ONE, Changes({}, NodeRole.UNSPECIFIED, ""), Precondition(), LATER)(before)
    after = outcome(decision)
    assert (after.labels, after.role, after.cluster_id, types(decision)) == ({}, NodeRole.UNSPECIFIED, "", ["node.updated"])


def test_delete_when_it_happens_says_who_wished_it() -> None:
    decision = nodes.delete(ONE, Precondition(), "unregistered", LATER)(ready())
    assert (decision.node, types(decision), decision.events[0].data["cause"]) == (None, ["node.deleted"], "unregistered")


problems = st.lists(st.sampled_from(["HOT: 85", "HOT: 86", "UNDERVOLTAGE: now", "plain"]), max_size=3, unique=True).map(tuple)
steps = st.one_of(
    st.builds(lambda lines: nodes.report(ONE, lines, LATER), problems),
    st.builds(lambda lines: nodes.notice(lines, LATER), problems),
    st.just(nodes.lose(LATER)),
    st.builds(lambda name: nodes.register(registration(hostname=name), LATER), st.sampled_from(["pi-1", "pi-2"])),
    st.builds(lambda value: nodes.update(ONE, Changes(cluster_id=value), Precondition(), LATER), st.sampled_from(["", "home"])),
)


@given(st.lists(steps, max_size=30))
def test_node_whatever_happens_keeps_its_promises(course: list[nodes.Decide]) -> None:
    node = discovered()
    etags: set[str] = set()
    for decide in course:
        decision = decide(node)
        after = outcome(decision)
        visible = replace(after, last_seen=node.last_seen)
        if visible != node:
            assert after.etag not in etags | {node.etag}, "an etag came back, or did not change"
        else:
            assert (after.etag, decision.events) == (node.etag, ()), "something was told although nothing changed"
        if after.status in nodes.ALIVE:
            assert (after.status is NodeStatus.ERROR) == bool(after.problems)
        if after.status is not node.status:
            assert types(decision) == [{"READY": "node.ready", "ERROR": "node.degraded", "LOST": "node.lost"}[after.status.name]]
        etags.add(node.etag)
        node = after
