"""Abuse of the event WebSocket, through a real Envoy."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.frames import Frame, Opcode

from tests.fakes.authority import FakeAuthority
from tests.fakes.edge import EdgeWorld, edge_world
from tests.fakes.services import FORGED
from tests.fakes.websocket import closed, events, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EdgeWorld]:
    from picontroller.gateway.settings import Settings

    async with edge_world(tmp_path_factory.mktemp("edge"), Settings(token_seconds=0.5)) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def nothing_left(world: EdgeWorld) -> AsyncIterator[None]:
    """Whatever a client did, no subscription outlives it and the gateway serves on."""
    yield
    await until(lambda: world.services.seen.subscriptions == 0)
    async with world.http() as client:
        assert (await client.get("/healthz")).status_code == 200
    assert world.gateway.envoy.restarts == 0


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1", "https://127.0.0.1.evil.example"])
async def test_abuse_43_foreign_origin_is_403(world: EdgeWorld, origin: str) -> None:
    with pytest.raises(InvalidStatus) as caught:
        await events(world, token=world.tokens.token(), origin=origin)
    assert caught.value.response.status_code == 403


async def test_abuse_43_own_origin_is_let_in(world: EdgeWorld) -> None:
    async with events(world, token=world.tokens.token(), origin=f"https://127.0.0.1:{world.gateway.port}"):
        await until(lambda: world.services.seen.subscriptions == 1)


@pytest.mark.parametrize(
    "first", [None, "", "x", "{}", '{"token": 1}', '{"token": ""}', '{"token": "x.y.z"}', "[" * 5000, '{"token": "a\\r\\nb: c"}']
)
async def test_abuse_44_no_token_or_a_false_one_is_4401(world: EdgeWorld, first: str | None) -> None:
    async with events(world) as connection:
        if first is not None:
            await connection.send(first)
        code, reason = await closed(connection)
    assert code == 4401, reason
    assert world.services.seen.subscriptions == 0


async def test_abuse_44_expired_token_is_4401_or_401(world: EdgeWorld) -> None:
    for seconds in (-1, -3600):
        async with events(world, token=world.tokens.token(seconds=seconds)) as connection:
            assert (await closed(connection))[0] == 4401
    with pytest.raises(InvalidStatus) as caught:
        await events(world, headers={"authorization": f"Bearer {world.tokens.token(seconds=-3600)}"})
    assert caught.value.response.status_code == 401


async def test_abuse_44_token_that_expires_mid_stream_ends_it(world: EdgeWorld) -> None:
    began = time.monotonic()
    async with events(world, "?after=start", token=world.tokens.token(seconds=2)) as connection:
        await until(lambda: world.services.seen.subscriptions == 1)
        code, reason = await closed(connection)
    assert (code, reason.partition(":")[0]) == (4401, "PROOF_EXPIRED")
    assert 0.5 < time.monotonic() - began < 5


async def test_abuse_44_token_in_the_url_is_not_looked_at(world: EdgeWorld) -> None:
    async with events(world, f"?token={world.tokens.token()}") as connection:
        assert (await closed(connection))[0] in (4400, 4401)


async def test_abuse_44_certificate_of_another_authority_never_gets_in(world: EdgeWorld) -> None:
    stranger = FakeAuthority().identity(world.folder / "stranger", "user/anna", roles=("cluster-admin",))
    with pytest.raises((OSError, InvalidHandshake, ConnectionClosed)):
        async with events(world, identity=stranger) as connection:
            await connection.recv()


async def test_abuse_46_cursor_out_of_range_is_4416_with_a_reason(world: EdgeWorld) -> None:
    async with events(world, f"?after={FORGED}", token=world.tokens.token()) as connection:
        code, reason = await closed(connection)
    assert (code, reason.partition(":")[0]) == (4416, "CURSOR_OUT_OF_RANGE")


@pytest.mark.parametrize("query", ["?nope=1", "?after=c1&after=c2", "?type=GPIO", f"?after={'c' * 200}", "?" + "&".join(["type=a.b"] * 40)])
async def test_query_that_cannot_be_right_is_4400(world: EdgeWorld, query: str) -> None:
    async with events(world, query, token=world.tokens.token()) as connection:
        assert (await closed(connection))[0] == 4400


async def test_abuse_47_message_of_64_mb_is_1009(world: EdgeWorld) -> None:
    async with events(world, token=world.tokens.token()) as connection:
        sending = asyncio.create_task(connection.send("x" * 64_000_000))
        assert (await closed(connection))[0] == 1009
        await asyncio.gather(sending, return_exceptions=True)


async def test_abuse_47_message_in_endless_fragments_is_1009(world: EdgeWorld) -> None:
    async def endless() -> AsyncIterator[str]:
        for _ in range(10_000):
            yield "x" * 1000

    async with events(world, token=world.tokens.token()) as connection:
        sending = asyncio.create_task(connection.send(endless()))
        assert (await closed(connection))[0] == 1009
        await asyncio.gather(sending, return_exceptions=True)


async def test_abuse_47_text_that_is_not_utf8_is_1007(world: EdgeWorld) -> None:
    async with events(world) as connection:
        frame = Frame(Opcode.TEXT, b"\xff\xfe\xfd")
        connection.transport.write(frame.serialize(mask=True, extensions=[]))
        assert (await closed(connection))[0] == 1007


async def test_abuse_47_messages_after_the_token_mean_nothing(world: EdgeWorld) -> None:
    async with events(world, "?after=start", token=world.tokens.token()) as connection:
        for message in ("hello", json.dumps({"token": "x"}), b"\x00\x01"):
            await connection.send(message)
        await until(lambda: world.services.seen.subscriptions == 1)
        await (await connection.ping())


async def test_abuse_49_subscription_without_the_right_is_4403(world: EdgeWorld) -> None:
    async with events(world, "?namespace=secret", token=world.tokens.token("anna", "MONITOR")) as connection:
        code, reason = await closed(connection)
        assert (code, "secret" in reason) == (4403, False)
    async with events(world, identity=world.authority.identity(world.folder / "n9", "node/n9")) as connection:
        assert (await closed(connection))[0] == 4403
    async with world.http() as client:
        answer = await client.get("/api/v1/events:subscribe?filter.namespace=secret", headers=world.bearer("MONITOR"))
    assert answer.status_code == 403
    assert "journal" not in answer.text
