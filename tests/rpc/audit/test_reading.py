"""Searching, watching and verifying a log; what tampering shows, and what is told to the event bus."""

import asyncio
from typing import Any

import pytest

from picontroller.core import errors
from picontroller.core.audit.chain import PRUNED
from picontroller.core.clock import SystemClock
from picontroller.core.rpc import mesh as rpc
from picontroller.core.store.audit import AuditLog
from picontroller.v1 import audit_pb2, discovery_pb2
from tests.fakes.ledger import Ledger
from tests.unit.audit.samples import entry

Listing = audit_pb2.ListAuditRecordsRequest


async def fill(ledger: Ledger, count: int) -> None:
    """Write records about r1 … rN, every third of them refused."""
    log = ledger.audited.trail
    for number in range(1, count + 1):
        code = "PERMISSION_DENIED" if number % 3 == 0 else "OK"
        log.note(entry(f"r{number}", time=1_700_000_000_000_000 + number * 1_000_000, code=code))
    await log.flush(last=True)


async def page(ledger: Ledger, **fields: Any) -> audit_pb2.ListAuditRecordsResponse:
    stub = ledger.audit()
    answer: audit_pb2.ListAuditRecordsResponse = await rpc.unary(stub.ListAuditRecords, Listing(**fields))
    return answer


async def tamper(ledger: Ledger, *statements: str) -> None:
    def work(connection: Any) -> None:
        for statement in statements:
            connection.execute(statement)

    await ledger.database.write(work)


async def test_list_when_paged_has_every_record_once_newest_first(ledger: Ledger) -> None:
    await fill(ledger, 10)
    found, token = [], ""
    for _ in range(4):
        answer = await page(ledger, page_size=3, page_token=token)
        found += [record.number for record in answer.records]
        token = answer.next_page_token
    assert found == list(range(10, 0, -1))
    assert token == ""


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"code": "PERMISSION_DENIED"}, [9, 6, 3]),
        ({"resource": "r4"}, [4]),
        ({"method": "M"}, list(range(10, 0, -1))),
        ({"method": "picontroller.v1.S/M", "resource": "r2"}, [2]),
        ({"method": "S/M"}, []),
        ({"principal": "spiffe://d/user/nobody"}, []),
        ({"service": "gpio"}, []),
        ({"service": "discovery", "beyond_number": 4}, [3, 2, 1]),
        ({"beyond_number": 8, "oldest_first": True}, [9, 10]),
    ],
)
async def test_list_when_filtered_shows_what_was_asked_for(ledger: Ledger, fields: dict[str, Any], expected: list[int]) -> None:
    await fill(ledger, 10)
    assert [record.number for record in (await page(ledger, **fields)).records] == expected


async def test_list_when_bounded_in_time_includes_the_start_and_not_the_end(ledger: Ledger) -> None:
    await fill(ledger, 10)
    request = Listing()
    request.start_time.FromSeconds(1_700_000_003)
    request.end_time.FromSeconds(1_700_000_006)
    answer = await rpc.unary(ledger.audit().ListAuditRecords, request)
    assert [record.number for record in answer.records] == [5, 4, 3]


@pytest.mark.parametrize(
    "fields", [{"page_token": "forged"}, {"page_size": -1}, {"code": "lower"}, {"service": "../x"}, {"start_time": {"seconds": -(2**50)}}]
)
async def test_list_when_asked_for_nonsense_refuses(ledger: Ledger, fields: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidArgument):
        await page(ledger, **fields)


async def test_list_when_a_token_belongs_to_another_search_refuses(ledger: Ledger) -> None:
    await fill(ledger, 5)
    token = (await page(ledger, page_size=2)).next_page_token
    with pytest.raises(errors.InvalidArgument):
        await page(ledger, page_size=2, page_token=token, code="OK")


@pytest.mark.parametrize("role", ["monitor", "gpio-operator"])
async def test_log_when_asked_for_by_others_than_administrators_is_refused(ledger: Ledger, role: str) -> None:
    stub = ledger.audit("user/otto", role)
    with pytest.raises(errors.PermissionDenied):
        await rpc.unary(stub.ListAuditRecords, Listing())
    with pytest.raises(errors.PermissionDenied):
        await rpc.unary(stub.VerifyAuditLog, audit_pb2.VerifyAuditLogRequest())
    assert {record.principal for record in await ledger.records()} == {"spiffe://pi-controller.local/user/otto"}


async def test_watch_when_records_come_sends_each_once_in_order(ledger: Ledger) -> None:
    await fill(ledger, 3)
    call = ledger.audit().WatchAuditRecords(audit_pb2.WatchAuditRecordsRequest())
    await call.initial_metadata()
    stub = ledger.stub()
    for number in range(5):
        await rpc.unary(stub.UpdateNode, discovery_pb2.UpdateNodeRequest(id=f"n{number}"))
    async with asyncio.timeout(10):
        seen = [await call.read() for _ in range(5)]
    call.cancel()
    assert [record.resource for record in seen] == [f"n{number}" for number in range(5)]
    assert [record.number for record in seen] == [4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("statements", "broken"),
    [
        (("UPDATE audit SET resource = 'x4' WHERE number = 4",), 4),
        (("UPDATE audit SET code = 'OK' WHERE number = 6",), 6),
        (("DELETE FROM audit WHERE number = 5",), 5),
        (("DELETE FROM audit WHERE number < 4",), 4),
        (
            (
                "UPDATE audit SET number = 99 WHERE number = 3",
                "UPDATE audit SET number = 3 WHERE number = 7",
                "UPDATE audit SET number = 7 WHERE number = 99",
            ),
            3,
        ),
    ],
)
async def test_verify_when_rows_were_tampered_with_names_the_first_broken_one(
    ledger: Ledger, statements: tuple[str, ...], broken: int
) -> None:
    await fill(ledger, 10)
    assert (await ledger.verify()).broken_number == 0
    await tamper(ledger, *statements)
    chain = await ledger.verify()
    assert chain.broken_number == broken
    assert str(broken) in chain.problem


async def test_verify_when_the_end_was_cut_shows_it_against_the_checkpoint_only(ledger: Ledger) -> None:
    await fill(ledger, 10)
    await ledger.audited.upkeep.checkpoint()
    (event,) = ledger.published
    assert (event.type, event.resource, event.data["number"]) == ("audit.checkpoint", "discovery", "10")
    await ledger.audited.upkeep.checkpoint()
    assert len(ledger.published) == 1
    noted = {"noted_number": 10, "noted_hash": event.data["hash"]}
    assert (await ledger.verify(**noted)).broken_number == 0
    await tamper(ledger, "DELETE FROM audit WHERE number > 7")
    assert (await ledger.verify()).broken_number == 0
    assert (await ledger.verify(**noted)).broken_number == 8
    await fill(ledger, 5)
    assert (await ledger.verify()).broken_number == 0
    chain = await ledger.verify(**noted)
    assert chain.broken_number == 10
    assert "written anew" in chain.problem


async def test_pruning_when_done_leaves_a_record_and_a_log_that_holds(ledger: Ledger) -> None:
    await fill(ledger, 450)
    log = AuditLog(ledger.database, "discovery", SystemClock(), "spiffe://d/svc/discovery")
    await tamper(ledger, f"UPDATE audit SET time = {ledger.audited.trail.now()}")  # young, so that only the number counts
    assert await log.prune(keep=400) == 0
    assert await log.prune(keep=200) == 250
    assert await log.prune(keep=200) == 0
    records = await ledger.records()
    assert (records[0].number, records[-1].number, records[-1].method, records[-1].resource) == (251, 451, PRUNED, "250")
    await tamper(ledger, "DELETE FROM audit WHERE number < 260")
    assert (await ledger.verify()).broken_number == 260


async def test_pruning_when_records_are_very_old_removes_all_but_the_newest(ledger: Ledger) -> None:
    await fill(ledger, 150)
    await tamper(ledger, "UPDATE audit SET time = 1000")
    log = AuditLog(ledger.database, "discovery", SystemClock(), "spiffe://d/svc/discovery")
    assert await log.prune() == 149
    assert [record.number for record in await ledger.records()] == [150, 151]
