"""Changes whose callers go away at any moment: each happens wholly or not at all, and its repetition finds or makes it once."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format

from picontroller.core.rpc import mesh as rpc
from picontroller.v1 import discovery_pb2, gpio_pb2
from tests.rpc.discovery import world as discovery
from tests.rpc.gpio import world as gpio

POINTS = 100
SEED = 28

# Makes the request of the n-th change.
Wish = Callable[[int], Any]


async def broken_off(method: Any, request: Any, seconds: float) -> bool:
    """Call and go away after ``seconds``; return whether the answer had come before."""
    call = method(request, timeout=10)
    await asyncio.sleep(seconds)
    call.cancel()
    try:
        await call
    except (asyncio.CancelledError, grpc.aio.AioRpcError):
        return False
    return True


async def campaign(method: Any, wish: Wish, settle: Callable[[int, Any], Awaitable[None]]) -> tuple[int, int]:
    """Break off ``POINTS`` changes, each at a random point of what one takes, and repeat each until it is answered.

    ``settle`` looks at the state after each answer. Returns how many broken calls had been answered, and how many had not.
    """
    chance, durations = random.Random(SEED), []
    for number in range(5):
        started = time.perf_counter()
        await settle(number, await rpc.unary(method, wish(number)))
        durations.append(time.perf_counter() - started)
    longest, answered = sorted(durations)[2] * 1.2, 0
    for number in range(5, 5 + POINTS):
        request = wish(number)
        answered += await broken_off(method, request, chance.uniform(0, longest))
        first = await rpc.unary(method, request, seconds=10)
        again = await rpc.unary(method, request)
        assert first == again
        await settle(number, first)
    return answered, POINTS - answered


def assert_both_happened(outcome: tuple[int, int]) -> None:
    """Assert that calls were met on their way. A machine that is quicker than while it was measured answers most of them before."""
    assert outcome[1] >= POINTS // 10, outcome


async def test_abuse_28_creation_when_broken_off_anywhere_happens_once(tmp_path: Path) -> None:
    async with gpio.opened(tmp_path) as world:
        world.add_pi()
        async with world.running():
            made: set[str] = set()

            async def settle(number: int, resource: gpio_pb2.GpioResource) -> None:
                assert [found.id for found in (await world.listed()).gpio_resources] == [resource.id]
                assert resource.name == f"led-{number}"
                made.add(resource.id)
                await world.delete(resource)

            outcome = await campaign(
                world.stub().CreateGpioResource, lambda number: gpio.creation(f"led-{number}", request_id=str(number)), settle
            )
            events = await world.until_told("gpio.deleted", POINTS + 5)
            assert len(events) == len(made) == POINTS + 5
            assert len(world.told("gpio.created")) == POINTS + 5
    assert_both_happened(outcome)


async def test_abuse_28_update_when_broken_off_anywhere_happens_once(tmp_path: Path) -> None:
    async with gpio.opened(tmp_path) as world:
        world.add_pi()
        async with world.running():
            led = await world.create()

            def wish(number: int) -> gpio_pb2.UpdateGpioResourceRequest:
                fields = {"id": led.id, "safe": ("HIGH", "LOW")[number % 2], "request_id": str(number)}
                return json_format.ParseDict(fields, gpio_pb2.UpdateGpioResourceRequest())

            async def settle(number: int, resource: gpio_pb2.GpioResource) -> None:
                kept = await world.get(led)
                assert (kept.safe, kept.etag) == (wish(number).safe, resource.etag)

            outcome = await campaign(world.stub().UpdateGpioResource, wish, settle)
            await world.until_told("gpio.updated", POINTS + 5)
            await world.delete(led)
            await world.until_told("gpio.deleted")
            assert len(world.told("gpio.updated")) == POINTS + 5
    assert_both_happened(outcome)


async def test_abuse_28_node_update_when_broken_off_anywhere_happens_once(tmp_path: Path) -> None:
    async with discovery.opened(tmp_path) as world, world.running():
        node_id = discovery.new_node_id()
        await world.register(node_id)

        def wish(number: int) -> discovery_pb2.UpdateNodeRequest:
            fields = {"id": node_id, "labels": {"number": str(number)}, "update_mask": "labels", "request_id": str(number)}
            return json_format.ParseDict(fields, discovery_pb2.UpdateNodeRequest())

        async def settle(number: int, node: discovery_pb2.Node) -> None:
            kept = await world.get(node_id)
            assert (dict(kept.labels), kept.etag) == ({"number": str(number)}, node.etag)

        outcome = await campaign(world.stub().UpdateNode, wish, settle)
        assert (await world.event_types()).count("node.updated") == POINTS + 5
    assert_both_happened(outcome)
