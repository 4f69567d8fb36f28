"""Asking for more than a share: what the edge and the services answer, to whom, and that others do not notice."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from picontroller.core.rpc import errors as rpc_errors
from picontroller.core.rpc.limits import LimitSettings
from picontroller.gateway.settings import Settings
from picontroller.v1 import identity_pb2, identity_pb2_grpc
from tests.fakes.edge import EdgeWorld, edge_world

pytestmark = pytest.mark.asyncio(loop_scope="module")
LIMITS = LimitSettings(
    reads_per_second=5, reads_burst=10, refusals_per_second=2, refusals_burst=5, joins_per_second=0.2, joins_burst=3, failed_joins_burst=3
)
EDGE = Settings(requests_per_second_per_address=60, requests_per_second_per_subject=30, joins_burst_per_address=8)
WHOAMI = "/api/v1/whoami"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EdgeWorld]:
    async with edge_world(tmp_path_factory.mktemp("limits"), EDGE, limits=LIMITS) as running:
        yield running


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def rested(world: EdgeWorld) -> None:
    """Begin each test with a full bucket at the edge: all of them come from this one address."""
    await asyncio.sleep(1.1)


async def test_reads_when_too_many_are_429_with_retry_after_and_others_are_served(world: EdgeWorld) -> None:
    async with world.http() as client:
        greedy, modest = world.bearer("MONITOR", subject="greedy"), world.bearer("MONITOR", subject="modest")
        answers = [await client.get(WHOAMI, headers=greedy) for _ in range(15)]
        found = Counter(answer.status_code for answer in answers)
        assert found[200] >= 10
        assert found[429] >= 1
        assert set(found) == {200, 429}
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.headers["retry-after"] == "1"
        body = refused.json()
        assert body["code"] == 8
        reasons = {detail["reason"] for detail in body["details"] if "reason" in detail}
        assert reasons == {"RATE_LIMITED"}
        assert any(detail["@type"].endswith("RetryInfo") for detail in body["details"])
        assert (await client.get(WHOAMI, headers=modest)).status_code == 200


async def test_reads_when_too_many_over_grpc_are_resource_exhausted_with_retry_info(world: EdgeWorld) -> None:
    async with world.channel(world.person("monitor", name="grpc")) as channel:
        stub = identity_pb2_grpc.IdentityServiceStub(channel)
        reasons: Counter[str] = Counter()
        for _ in range(15):
            try:
                await stub.WhoAmI(identity_pb2.WhoAmIRequest(), timeout=5)
            except grpc.aio.AioRpcError as error:
                known = rpc_errors.from_grpc(error)
                assert known.retry_after is not None
                assert 0 < known.retry_after <= 0.2
                reasons[f"{error.code().name} {known.reason}"] += 1
    assert set(reasons) == {"RESOURCE_EXHAUSTED RATE_LIMITED"}


async def test_calls_without_a_proof_when_too_many_are_429_and_those_with_one_are_served(world: EdgeWorld) -> None:
    async with world.http() as client:
        found = Counter([(await client.get(WHOAMI)).status_code for _ in range(12)])
        assert set(found) == {401, 429}
        assert found[401] >= 5
        assert (await client.get(WHOAMI, headers=world.bearer("MONITOR", subject="known"))).status_code == 200


async def test_requests_when_one_address_floods_end_at_the_edge_in_the_usual_form(world: EdgeWorld) -> None:
    async with world.http() as client:
        answers = await asyncio.gather(*(client.get("/healthz") for _ in range(150)))
        found = Counter(answer.status_code for answer in answers)
        assert found[200] >= 60
        assert found[429] >= 20
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert (refused.headers["retry-after"], refused.json()["code"]) == ("1", 8)
        assert refused.json()["details"][0]["reason"] == "TOO_MANY_REQUESTS"
    async with world.channel(world.person("monitor")) as channel:
        stub = identity_pb2_grpc.IdentityServiceStub(channel)
        codes: Counter[Any] = Counter()
        for _ in range(100):
            try:
                await stub.WhoAmI(identity_pb2.WhoAmIRequest(), timeout=5)
            except grpc.aio.AioRpcError as error:
                codes[error.code()] += 1
        assert set(codes) == {grpc.StatusCode.RESOURCE_EXHAUSTED}


async def test_requests_when_one_token_floods_end_at_the_edge_and_other_tokens_pass(world: EdgeWorld) -> None:
    async with world.http() as client:
        greedy, modest = world.bearer("MONITOR", subject="spread"), world.bearer("MONITOR", subject="single")
        answers = await asyncio.gather(*(client.get(WHOAMI, headers=greedy) for _ in range(45)))
        reasons = Counter(
            detail["reason"] for answer in answers if answer.status_code == 429 for detail in answer.json()["details"] if "reason" in detail
        )
        assert reasons["TOO_MANY_REQUESTS"] >= 10, "the edge answers beyond its bucket of 30"
        assert (await client.get(WHOAMI, headers=modest)).status_code == 200


async def test_abuse_55_joins_when_guessed_reach_the_service_by_the_bucket_only(world: EdgeWorld) -> None:
    before = world.services.seen.changes
    async with world.channel() as channel:
        stub = identity_pb2_grpc.IdentityServiceStub(channel)
        request = identity_pb2.IssueCertificateRequest(token="PC1.guess", csr_pem="none")
        started = time.monotonic()
        codes: Counter[Any] = Counter()
        for _ in range(60):
            try:
                await stub.IssueCertificate(request, timeout=5)
                codes["looked at"] += 1
            except grpc.aio.AioRpcError as error:
                codes[error.code() if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED else "looked at"] += 1
        seconds = time.monotonic() - started
    assert 1 <= codes["looked at"] <= 3 + seconds * 1.0 + 1
    assert codes[grpc.StatusCode.RESOURCE_EXHAUSTED] == 60 - codes["looked at"]
    assert world.services.seen.changes - before <= codes["looked at"]
