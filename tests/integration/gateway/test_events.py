"""Events over the WebSocket through a real Envoy."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from picontroller.gateway.settings import Settings
from tests.fakes.edge import EdgeWorld, edge_world
from tests.fakes.websocket import closed, events, receive, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def emit(world: EdgeWorld, number: int, **fields: Any) -> None:
    for index in range(number):
        await world.services.events.add("gpio.state.changed", resource=f"led-{index}", **fields)


async def test_event_when_it_happens_arrives_with_the_keys_of_the_contract(world: EdgeWorld) -> None:
    async with events(world, "?type=gpio.*", token=world.tokens.token("anna", "MONITOR")) as connection:
        assert connection.subprotocol == "pi-controller.v1"
        await until(lambda: world.services.seen.subscriptions == 1)
        await world.services.events.add(
            "gpio.state.changed", resource="led", node_id="n1", namespace="default", data={"value": "HIGH", "n": 1}
        )
        event = await receive(connection)
    timestamp = event.pop("timestamp")
    assert timestamp.endswith("Z")
    assert event == {
        "type": "gpio.state.changed",
        "resource": "led",
        "node_id": "n1",
        "namespace": "default",
        "data": {"value": "HIGH", "n": 1},
        "cursor": f"c{len(world.services.events.journal)}",
    }
    await until(lambda: world.services.seen.subscriptions == 0)


async def test_subscription_when_over_a_websocket_goes_by_the_address_that_envoy_saw(world: EdgeWorld) -> None:
    world.services.seen.address = ""
    async with events(world, token=world.tokens.token(), headers={"x-client-address": "192.0.2.99"}):
        await until(lambda: world.services.seen.subscriptions == 1)
    assert world.services.seen.address == "127.0.0.1"
    await until(lambda: world.services.seen.subscriptions == 0)


async def test_client_when_it_comes_back_with_its_cursor_misses_nothing_and_sees_nothing_twice(world: EdgeWorld) -> None:
    token = world.tokens.token()
    place = len(world.services.events.journal)
    await emit(world, 5)
    seen = []
    async with events(world, f"?after=c{place}" if place else "?after=start", token=token) as connection:
        for _ in range(3):
            seen.append((await receive(connection))["cursor"])
    await emit(world, 250)
    async with events(world, f"?after={seen[-1]}", token=token) as connection:
        for _ in range(252):
            seen.append((await receive(connection))["cursor"])
    assert seen == [f"c{place + number}" for number in range(1, 256)]


async def test_token_when_sent_first_or_in_the_header_and_certificate_are_all_accepted(world: EdgeWorld) -> None:
    token = world.tokens.token("bert", "MONITOR")
    for wanted, options in (
        ("bert", {"headers": {"authorization": f"Bearer {token}"}}),
        ("bert", {"token": token}),
        ("bert", {}),
        ("anna", {"identity": world.person("monitor")}),
    ):
        async with events(world, **options) as connection:
            if not options:
                await connection.send(json.dumps({"token": token}))
            await until(lambda: world.services.seen.subscriptions == 1)
            carried = world.services.seen.metadata
            assert ("authorization" in carried, "x-forwarded-client-cert" in carried) == (wanted == "bert", wanted == "anna")
        await until(lambda: world.services.seen.subscriptions == 0)


async def test_subscription_when_the_client_vanishes_is_cancelled(world: EdgeWorld) -> None:
    async with events(world, token=world.tokens.token()) as connection:
        await until(lambda: world.services.seen.subscriptions == 1)
        connection.transport.abort()
        await until(lambda: world.services.seen.subscriptions == 0)


async def test_bus_when_away_closes_with_try_again_later(tmp_path: Path) -> None:
    async with edge_world(tmp_path, without=frozenset({"events"})) as lonely, events(lonely, token=lonely.tokens.token()) as connection:
        assert (await closed(connection))[0] == 1013


async def test_gateway_when_it_stops_asks_to_come_back(tmp_path: Path) -> None:
    async with edge_world(tmp_path) as passing:
        connection = await events(passing, token=passing.tokens.token())
        await until(lambda: passing.services.seen.subscriptions == 1)
    assert (await closed(connection))[0] == 1013


async def test_origin_when_named_in_the_settings_is_let_in(tmp_path: Path) -> None:
    friend = "https://dash.example"
    async with edge_world(tmp_path, Settings(allowed_origins=(friend,))) as open_world:
        async with events(open_world, "?after=start", token=open_world.tokens.token(), origin=friend) as connection:
            await until(lambda: open_world.services.seen.subscriptions == 1)
            await emit(open_world, 1)
            assert (await receive(connection))["cursor"] == "c1"
        async with open_world.http() as client:
            asks = {"origin": friend, "access-control-request-method": "PUT", "access-control-request-headers": "authorization"}
            answer = await client.options("/api/v1/gpio/r1", headers=asks)
            assert answer.headers["access-control-allow-origin"] == friend
            foreign = await client.options("/api/v1/gpio/r1", headers=asks | {"origin": "https://evil.example"})
            assert "access-control-allow-origin" not in foreign.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_change_when_a_foreign_page_asks_is_refused_even_without_a_body(world: EdgeWorld, method: str) -> None:
    evil = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    async with world.http(identity=world.person("cluster-admin")) as client:
        for path in ("/api/v1/jointokens", "/api/v1/gpio/r1", "/picontroller.v1.IdentityService/CreateJoinToken", "/"):
            for headers in (evil, {"origin": "null"}, evil | {"content-type": "application/json"}):
                answer = await client.request(method, path, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (403, 7), (path, headers, answer.text)
                assert answer.json()["details"][0]["reason"] == "ORIGIN_REFUSED"
        read = await client.get("/api/v1/whoami", headers=evil)
        assert "ORIGIN_REFUSED" not in read.text, read.text  # the page can't see the answer
        assert read.status_code == 200, read.text
        for fine in ({}, {"origin": world.gateway.url, "sec-fetch-site": "same-origin"}):
            answer = await client.request("DELETE", "/api/v1/nodes/n1", headers=fine)
            assert "ORIGIN_REFUSED" not in answer.text


async def test_change_when_a_named_origin_asks_is_let_in(tmp_path: Path) -> None:
    friend = "https://dash.example"
    async with (
        edge_world(tmp_path, Settings(allowed_origins=(friend,))) as open_world,
        open_world.http(identity=open_world.person("monitor")) as client,
    ):
        reasons = []
        for origin in (friend, "https://dashxexample", friend + ".evil.example"):
            answer = await client.request("DELETE", "/api/v1/nodes/n1", headers={"origin": origin})
            reasons.append(answer.json()["details"][0]["reason"])
    assert reasons == ["ROLE_MISSING", "ORIGIN_REFUSED", "ORIGIN_REFUSED"]


async def test_reader_when_it_stands_still_holds_the_subscription_back(world: EdgeWorld) -> None:
    """What is not read waits in the journal; only sockets' buffers fill on the way."""
    bus, place = world.services.events, len(world.services.events.journal)
    for _ in range(1200):
        await bus.add("gpio.state.changed", data={"filler": "x" * 50_000})
    async with events(world, f"?after=c{place}", token=world.tokens.token()) as connection:
        await until(lambda: world.services.seen.subscriptions == 1)
        moved, still = -1, 0
        while still < 50:  # the client reads 16 messages ahead and then no more
            await asyncio.sleep(0.01)
            moved, still = bus.handed_out, still + 1 if bus.handed_out == moved else 0
        assert (moved - place) * 50_000 < 40_000_000
        cursors = [(await receive(connection))["cursor"] for _ in range(1200)]
    assert cursors == [f"c{place + number}" for number in range(1, 1201)]
