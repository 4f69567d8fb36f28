"""Subscribe: ordered, unique, resumable, filtered."""

import asyncio

import pytest

from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.events.settings import Settings
from picontroller.v1 import events_pb2
from tests.rpc.events.hosting import Bus, Stub
from tests.rpc.events.speaking import event, publish, request, subscribed


async def test_subscriber_when_it_comes_first_hears_of_everything_in_order(stub: Stub) -> None:
    async with subscribed(stub) as subscription:
        for index in range(50):
            await publish(stub, f"a.n{index}", first=index + 1)
        assert await subscription.types(50) == [f"a.n{index}" for index in range(50)]


async def test_subscriber_when_it_comes_later_hears_only_what_comes(stub: Stub) -> None:
    await publish(stub, "a.old")
    async with subscribed(stub) as subscription:
        await publish(stub, "a.new", first=2)
        assert await subscription.types(1) == ["a.new"]


async def test_subscriber_when_it_begins_at_the_start_gets_history_then_the_present(stub: Stub) -> None:
    await publish(stub, *[f"a.n{index}" for index in range(700)])
    async with subscribed(stub, after="start") as subscription:
        assert len(await subscription.events(700)) == 700
        await publish(stub, "a.live", first=701)
        assert await subscription.types(1) == ["a.live"]


@pytest.mark.parametrize("seen", [0, 1, 3, 4])
async def test_subscriber_when_it_resumes_after_any_event_gets_the_rest_once(stub: Stub, seen: int) -> None:
    await publish(stub, "a.n0", "a.n1", "a.n2", "a.n3")
    async with subscribed(stub, after="start") as subscription:
        events = await subscription.events(4)
    after = events[seen - 1].cursor if seen else "start"
    async with subscribed(stub, after=after) as subscription:
        await publish(stub, "a.n4", first=5)
        assert await subscription.types(5 - seen) == [f"a.n{index}" for index in range(seen, 5)]


async def test_subscriber_when_the_bus_restarts_resumes_by_cursor(bus: Bus) -> None:
    async with bus.running():
        await publish(bus.stub(), "a.one", "a.two")
        async with subscribed(bus.stub(), after="start") as subscription:
            first, _ = await subscription.events(2)
    async with bus.running():
        await publish(bus.stub(), "a.three", first=3)
        async with subscribed(bus.stub(), after=first.cursor) as subscription:
            assert await subscription.types(2) == ["a.two", "a.three"]


async def test_subscriber_when_it_resumes_from_a_batch_of_others_events_misses_nothing(stub: Stub) -> None:
    async with subscribed(stub, type=["z.*"]) as subscription:
        await publish(stub, "a.b", "z.one")
        response = await subscription.response()
    assert [e.type for e in response.events] == ["z.one"]
    await publish(stub, "z.two", first=3)
    async with subscribed(stub, after=response.cursor, type=["z.*"]) as subscription:
        assert await subscription.types(1) == ["z.two"]


@pytest.mark.parametrize(
    ("chosen", "wanted"),
    [
        ({"type": ["gpio.*"]}, [1, 2]),
        ({"type": ["*.ready", "gpio.edge"]}, [2, 3]),
        ({"node_id": ["n1"]}, [1, 3]),
        ({"resource": ["led", "fan"]}, [1, 2]),
        ({"namespace": ["default"]}, [1]),
        ({"namespace": ["default"], "type": ["node.*"]}, []),
        ({}, [1, 2, 3]),
    ],
)
@pytest.mark.parametrize("live", [True, False])
async def test_subscriber_when_it_filters_gets_exactly_what_matches(
    stub: Stub, chosen: dict[str, list[str]], wanted: list[int], live: bool
) -> None:
    events = [
        event("gpio.state.changed", resource="led", node_id="n1", namespace="default"),
        event("gpio.edge", resource="fan", node_id="n2", namespace="other"),
        event("node.ready", resource="n1", node_id="n1"),
        event("end.mark", resource="led", node_id="n1", namespace="default"),
    ]
    if not live:
        await rpc.unary(stub.Publish, request(*events))
    async with subscribed(stub, after="" if live else "start", **chosen) as subscription:
        if live:
            await rpc.unary(stub.Publish, request(*events))
        types = [events[number - 1].type for number in wanted]
        mark = ["end.mark"] if "type" not in chosen else []
        assert await subscription.types(len(types + mark)) == types + mark


async def test_subscriber_when_nothing_happens_is_told_so_with_a_cursor(bus: Bus) -> None:
    async with bus.running(Settings(heartbeat_seconds=0.2)):
        async with subscribed(bus.stub(), type=["z.*"]) as subscription:
            quiet = await subscription.response()
            await publish(bus.stub("svc/discovery"), *["a.b"] * 10)
            for _ in range(20):
                moved = await subscription.response()
                assert not moved.events
                if moved.cursor != quiet.cursor:
                    break
        assert moved.cursor != quiet.cursor
        async with subscribed(bus.stub(), after=moved.cursor) as subscription:
            await publish(bus.stub("svc/discovery"), "a.later", first=11)
            assert await subscription.types(1) == ["a.later"]


async def test_subscriber_when_cut_off_by_compaction_is_out_of_range(bus: Bus) -> None:
    async with bus.running(Settings(tail_events=1, max_rows=10, sweep_seconds=0.05)):
        stub = bus.stub()
        cursor = (await publish(stub, "a.b")).cursor
        await publish(stub, *["a.b"] * 99, first=2)

        async def read_again_and_again() -> None:  # until the sweep has come by
            async with asyncio.timeout(10):
                while True:
                    async with subscribed(stub, after=cursor) as subscription:
                        await subscription.events(99)

        with pytest.raises(errors.OutOfRange) as caught:
            await read_again_and_again()
        assert caught.value.reason == "CURSOR_COMPACTED"
        async with subscribed(stub, after=caught.value.metadata["oldest"]) as subscription:
            assert len(await subscription.events(10)) == 10


async def test_subscribers_when_there_are_many_all_get_the_same(stub: Stub, bus: Bus) -> None:
    async def follow(index: int) -> list[str]:
        async with subscribed(bus.stub(f"svc/w{index}"), after="start") as subscription:
            return [e.cursor for e in await subscription.events(300, 20)]

    following = [asyncio.create_task(follow(index)) for index in range(10)]
    for first in range(1, 301, 3):
        await publish(stub, "a.b", "a.b", "a.b", first=first)
    results = await asyncio.gather(*following)
    assert all(result == results[0] for result in results)
    assert len(set(results[0])) == 300


@pytest.mark.parametrize("role", ["cluster-admin", "gpio-operator", "monitor"])
async def test_subscribe_when_a_person_with_a_role_is_allowed(bus: Bus, role: str) -> None:
    async with bus.running(), subscribed(bus.stub("user/anna", roles=(role,))) as subscription:
        await publish(bus.stub(), "a.b")
        assert await subscription.types(1) == ["a.b"]


@pytest.mark.parametrize(("path", "roles"), [("node/n1", ()), ("user/eve", ()), ("user/eve", ("agent",))])
async def test_subscribe_when_nobody_of_these_is_denied(bus: Bus, path: str, roles: tuple[str, ...]) -> None:
    async with bus.running():
        with pytest.raises(errors.PermissionDenied):
            async with subscribed(bus.stub(path, roles=roles)):
                pass


async def test_subscribe_when_the_filter_breaks_rules_names_the_field(stub: Stub) -> None:
    asked = events_pb2.SubscribeRequest(filter=events_pb2.EventFilter(type=["ok.*", "[a-z]"]))
    with pytest.raises(errors.InvalidArgument) as caught:
        async for _ in rpc.stream(stub.Subscribe, asked):
            pass
    assert [violation.field for violation in caught.value.violations] == ["filter.type[1]"]


async def test_subscription_when_cancelled_leaves_nothing_behind(bus: Bus) -> None:
    async with bus.running():
        stub = bus.stub()
        async with subscribed(stub):
            pass
        before = len(asyncio.all_tasks())
        for _ in range(20):
            async with subscribed(stub):
                pass
        async with asyncio.timeout(5):
            while len(asyncio.all_tasks()) > before:
                await asyncio.sleep(0.01)


async def test_subscription_when_the_bus_stops_ends_as_unavailable(bus: Bus) -> None:
    async with bus.running():
        stub = bus.stub()
        responses = rpc.stream(stub.Subscribe, events_pb2.SubscribeRequest())
        await anext(responses)
    with pytest.raises(errors.Unavailable):
        async with asyncio.timeout(5):
            await anext(responses)
