"""Guessing join tokens: at most one wrong try a second and address is looked at, and no answer tells what was wrong."""

import asyncio
import random
import statistics
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from picontroller.core import errors
from picontroller.core.rpc import mesh as rpc
from picontroller.core.tls.joining import JoinTokenParts, new_secret, parse_token
from picontroller.identity import wiring
from picontroller.identity.registry import Registry
from picontroller.identity.settings import Settings
from picontroller.v1 import identity_pb2
from tests.rpc.identity.world import ShiftedClock, World, request_for_new_key, running

TRIES = 200


async def answer(world: World, token: str, csr: str, address: str) -> str:
    """Return what a stranger at ``address`` is answered, as the gateway carries it."""
    request = identity_pb2.IssueCertificateRequest(token=token, csr_pem=csr)
    try:
        await rpc.unary(world.stub(world.folder("gateway/edge")).IssueCertificate, request, metadata={"x-client-address": address})
    except errors.Error as error:
        return f"{error.reason}: {error.message}" if error.reason != "RATE_LIMITED" else "RATE_LIMITED"
    return "a certificate"


def guess(token: str) -> str:
    parts = parse_token(token)
    return JoinTokenParts(parts.root_hash, parts.id, new_secret()).text()


async def test_abuse_55_guesses_are_looked_at_once_a_second_and_other_addresses_are_served(tmp_path: Path) -> None:
    async with running(tmp_path, Settings()) as world:
        token, (_, csr) = await world.join_token(), request_for_new_key()
        started = time.monotonic()
        found = Counter(await asyncio.gather(*(answer(world, guess(token), csr, "192.0.2.66") for _ in range(400))))
        elapsed = time.monotonic() - started
        looked = sum(count for text, count in found.items() if text != "RATE_LIMITED")
        assert 5 <= looked <= 5 + elapsed
        assert found["RATE_LIMITED"] == 400 - looked
        # The right token waits from there, and is not used up by that; from elsewhere it is served at once.
        assert await answer(world, token, csr, "192.0.2.66") == "RATE_LIMITED"
        assert await answer(world, token, csr, "192.0.2.1") == "a certificate"
        # A neighbour in the same IPv6 network is the same guesser.
        for number in range(5):
            assert (await answer(world, guess(token), csr, f"2001:db8::{number}")).startswith("TOKEN_INVALID")
        assert await answer(world, guess(token), csr, "2001:db8::99") == "RATE_LIMITED"


async def test_abuse_55_right_token_from_a_guessers_address_works_once_its_bucket_allows(tmp_path: Path) -> None:
    async with running(tmp_path, Settings()) as world:
        token, (_, csr) = await world.join_token(), request_for_new_key()
        for _ in range(7):
            await answer(world, guess(token), csr, "192.0.2.66")
        request = identity_pb2.IssueCertificateRequest(token=token, csr_pem=csr)
        stub = world.stub(world.folder("gateway/edge"))
        with pytest.raises(errors.QuotaExceeded) as caught:
            await rpc.unary(stub.IssueCertificate, request, metadata={"x-client-address": "192.0.2.66"})
        assert caught.value.retry_after is not None
        assert 0 < caught.value.retry_after <= 1
        await asyncio.sleep(caught.value.retry_after + 0.05)
        assert await answer(world, token, csr, "192.0.2.66") == "a certificate"


async def refused_tokens(registry: Registry, clock: ShiftedClock) -> dict[str, str]:
    """Return tokens that must be refused, one of each kind."""
    _, good = await registry.create_join_token("good", None)
    _, expired = await registry.create_join_token("expired", timedelta(seconds=10))
    revoked_token, revoked = await registry.create_join_token("revoked", None)
    await registry.revoke_join_token(revoked_token.id)
    clock.shift += timedelta(seconds=60)
    unknown = JoinTokenParts(parse_token(good).root_hash, "AAAAAAAA", new_secret()).text()
    return {"unknown": unknown, "wrong": guess(good), "expired": expired, "revoked": revoked}


async def test_abuse_55_refusals_are_alike_in_text_and_time(tmp_path: Path) -> None:
    clock, (_, csr) = ShiftedClock(), request_for_new_key()
    async with wiring.opened(tmp_path / "identity", Settings(), clock) as registry:
        tokens = await refused_tokens(registry, clock)
        seconds: dict[str, list[float]] = {kind: [] for kind in tokens}
        texts = set()
        order = [kind for kind in tokens for _ in range(TRIES)]
        random.Random(55).shuffle(order)
        for kind in order:
            started = time.perf_counter()
            with pytest.raises(errors.Unauthenticated) as caught:
                await registry.join(tokens[kind], csr)
            seconds[kind].append(time.perf_counter() - started)
            texts.add((caught.value.reason, caught.value.message))
    assert len(texts) == 1, texts
    medians = {kind: statistics.median(each) for kind, each in seconds.items()}
    assert max(medians.values()) <= 1.2 * min(medians.values()), medians
