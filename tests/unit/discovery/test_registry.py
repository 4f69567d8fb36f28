"""The registry over a store in memory: what is written when, what callers see who go away, and what a failing disk does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from picontroller.core.errors import QuotaExceeded, Unauthenticated
from picontroller.core.tasks import cancel_and_wait
from picontroller.discovery import tending
from picontroller.discovery.liveness import Liveness
from picontroller.discovery.nodes import Changes, Node, NodeNotFound, NodeStatus, Precondition
from picontroller.discovery.registry import Registry, RequestIdentity
from picontroller.discovery.watching import ChangeKind
from tests.fakes.clock import START, FakeClock, settle
from tests.fakes.node_store import FakeNodeStore
from tests.unit.discovery.samples import ONE, THREE, TWO, ready, registration

ANNA = RequestIdentity("anna", "", b"")


class Bench:
    """A registry with everything it stands on."""

    def __init__(self, *nodes: Node) -> None:
        self.clock = FakeClock()
        self.store = FakeNodeStore(*nodes)
        self.liveness = Liveness(self.clock, 15)
        self.registry = Registry(self.store, self.liveness, self.clock)

    @asynccontextmanager
    async def tended(self, flush_seconds: float = 60) -> AsyncIterator[None]:
        """Do the work over time as wiring has it done."""
        await self.registry.load()
        tasks = [
            asyncio.create_task(tending.lose_silent(self.registry, self.liveness, self.clock)),
            asyncio.create_task(tending.flush(self.registry, self.clock, flush_seconds)),
            asyncio.create_task(tending.notice_problems(self.registry)),
        ]
        await self.clock.until_sleeping(2)
        try:
            yield
        finally:
            await cancel_and_wait(*tasks)

    def status(self, node_id: str = ONE) -> NodeStatus:
        return self.registry.get(ONE if node_id == ONE else TWO).status

    @property
    def told(self) -> list[str]:
        return [event.type for event in self.store.events]


async def test_signs_of_life_when_they_come_for_an_hour_cost_one_write_a_minute() -> None:
    bench = Bench(ready(ONE), ready(TWO))
    async with bench.tended():
        for _ in range(720):
            for node_id in (ONE, TWO):
                assert await bench.registry.report(node_id, ()) is False
            await bench.clock.advance(5)
    assert bench.store.writes == 60
    assert bench.told == []
    assert bench.registry.get(ONE).last_seen == START + timedelta(seconds=3595)
    assert bench.store.nodes[ONE].last_seen >= START + timedelta(seconds=3595)


async def test_flush_when_nobody_was_heard_of_writes_nothing() -> None:
    bench = Bench(ready(ONE))
    async with bench.tended(flush_seconds=1):
        await bench.clock.advance(10)
    assert bench.store.writes == 0


async def test_flush_when_nothing_is_new_since_the_last_writes_nothing() -> None:
    bench = Bench(ready(ONE))
    await bench.registry.load()
    await bench.registry.report(ONE, ())
    for _ in range(3):
        await bench.registry.flush()
    assert bench.store.writes == 1


async def test_node_when_deleted_leaves_nothing_to_be_written_or_remembered() -> None:
    bench = Bench(ready(ONE))
    await bench.registry.load()
    await bench.registry.report(ONE, ())
    await bench.registry.delete(ONE, Precondition())
    await bench.registry.flush()
    assert (bench.store.writes, bench.liveness.last_seen(ONE), bench.liveness.unwritten()) == (1, None, {})


async def test_problem_when_its_figures_change_at_each_report_is_written_once_a_minute_without_events() -> None:
    bench = Bench(ready(ONE))
    async with bench.tended():
        for number in range(24):
            await bench.registry.report(ONE, (f"HOT: {number} degrees",))
            await bench.clock.advance(5)
        assert bench.registry.get(ONE).problems == ("HOT: 23 degrees",)
    assert bench.told == ["node.degraded"]
    assert bench.store.writes == 1 + 2 * 2


async def test_problem_when_it_is_gone_before_the_flush_does_not_come_back() -> None:
    bench = Bench(ready(ONE))
    await bench.registry.load()
    for lines in (("HOT: 1",), ("HOT: 2",), ()):
        await bench.registry.report(ONE, lines)
    await bench.registry.flush()
    assert (bench.status(), bench.registry.get(ONE).problems) == (NodeStatus.READY, ())


async def test_silence_when_fifteen_seconds_long_makes_a_node_lost_at_that_moment() -> None:
    bench = Bench(ready(ONE), ready(TWO))
    async with bench.tended():
        await bench.clock.advance(4)
        await bench.registry.report(TWO, ())
        await bench.clock.advance(10.9)
        assert bench.told == []
        await bench.clock.advance(0.1)
        assert (bench.status(ONE), bench.status(TWO), bench.told) == (NodeStatus.LOST, NodeStatus.READY, ["node.lost"])
        assert bench.store.events[0].time == START + timedelta(seconds=15)
        await bench.clock.advance(4)
        assert bench.status(TWO) is NodeStatus.LOST
        await bench.clock.advance(3600)
        assert bench.told == ["node.lost", "node.lost"]


async def test_node_when_it_registers_but_never_reports_is_lost_too() -> None:
    bench = Bench()
    async with bench.tended():
        await bench.registry.register(registration(ONE))
        await bench.clock.advance(15)
        assert bench.told == ["node.discovered", "node.lost"]


async def test_silence_when_this_process_itself_was_held_up_is_held_against_nobody() -> None:
    bench = Bench(ready(ONE))
    async with bench.tended():
        bench.clock.stall(40)  # as after SIGSTOP and SIGCONT: everything wakes late, reports are still unread
        await settle()
        assert bench.told == []
        await bench.registry.report(ONE, ())
        await bench.clock.advance(14.9)
        assert bench.status() is NodeStatus.READY
        await bench.clock.advance(0.2)
        assert bench.told == ["node.lost"]


async def test_change_when_its_caller_goes_away_happens_and_is_seen() -> None:
    bench = Bench(ready(ONE))
    await bench.registry.load()
    async with aclosing(bench.registry.watch()) as changes:
        assert [(await anext(changes)).kind, (await anext(changes)).kind] == [ChangeKind.UPDATED, ChangeKind.SYNCED]
        bench.store.gate.clear()
        caller = asyncio.create_task(bench.registry.update(ONE, Changes(cluster_id="home"), Precondition(), ANNA))
        await settle()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert bench.registry.get(ONE).cluster_id == ""
        bench.store.gate.set()
        change = await asyncio.wait_for(anext(changes), 5)
    assert change.node is not None
    assert change.node.cluster_id == bench.registry.get(ONE).cluster_id == "home"


async def test_close_when_changes_are_under_way_waits_for_them_and_writes_last_signs_of_life() -> None:
    bench = Bench(ready(ONE))
    await bench.registry.load()
    await bench.clock.advance(3)
    await bench.registry.report(ONE, ())
    bench.store.gate.clear()
    caller = asyncio.create_task(bench.registry.update(ONE, Changes(cluster_id="home"), Precondition(), ANNA))
    await settle()
    closing = asyncio.create_task(bench.registry.close())
    await settle()
    assert not closing.done()
    bench.store.gate.set()
    await asyncio.wait_for(closing, 5)
    await caller
    assert (bench.store.nodes[ONE].cluster_id, bench.store.nodes[ONE].last_seen) == ("home", START + timedelta(seconds=3))


async def test_change_when_the_disk_is_full_changes_nothing_in_memory() -> None:
    bench = Bench(ready(ONE))
    await bench.registry.load()
    before = bench.registry.get(ONE)
    bench.store.failure = QuotaExceeded("full", reason="DISK_FULL")
    with pytest.raises(QuotaExceeded):
        await bench.registry.update(ONE, Changes(cluster_id="home"), Precondition(), ANNA)
    with pytest.raises(QuotaExceeded):
        await bench.registry.register(registration(TWO))
    with pytest.raises(NodeNotFound):
        bench.registry.get(TWO)
    assert bench.registry.get(ONE) == before
    assert await bench.registry.report(ONE, ()) is False


async def test_signs_of_life_when_they_could_not_be_written_are_written_by_the_next_flush() -> None:
    bench = Bench(ready(ONE))
    await bench.registry.load()
    await bench.clock.advance(3)
    await bench.registry.report(ONE, ())
    bench.store.failure = QuotaExceeded("full", reason="DISK_FULL")
    with pytest.raises(QuotaExceeded):
        await bench.registry.flush()
    bench.store.failure = None
    await bench.registry.flush()
    assert bench.store.nodes[ONE].last_seen == START + timedelta(seconds=3)


async def test_node_when_deleted_while_it_reports_is_asked_to_register() -> None:
    bench = Bench(ready(ONE))
    await bench.registry.load()
    bench.store.gate.clear()
    deletion = asyncio.create_task(bench.registry.delete(ONE, Precondition()))
    await settle()
    report = asyncio.create_task(bench.registry.report(ONE, ("HOT: 85",)))
    await settle()
    bench.store.gate.set()
    await deletion
    assert await report is True
    assert bench.told == ["node.deleted"]


async def test_node_when_it_registers_while_it_is_deleted_is_refused() -> None:
    bench = Bench(ready(ONE))
    async with bench.tended():
        bench.store.gate.clear()
        deletion = asyncio.create_task(bench.registry.delete(ONE, Precondition()))
        await settle()
        joining = asyncio.create_task(bench.registry.register(registration(ONE, hostname="again")))
        await settle()
        bench.store.gate.set()
        await deletion
        with pytest.raises(Unauthenticated) as caught:
            await joining
        assert caught.value.reason == "NODE_REVOKED"
        assert bench.told == ["node.deleted"]


async def test_node_when_it_registers_while_it_leaves_is_new_and_not_lost() -> None:
    bench = Bench(ready(ONE))
    async with bench.tended():
        bench.store.gate.clear()
        deletion = asyncio.create_task(bench.registry.unregister(ONE))
        await settle()
        joining = asyncio.create_task(bench.registry.register(registration(ONE, hostname="again")))
        await settle()
        bench.store.gate.set()
        await deletion
        assert (await joining).status is NodeStatus.DISCOVERED
        await bench.clock.advance(14)
        await bench.registry.lose_silent()
        assert bench.told == ["node.deleted", "node.discovered"]


async def test_twins_when_one_is_lost_are_none_any_more() -> None:
    bench = Bench(ready(ONE, hostname="raspberrypi"), ready(TWO, hostname="RaspberryPi"), ready(THREE))
    async with bench.tended():
        await settle()
        (problem,) = bench.registry.get(TWO).problems
        assert problem.startswith(f"DUPLICATE_HOSTNAME: raspberrypi is the name of node {ONE} already;")
        assert bench.registry.get(ONE).problems == bench.registry.get(THREE).problems == ()
        for _ in range(3):
            await bench.clock.advance(5)
            for node_id in (TWO, THREE):
                await bench.registry.report(node_id, ())
        await settle()
        assert (bench.status(ONE), bench.status(TWO), bench.registry.get(TWO).problems) == (NodeStatus.LOST, NodeStatus.READY, ())
    assert bench.told == ["node.degraded", "node.lost", "node.ready"]


async def test_nodes_when_loaded_have_a_full_grace_period_and_lost_ones_stay_lost() -> None:
    long_ago = START - timedelta(days=3)
    bench = Bench(replace(ready(ONE), last_seen=long_ago), replace(ready(TWO), status=NodeStatus.LOST))
    async with bench.tended():
        await bench.clock.advance(14.9)
        assert (bench.status(ONE), bench.status(TWO), bench.told) == (NodeStatus.READY, NodeStatus.LOST, [])
        assert bench.registry.get(ONE).last_seen == long_ago
        await bench.clock.advance(0.1)
        assert bench.told == ["node.lost"]
        assert bench.registry.get(ONE).last_seen == long_ago
