"""What leaves a record, and in which transaction."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from picontroller.core import errors
from picontroller.core.audit.chain import DROPPED
from picontroller.core.audit.pending import NotTheChange
from picontroller.core.audit.trail import STRANGERS_AT_ONCE
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.limits import LimitSettings
from picontroller.core.store.sqlite import Database
from picontroller.core.tls.denials import Denial
from picontroller.v1 import discovery_pb2
from tests.fakes.ledger import SCHEMA, Ledger, add, ledger_service
from tests.fakes.limits import PLENTY

METHOD = "picontroller.v1.DiscoveryService/UpdateNode"
ASK = discovery_pb2.UpdateNodeRequest(id="n1", labels={"room": "attic"})
Request = discovery_pb2.UpdateNodeRequest


async def update(ledger: Ledger, request: Request = ASK, **metadata: str) -> None:
    stub = ledger.stub()
    await rpc.unary(stub.UpdateNode, request, metadata={key.replace("_", "-"): value for key, value in metadata.items()})


async def failing(ledger: Ledger, request: Request = ASK) -> errors.Error:
    with pytest.raises(errors.Error) as caught:
        await update(ledger, request)
    return caught.value


async def in_database(ledger: Ledger) -> list[tuple[str, str]]:
    """Return what stands in the file now, whatever waits elsewhere: resource and code."""

    def rows(connection: apsw.Connection) -> list[tuple[str, str]]:
        return [(str(r), str(c)) for r, c in connection.execute("SELECT resource, code FROM audit ORDER BY number")]

    return await ledger.database.read(rows)


async def test_change_when_done_has_its_record_when_it_is_answered(ledger: Ledger) -> None:
    await update(ledger, x_request_id="my-call")
    assert await in_database(ledger) == [("n1", "OK")]
    (record,) = await ledger.records()
    assert (record.service, record.number, record.method, record.resource) == ("discovery", 1, METHOD, "n1")
    assert (record.principal, record.address, record.code, record.reason) == ("spiffe://pi-controller.local/user/anna", "", "OK", "")
    assert record.proof.startswith("certificate:")
    assert record.request_id == "my-call"
    assert record.request_digest == hashlib.sha256(ASK.SerializeToString(deterministic=True)).hexdigest()
    assert record.previous_hash == "0" * 64
    assert (await ledger.verify()).broken_number == 0


async def test_address_when_anybody_but_the_gateway_tells_it_is_that_of_the_socket(tmp_path: Path) -> None:
    claim = {"x-client-address": "192.0.2.99"}
    async with ledger_service(tmp_path, listen="127.0.0.1:0") as ledger:
        for path in ("node/0b0e7e9e-4b5c-4f0f-9d1c-0123456789ab", "user/mona", "svc/gateway"):
            with pytest.raises(errors.PermissionDenied):
                await rpc.unary(ledger.stub(path, "monitor").UpdateNode, ASK, metadata=claim)
        await rpc.unary(ledger.stub().UpdateNode, ASK, metadata=claim)
        bearer = {"authorization": f"Bearer {ledger.tokens.token('anna', 'CLUSTER_ADMIN')}"}
        await rpc.unary(ledger.stub("gateway", "monitor").UpdateNode, ASK, metadata=claim | bearer)
        assert Counter((record.code, record.address) for record in await ledger.records(method=METHOD)) == {
            ("PERMISSION_DENIED", "127.0.0.1"): 3,
            ("OK", "127.0.0.1"): 1,
            ("OK", "192.0.2.99"): 1,
        }


async def test_change_when_its_work_fails_leaves_neither_change_nor_ok(ledger: Ledger) -> None:
    async def fail(database: Database, request: Request) -> None:
        def work(connection: apsw.Connection) -> None:
            add(connection, "half")
            raise errors.FailedPrecondition("not now", reason="NOT_NOW")

        await database.write(work)

    ledger.servicer.change = fail
    await failing(ledger)
    assert await in_database(ledger) == []
    assert [(record.code, record.reason) for record in await ledger.records()] == [("FAILED_PRECONDITION", "NOT_NOW")]
    assert await ledger.notes() == []


async def test_change_when_its_record_cant_be_written_does_not_happen(ledger: Ledger) -> None:
    await ledger.database.write(lambda connection: connection.execute("ALTER TABLE audit RENAME TO gone") and None)
    error = await failing(ledger)
    assert isinstance(error, errors.Internal)
    assert await ledger.notes() == []
    await ledger.database.write(lambda connection: connection.execute("ALTER TABLE gone RENAME TO audit") and None)
    assert [record.code for record in await ledger.records()] == ["INTERNAL"]


async def test_change_when_it_writes_several_times_leaves_one_record(ledger: Ledger) -> None:
    async def thrice(database: Database, request: Request) -> None:
        await database.write(lambda connection: None)
        await asyncio.gather(*(database.write(lambda connection: add(connection, "x")) for _ in range(3)))

    ledger.servicer.change = thrice
    await update(ledger)
    assert await in_database(ledger) == [("n1", "OK")]
    assert len(await ledger.records()) == 1
    assert await ledger.notes() == ["x", "x", "x"]


async def test_change_when_it_only_prepares_leaves_its_record_to_what_comes_of_it(ledger: Ledger) -> None:
    async def prepare_and_fail(database: Database, request: Request) -> None:
        await database.write(lambda connection: add(connection, "reserved"), prepares=True)
        raise errors.Unavailable("the board is away", reason="NODE_OFFLINE")

    ledger.servicer.change = prepare_and_fail
    await failing(ledger)
    assert [record.code for record in await ledger.records()] == ["UNAVAILABLE"]


async def test_change_when_refused_within_the_transaction_notes_the_refusal_only(ledger: Ledger) -> None:
    class Refusal(NotTheChange):
        pass

    async def refuse(database: Database, request: Request) -> None:
        def work(connection: apsw.Connection) -> Refusal:
            add(connection, "somebody tried")
            return Refusal()

        await database.write(work)
        raise errors.Unauthenticated("used", reason="TOKEN_USED")

    ledger.servicer.change = refuse
    await failing(ledger)
    assert [(record.code, record.reason) for record in await ledger.records()] == [("UNAUTHENTICATED", "TOKEN_USED")]
    assert await ledger.notes() == ["somebody tried"]


async def test_change_when_its_call_fails_afterwards_has_a_second_record(ledger: Ledger) -> None:
    async def change_and_fail(database: Database, request: Request) -> None:
        await database.write(lambda connection: add(connection, "done"))
        raise errors.Unavailable("and then", reason="LATER")

    ledger.servicer.change = change_and_fail
    await failing(ledger)
    assert [record.code for record in await ledger.records()] == ["OK", "UNAVAILABLE"]


async def test_change_when_nothing_changes_is_recorded_all_the_same(ledger: Ledger) -> None:
    async def repeat(database: Database, request: Request) -> None:
        await database.write(lambda connection: None)

    ledger.servicer.change = repeat
    await update(ledger)
    assert await in_database(ledger) == []
    assert [record.code for record in await ledger.records()] == ["OK"]


async def test_change_when_its_caller_goes_away_says_cancelled_and_is_whole(ledger: Ledger) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(database: Database, request: Request) -> None:
        begun.set()
        await go_on.wait()

    ledger.servicer.change = slow
    calling = asyncio.ensure_future(update(ledger))
    await asyncio.wait_for(begun.wait(), 10)
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
    async with asyncio.timeout(10):
        while not (records := await ledger.records()):
            await asyncio.sleep(0.02)
    assert [record.code for record in records] == ["CANCELLED"]


async def test_batch_when_it_fails_as_a_whole_takes_its_records_back(ledger: Ledger) -> None:
    tries = 0

    async def write_twice(database: Database, request: Request) -> None:
        """Fail the first time like a disk that is full, after the record was written."""

        def work(connection: apsw.Connection) -> None:
            nonlocal tries
            tries += 1
            add(connection, request.id)
            if tries == 2:
                raise apsw.FullError("full")

        first = asyncio.ensure_future(database.write(work))
        second = asyncio.ensure_future(database.write(work))
        await asyncio.gather(first, second, return_exceptions=True)
        await database.write(work)

    ledger.servicer.change = write_twice
    await update(ledger)
    chain = await ledger.verify()
    assert chain.broken_number == 0
    assert [record.code for record in await ledger.records()] == ["OK"]


Calling = Callable[[Ledger], Awaitable[object]]


async def as_monitor(ledger: Ledger) -> object:
    stub = ledger.stub("user/mona", "monitor")
    return await rpc.unary(stub.UpdateNode, ASK)


async def as_nobody(ledger: Ledger) -> object:
    stub = ledger.stub("gateway")
    return await rpc.unary(stub.GetNode, discovery_pb2.GetNodeRequest(id="n1"))


async def with_a_bad_token(ledger: Ledger) -> object:
    stub = ledger.stub("gateway")
    return await rpc.unary(stub.GetNode, discovery_pb2.GetNodeRequest(id="n1"), metadata={"authorization": "Bearer rubbish"})


async def with_rubbish(ledger: Ledger) -> object:
    channel = ledger.mesh("user/anna", "cluster-admin").service("discovery")
    return await rpc.unary(channel.unary_unary(f"/{METHOD}"), b"\xff\xff\xff")


async def with_a_bad_field(ledger: Ledger) -> object:
    stub = ledger.stub()
    return await rpc.unary(stub.UpdateNode, Request(id="no good"))


async def as_another_node(ledger: Ledger) -> object:
    stub = ledger.stub("node/6f1d2c3b-0a4e-4f6d-9a51-2b7c8d9e0f11")
    return await rpc.unary(stub.UnregisterNode, discovery_pb2.UnregisterNodeRequest(id="6f1d2c3b-0a4e-4f6d-9a51-2b7c8d9e0f22"))


@pytest.mark.parametrize(
    ("call", "principal", "method", "code", "reason"),
    [
        (as_monitor, "user/mona", "UpdateNode", "PERMISSION_DENIED", "ROLE_MISSING"),
        (as_nobody, "anonymous", "GetNode", "UNAUTHENTICATED", "CREDENTIALS_MISSING"),
        (with_a_bad_token, "anonymous", "GetNode", "UNAUTHENTICATED", "TOKEN_INVALID"),
        (with_rubbish, "user/anna", "UpdateNode", "INVALID_ARGUMENT", "MALFORMED_MESSAGE"),
        (with_a_bad_field, "user/anna", "UpdateNode", "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        (as_another_node, "node/6f1d2c3b-0a4e-4f6d-9a51-2b7c8d9e0f11", "UnregisterNode", "PERMISSION_DENIED", "NOT_OWN_NODE"),
    ],
)
async def test_refusal_of_any_kind_has_its_record(
    ledger: Ledger, call: Calling, principal: str, method: str, code: str, reason: str
) -> None:
    with pytest.raises(errors.Error):
        await call(ledger)
    (record,) = await ledger.records()
    assert record.principal in (principal, f"spiffe://pi-controller.local/{principal}")
    assert (record.method.rpartition("/")[2], record.code, record.reason) == (method, code, reason)
    assert await ledger.notes() == []


async def test_refusal_when_nothing_else_happens_is_on_disk_within_a_second(ledger: Ledger) -> None:
    with pytest.raises(errors.PermissionDenied):
        await as_monitor(ledger)
    async with asyncio.timeout(1.0):
        while not await in_database(ledger):
            await asyncio.sleep(0.02)


async def test_reading_when_it_succeeds_leaves_nothing(ledger: Ledger) -> None:
    stub = ledger.stub()
    await rpc.unary(stub.GetNode, discovery_pb2.GetNodeRequest(id="n1"))
    assert await ledger.records() == []


async def test_refusal_when_the_service_stops_at_once_is_on_disk(tmp_path: Path) -> None:
    async with ledger_service(tmp_path) as stopping:
        with pytest.raises(errors.PermissionDenied):
            await as_monitor(stopping)
    async with await Database.open(tmp_path / "data" / "ledger.db", SCHEMA) as database:
        codes = await database.read(lambda connection: [str(code) for (code,) in connection.execute("SELECT code FROM audit")])
    assert codes == ["PERMISSION_DENIED"]


async def test_work_when_it_belongs_to_no_call_leaves_nothing(ledger: Ledger) -> None:
    await ledger.database.write(lambda connection: add(connection, "by itself"))
    assert await ledger.notes() == ["by itself"]
    assert await ledger.records() == []


async def test_flood_when_beyond_the_rate_leaves_one_record_for_all_and_their_number(tmp_path: Path) -> None:
    strict = LimitSettings(changes_per_second=0.001, changes_burst=1)
    async with ledger_service(tmp_path, strict) as ledger:
        await update(ledger)
        for _ in range(30):
            assert (await failing(ledger)).reason == "RATE_LIMITED"
        records = await ledger.records()
    assert [record.code for record in records if record.method == METHOD] == ["OK", "RESOURCE_EXHAUSTED"]
    assert [record.resource for record in records if record.method == DROPPED] == ["29"]


async def test_refusals_when_they_are_alike_leave_one_record_for_all_and_their_number(tmp_path: Path) -> None:
    async with ledger_service(tmp_path, PLENTY) as ledger:
        stub, admin = ledger.stub("gateway"), ledger.stub()
        for number in range(256):  # strangers at one address, and at one /64
            await refused(stub, f"2001:db8::{number:x}")
            await refused(stub, "192.0.2.7")
        await update(ledger)
        for _ in range(3):
            with pytest.raises(errors.PermissionDenied):
                await as_monitor(ledger)
        await rpc.unary(admin.UpdateNode, Request(id="n2", labels={"a": "b"}))
        records = await ledger.records()
    found = [(record.address, record.code) for record in records if record.method != DROPPED]
    assert found.count(("2001:db8::0", "UNAUTHENTICATED")) == found.count(("192.0.2.7", "UNAUTHENTICATED")) == 1
    assert [code for _, code in found].count("OK") == 2
    assert [code for _, code in found].count("PERMISSION_DENIED") == 1
    assert sum(int(record.resource) for record in records if record.method == DROPPED) == 255 * 2 + 2


async def test_refusals_of_strangers_when_they_come_from_everywhere_have_a_ceiling(tmp_path: Path) -> None:
    async with ledger_service(tmp_path, PLENTY) as ledger:
        stub = ledger.stub("gateway")
        for number in range(200):
            await refused(stub, f"192.0.2.{number}")
        with pytest.raises(errors.PermissionDenied):
            await as_monitor(ledger)
        records = await ledger.records()
    strangers = sum(record.code == "UNAUTHENTICATED" for record in records)
    assert STRANGERS_AT_ONCE <= strangers <= STRANGERS_AT_ONCE + 2  # one comes back in six seconds
    assert strangers + sum(int(record.resource) for record in records if record.method == DROPPED) == 200
    assert [record.principal for record in records if record.code == "PERMISSION_DENIED"] == ["spiffe://pi-controller.local/user/mona"]


async def refused(stub: Any, address: str) -> None:
    with pytest.raises(errors.Unauthenticated):
        await rpc.unary(stub.GetNode, discovery_pb2.GetNodeRequest(id="n1"), metadata={"x-client-address": address})


async def test_call_behind_a_revoked_gateway_is_told_to_try_again_and_recorded(ledger: Ledger) -> None:
    stub = ledger.stub("gateway")
    serial = ledger.mesh("gateway", "cluster-admin").identity.credentials.serial
    ledger.server.denials.add([Denial(f"certificate:{serial}", 4e9)], 1)
    token = {"authorization": f"Bearer {ledger.tokens.token()}"}
    with pytest.raises(errors.Unavailable) as caught:
        await rpc.unary(stub.GetNode, discovery_pb2.GetNodeRequest(id="n1"), metadata=token)
    assert caught.value.reason == "GATEWAY_REVOKED"
    (record,) = await ledger.records()
    assert (record.principal, record.code, record.reason) == ("anonymous", "UNAVAILABLE", "GATEWAY_REVOKED")
