"""Which agents a control plane works with."""

import pytest

from picontroller.core.errors import AlreadyExists
from picontroller.discovery import nodes
from picontroller.discovery.liveness import Liveness
from picontroller.discovery.nodes import Changes, NodeRole, Precondition
from picontroller.discovery.registry import Registry, RequestIdentity
from picontroller.discovery.releases import Releases, VersionSkew, release_of
from tests.fakes.clock import FakeClock
from tests.fakes.node_store import FakeNodeStore
from tests.unit.discovery.samples import ONE, TWO, ready, registration


@pytest.mark.parametrize("version", ["1.4", "1.4.0", "1.4.7", "1.3.9", "1.3", "1.5.0"])
def test_agent_when_one_release_away_at_most_is_let_in(version: str) -> None:
    assert Releases("1.4.2").refusal(version) is None
    assert Releases("1.4.2").lines(version) == ()


@pytest.mark.parametrize(
    ("ours", "theirs", "served", "remedy"),
    [
        ("1.4.2", "1.2.9", "1.3 to 1.5", "upgrade the agent to 1.4"),
        ("1.4.2", "1.6.0", "1.3 to 1.5", "upgrade the control plane to 1.6, or install agent 1.4"),
        ("1.0.0", "0.9.0", "1.0 to 1.1", "upgrade the agent to 1.0"),
        ("0.9.0", "1.0.0", "0.8 to 0.10", "upgrade the control plane to 1.0, or install agent 0.9"),
        ("0.10.0", "0.8.1", "0.9 to 0.11", "upgrade the agent to 0.10"),
        ("0.1.0", "0.3.0", "0.0 to 0.2", "upgrade the control plane to 0.3, or install agent 0.1"),
    ],
)
def test_agent_when_further_away_is_told_both_versions_and_what_to_upgrade(ours: str, theirs: str, served: str, remedy: str) -> None:
    refusal = Releases(ours).refusal(theirs)
    assert isinstance(refusal, VersionSkew)
    assert refusal.message == f"agent {theirs} does not work with control plane {ours}, which serves agents {served}; {remedy}"
    assert refusal.reason == "VERSION_SKEW"
    assert Releases(ours).lines(theirs) == (f"VERSION_SKEW: {refusal.message}",)


@pytest.mark.parametrize("version", ["unknown", "0.9.0.dev3", "0.9.0+local", "1", "v1.4", "1.4.x", "\u0661.\u0664", "9" * 60 + ".1", "\n"])
def test_agent_when_its_version_is_no_release_is_let_in_and_its_node_says_so(version: str) -> None:
    releases = Releases("1.4.2")
    assert release_of(version) is None
    assert releases.refusal(version) is None
    (line,) = releases.lines(version)
    assert line.startswith("VERSION_UNKNOWN: agent ")
    assert line.isprintable()


def test_control_plane_when_it_is_no_release_judges_nobody() -> None:
    for theirs in ("0.1.0", "9.9.9", "unknown"):
        assert (Releases("unknown").refusal(theirs), Releases("unknown").lines(theirs)) == (None, ())


def registry_of(ours: str, *known: nodes.Node) -> tuple[Registry, FakeNodeStore]:
    clock, store = FakeClock(), FakeNodeStore(*known)
    return Registry(store, Liveness(clock, 15), clock, Releases(ours)), store


async def test_node_when_its_agent_was_upgraded_too_far_says_so_until_it_is_back() -> None:
    registry, store = registry_of("1.4.0", ready(ONE, agent_version="1.4.0"))
    await registry.load()
    for _ in range(2):
        with pytest.raises(VersionSkew):
            await registry.register(registration(ONE, agent_version="1.6.0"))
        await registry.notice_problems()
    node = registry.get(ONE)
    assert (node.registration.agent_version, len(node.problems)) == ("1.4.0", 1)
    assert node.problems[0].startswith("VERSION_SKEW: agent 1.6.0 does not work with control plane 1.4.0")
    assert [event.type for event in store.events] == ["node.degraded"]
    await registry.register(registration(ONE, agent_version="1.4.0"))
    await registry.until_changed()
    await registry.notice_problems()
    assert registry.get(ONE).problems == ()


async def test_node_when_the_control_plane_was_upgraded_too_far_must_register_and_is_refused() -> None:
    registry, _ = registry_of("1.6.0", ready(ONE, agent_version="1.4.0"))
    await registry.load()
    await registry.notice_problems()
    assert await registry.report(ONE, ()) is True
    with pytest.raises(VersionSkew):
        await registry.register(registration(ONE, agent_version="1.4.0"))
    assert registry.get(ONE).problems[0].endswith("upgrade the agent to 1.6")


async def test_stranger_when_of_another_release_leaves_no_trace() -> None:
    registry, store = registry_of("1.4.0")
    with pytest.raises(VersionSkew):
        await registry.register(registration(ONE, agent_version="3.0.0"))
    assert (store.nodes, store.events) == ({}, [])


@pytest.mark.parametrize("changes", [Changes(cluster_id="home"), Changes(role=NodeRole.WORKER)])
async def test_node_when_its_name_is_anothers_joins_no_cluster(changes: Changes) -> None:
    registry, _ = registry_of("0.1.0", ready(ONE, hostname="pi"), ready(TWO, hostname="pi"))
    await registry.load()
    with pytest.raises(AlreadyExists) as caught:
        await registry.update(TWO, changes, Precondition(), RequestIdentity("anna", "", b""))
    assert (caught.value.reason, f"node {ONE}" in caught.value.message) == ("HOSTNAME_TAKEN", True)
    first = await registry.update(ONE, changes, Precondition(), RequestIdentity("anna", "", b""))
    assert (first.cluster_id, first.role) == (changes.cluster_id or "", changes.role or NodeRole.UNSPECIFIED)
    labelled = await registry.update(TWO, Changes(labels={"room": "attic"}), Precondition(), RequestIdentity("anna", "", b""))
    assert dict(labelled.labels) == {"room": "attic"}
