"""Watchers: the newest state of each node, in bounded memory."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from picontroller.core.ids import NodeId
from picontroller.discovery.nodes import Node
from picontroller.discovery.watching import Change, ChangeKind, Watcher, Watchers
from tests.unit.discovery.samples import ONE, TWO, discovered

SYNCED = Change(ChangeKind.SYNCED)


async def test_watcher_when_it_sleeps_through_changes_is_owed_the_newest_only() -> None:
    watcher = Watcher([discovered(ONE)])
    for number in range(10_000):
        watcher.offer(ONE, replace(discovered(ONE), cluster_id=str(number)))
        watcher.offer(NodeId(f"passing-{number}"), discovered(NodeId(f"passing-{number}")))
        watcher.offer(NodeId(f"passing-{number}"), None)
    assert watcher.owed == 1
    async with aclosing(watcher.changes()) as changes:
        first = await anext(changes)
        assert first.node is not None
        assert first.node.cluster_id == "9999"
        assert await anext(changes) == SYNCED


async def test_watcher_when_a_node_it_knows_ends_is_told_once() -> None:
    node = discovered(ONE)
    watcher = Watcher([node])
    async with aclosing(watcher.changes()) as changes:
        assert [await anext(changes), await anext(changes)] == [Change(ChangeKind.UPDATED, ONE, node), SYNCED]
        watcher.offer(ONE, discovered(ONE))
        watcher.offer(ONE, None)
        watcher.offer(ONE, None)
        assert await anext(changes) == Change(ChangeKind.DELETED, ONE)
        assert watcher.owed == 0


async def test_sync_when_changes_never_stop_comes_all_the_same() -> None:
    watcher = Watcher([discovered(ONE), discovered(TWO)])
    kinds = []
    async with aclosing(watcher.changes()) as changes:
        for _ in range(3):
            kinds.append((await anext(changes)).kind)
            for node_id in (ONE, TWO):
                watcher.offer(node_id, discovered(node_id))
    assert kinds == [ChangeKind.UPDATED, ChangeKind.UPDATED, ChangeKind.SYNCED]


async def test_watchers_when_one_leaves_forget_it() -> None:
    watchers = Watchers()
    async with aclosing(watchers.watch(list)) as one, aclosing(watchers.watch(list)) as other:
        assert [await anext(one), await anext(other)] == [SYNCED, SYNCED]
        assert len(watchers) == 2
        waiting = asyncio.ensure_future(anext(one))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert len(watchers) == 1
    assert len(watchers) == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["update", "delete", "read"])), max_size=60))
def test_watcher_whatever_the_course_ends_with_what_is(course: list[tuple[str, str]]) -> None:
    async def follow() -> None:
        truth: dict[NodeId, Node] = {NodeId("a"): discovered(NodeId("a"))}
        seen: dict[NodeId, Node] = {}
        watcher = Watcher(truth.values())

        def take(change: Change) -> None:
            if change.kind is ChangeKind.DELETED and change.node_id is not None:
                assert change.node_id in seen, "the end of a node that was never told of"
                del seen[change.node_id]
            elif change.node is not None:
                seen[change.node.id] = change.node

        async with aclosing(watcher.changes()) as changes:
            synced = False
            for name, action in course:
                node_id = NodeId(name)
                if action == "update":
                    truth[node_id] = discovered(node_id)
                    watcher.offer(node_id, truth[node_id])
                elif action == "delete" and node_id in truth:
                    del truth[node_id]
                    watcher.offer(node_id, None)
                elif action == "read" and (watcher.owed or not synced):
                    change = await anext(changes)
                    synced = synced or change == SYNCED
                    take(change)
                assert watcher.owed <= len(set(truth) | set(seen))
            while watcher.owed or not synced:
                change = await anext(changes)
                synced = synced or change == SYNCED
                take(change)
        assert seen == truth

    asyncio.run(follow())
