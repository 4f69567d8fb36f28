"""Connections between the gateway and the services that are asked to end every second: nobody outside may notice."""

import asyncio
import time
from collections import Counter
from pathlib import Path

import grpc
import pytest

from picontroller.core.rpc.limits import LimitSettings
from picontroller.v1 import events_pb2, events_pb2_grpc
from tests.fakes.edge import EdgeWorld, edge_world
from tests.fakes.websocket import events, receive, until

AGEING = LimitSettings(connection_age_seconds=1, connection_grace_seconds=0.3)
SECONDS = 4.0
CALLS_PER_SECOND = 80
pytestmark = pytest.mark.timeout(60)


async def ask(world: EdgeWorld, found: Counter[int]) -> None:
    """Ask by REST at a steady rate, whether or not earlier answers have come."""
    async with world.http() as client:
        headers = world.bearer("MONITOR")

        async def once() -> None:
            found[(await client.get("/api/v1/whoami", headers=headers)).status_code] += 1

        started, calls = time.monotonic(), []
        for number in range(int(SECONDS * CALLS_PER_SECOND)):
            await asyncio.sleep(max(0, started + number / CALLS_PER_SECOND - time.monotonic()))
            calls.append(asyncio.create_task(once()))
        await asyncio.gather(*calls)


async def emit(world: EdgeWorld) -> None:
    for number in range(int(SECONDS * 50)):
        await world.services.events.add("gpio.edge", resource=str(number))
        await asyncio.sleep(0.02)


async def subscribed(world: EdgeWorld, endings: Counter[grpc.StatusCode]) -> list[str]:
    """Follow over gRPC through the edge as a client is told to: after each end from the last cursor."""
    seen: list[str] = []
    async with world.channel(world.person("monitor")) as channel:
        stub, after = events_pb2_grpc.EventServiceStub(channel), "start"
        while len(seen) < SECONDS * 50:
            try:
                async for response in stub.Subscribe(events_pb2.SubscribeRequest(after=after)):
                    seen += [event.resource for event in response.events]
                    after = response.cursor
                    if len(seen) >= SECONDS * 50:
                        break
            except grpc.aio.AioRpcError as error:
                endings[error.code()] += 1
    return seen


async def test_connections_when_they_age_lose_no_call_no_event_and_no_websocket(tmp_path: Path) -> None:
    found: Counter[int] = Counter()
    endings: Counter[grpc.StatusCode] = Counter()
    wanted = [str(number) for number in range(int(SECONDS * 50))]
    async with edge_world(tmp_path, limits=AGEING) as world, events(world, token=world.tokens.token()) as connection:
        await until(lambda: world.services.seen.subscriptions == 1)
        following = asyncio.create_task(subscribed(world, endings))
        await asyncio.gather(ask(world, found), emit(world))
        over_websocket = [(await receive(connection))["resource"] for _ in wanted]
        over_grpc = await following
    assert found == {200: int(SECONDS * CALLS_PER_SECOND)}
    assert over_websocket == wanted
    assert over_grpc == wanted
    assert set(endings) == {grpc.StatusCode.UNAVAILABLE}
    assert endings[grpc.StatusCode.UNAVAILABLE] >= 2
