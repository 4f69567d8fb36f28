"""The gateway's merged log over several services' logs: whole or not at all, in order, under the caller's own proof."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from picontroller.core import errors
from picontroller.core.callers import SpiffeId
from picontroller.core.clock import SystemClock
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.forwarding import ForwardedProofs
from picontroller.core.rpc.hosting import Manners
from picontroller.core.rpc.limits import DEFAULT_LIMITS, LimitSettings
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.rpc.validation import default_validator
from picontroller.core.tls.identity import server_name
from picontroller.gateway.bridge import audit
from picontroller.gateway.bridge.reflection import reflecting
from picontroller.v1 import audit_pb2, audit_pb2_grpc
from tests.fakes.authority import FakeAuthority
from tests.fakes.ledger import Ledger, ledger_service
from tests.fakes.tokens import FakeTokens
from tests.rpc.events.hosting import Bus
from tests.rpc.events.speaking import event, request
from tests.unit.audit.samples import entry

NAMES = ("discovery", "gpio")
START = 1_700_000_000


@dataclass
class Merged:
    """Two ledgers, a real event bus, and the gateway's server in front of them."""

    ledgers: dict[str, Ledger]
    bus: Bus
    stub: audit_pb2_grpc.AuditServiceStub
    tokens: FakeTokens
    stack: AsyncExitStack

    def proof(self, role: str = "CLUSTER_ADMIN") -> dict[str, str]:
        return {"authorization": f"Bearer {self.tokens.token('anna', role)}"}

    async def page(self, **fields: Any) -> audit_pb2.ListAuditRecordsResponse:
        asked = audit_pb2.ListAuditRecordsRequest(**fields)
        answer: audit_pb2.ListAuditRecordsResponse = await rpc.unary(self.stub.ListAuditRecords, asked, metadata=self.proof(), seconds=15)
        return answer

    async def verify(self, **fields: Any) -> dict[str, audit_pb2.AuditChain]:
        asked = audit_pb2.VerifyAuditLogRequest(**fields)
        answer = await rpc.unary(self.stub.VerifyAuditLog, asked, metadata=self.proof(), seconds=15)
        return {chain.service: chain for chain in answer.chains}


@asynccontextmanager
async def merging(folder: Path, limits: LimitSettings = DEFAULT_LIMITS) -> AsyncIterator[Merged]:
    tokens = FakeTokens()
    authority = FakeAuthority(jwks=tokens.jwks())
    async with AsyncExitStack() as stack:
        closing = await stack.enter_async_context(AsyncExitStack())
        bus = Bus(folder / "bus")
        bus.folder.mkdir()
        bus.authority = authority
        await stack.enter_async_context(bus.running(proofs=True))
        ledgers: dict[str, Ledger] = {}
        for number, name in enumerate(NAMES):
            (folder / name).mkdir()
            kept = closing if name == NAMES[-1] else stack
            ledgers[name] = await kept.enter_async_context(
                ledger_service(folder / name, limits, name=name, tokens=tokens, authority=authority)
            )
            for step in range(6):
                made = entry(f"{name}{step}", time=(START + 2 * step + number) * 1_000_000)
                ledgers[name].audited.trail.note(made)
            await ledgers[name].audited.trail.flush()
        addresses = {name: ledger.address for name, ledger in ledgers.items()} | {"events": bus.address}
        edge = authority.identity(folder / "edge", "gateway")
        own = authority.identity(folder / "own", "svc/gateway")
        mesh = Mesh(edge, addresses)
        stack.push_async_callback(mesh.close)
        manners = Manners(default_validator(), SystemClock(), ForwardedProofs(lambda: own.trust), 0.5)
        address = f"unix:{folder}/gateway.sock"
        await stack.enter_async_context(reflecting(own, address, (), manners, [audit.register(mesh, NAMES, SystemClock())]))
        channel = mesh.channel(address, server_name(SpiffeId("", "svc", "gateway")))
        yield Merged(ledgers, bus, audit_pb2_grpc.AuditServiceStub(channel), tokens, closing)
        await bus.close()


@pytest.fixture
async def merged(tmp_path: Path) -> AsyncIterator[Merged]:
    async with merging(tmp_path) as made:
        yield made


EVERYTHING = [f"{name}{step}" for step in range(6) for name in NAMES]


async def test_list_when_paged_interleaves_services_by_time_and_misses_nothing(merged: Merged) -> None:
    for size in (1, 5, 12, 1000):
        for oldest_first in (True, False):
            found, token = [], ""
            for _ in range(20):
                answer = await merged.page(page_size=size, page_token=token, oldest_first=oldest_first)
                assert len(answer.records) <= size
                found += [record.resource for record in answer.records]
                token = answer.next_page_token
                if not token:
                    break
            assert found == (EVERYTHING if oldest_first else EVERYTHING[::-1])


async def test_list_when_a_token_belongs_to_another_search_or_is_forged_refuses(merged: Merged) -> None:
    token = (await merged.page(page_size=2)).next_page_token
    for fields in ({"page_token": token, "code": "OK"}, {"page_token": token[:-4] + "AAAA"}, {"page_token": "x"}, {"beyond_number": 3}):
        with pytest.raises(errors.InvalidArgument):
            await merged.page(**fields)


async def test_list_when_one_service_is_named_asks_only_that(merged: Merged) -> None:
    answer = await merged.page(service="gpio", beyond_number=3)
    assert [record.resource for record in answer.records] == ["gpio1", "gpio0"]


async def test_log_when_a_service_is_away_is_unavailable_and_names_it(merged: Merged) -> None:
    await merged.stack.aclose()
    with pytest.raises(errors.Unavailable) as caught:
        await merged.page()
    assert (caught.value.reason, caught.value.metadata) == ("AUDIT_INCOMPLETE", {"service": "gpio"})
    assert len((await merged.page(service="discovery")).records) == 6
    with pytest.raises(errors.Unavailable) as caught:
        await merged.verify()
    assert caught.value.metadata == {"service": "gpio"}


async def test_watch_when_records_come_has_those_of_all_and_ends_when_one_goes(merged: Merged) -> None:
    seen: list[str] = []

    async def watch() -> None:
        watched = audit_pb2.WatchAuditRecordsRequest()
        async with aclosing(rpc.stream(merged.stub.WatchAuditRecords, watched, metadata=merged.proof())) as responses:
            async for record in responses:
                seen.append(record.service)

    watching = asyncio.ensure_future(watch())
    async with asyncio.timeout(10):
        while set(seen) != set(NAMES):
            for ledger in merged.ledgers.values():
                ledger.audited.trail.note(entry("new"))
                await ledger.audited.trail.flush()
            await asyncio.sleep(0.02)
        await merged.stack.aclose()
        with pytest.raises(errors.Unavailable) as caught:
            await watching
    assert caught.value.metadata == {"service": "gpio"}


async def test_verify_when_the_end_was_cut_shows_it_by_the_checkpoint_on_the_bus(merged: Merged) -> None:
    ledger = merged.ledgers["gpio"]
    await ledger.audited.upkeep.checkpoint()
    (checkpoint,) = ledger.published
    stub = merged.bus.stub("svc/gpio")
    made = event("audit.checkpoint", resource="gpio")
    made.data.update(dict(checkpoint.data))
    await rpc.unary(stub.Publish, request(made))
    chains = await merged.verify()
    assert (chains["gpio"].broken_number, chains["gpio"].checkpoint_number, chains["discovery"].checkpoint_number) == (0, 6, 0)
    await ledger.database.write(lambda connection: connection.execute("DELETE FROM audit WHERE number > 4") and None)
    chains = await merged.verify()
    assert (chains["gpio"].broken_number, chains["discovery"].broken_number) == (5, 0)
    assert "cut off" in chains["gpio"].problem


async def test_verify_when_a_head_was_noted_compares_it_too(merged: Merged) -> None:
    head = (await merged.verify())["gpio"]
    good = {"service": "gpio", "noted_number": head.head_number, "noted_hash": head.head_hash}
    assert (await merged.verify(**good))["gpio"].broken_number == 0
    assert (await merged.verify(**good | {"noted_hash": "0" * 64}))["gpio"].broken_number == 6
    with pytest.raises(errors.InvalidArgument):
        await merged.verify(noted_number=3)


async def test_log_when_asked_for_without_the_right_is_refused_and_the_gateway_lends_none(merged: Merged) -> None:
    with pytest.raises(errors.PermissionDenied):
        await rpc.unary(merged.stub.ListAuditRecords, audit_pb2.ListAuditRecordsRequest(), metadata=merged.proof("MONITOR"))
    with pytest.raises(errors.Unauthenticated):
        await rpc.unary(merged.stub.ListAuditRecords, audit_pb2.ListAuditRecordsRequest())


async def test_watch_when_a_connection_ends_goes_on_where_it_was(tmp_path: Path) -> None:
    async with merging(tmp_path, LimitSettings(connection_age_seconds=1, connection_grace_seconds=0.2)) as merged:
        seen: list[str] = []

        async def watch() -> None:
            watched = audit_pb2.WatchAuditRecordsRequest()
            async with aclosing(rpc.stream(merged.stub.WatchAuditRecords, watched, metadata=merged.proof())) as responses:
                async for record in responses:
                    seen.append(record.resource)

        watching = asyncio.ensure_future(watch())
        trail = merged.ledgers["gpio"].audited.trail
        written: list[str] = []
        loop = asyncio.get_running_loop()
        end = loop.time() + 4
        while loop.time() < end:
            written.append(f"w{len(written)}")
            trail.note(entry(written[-1]))
            await trail.flush()
            await asyncio.sleep(0.02)
        async with asyncio.timeout(10):
            while not seen or seen[-1] != written[-1]:
                await asyncio.sleep(0.05)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert seen == written[-len(seen) :]
    assert len(seen) > len(written) * 0.8
