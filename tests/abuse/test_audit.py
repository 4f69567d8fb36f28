"""Abuse of what is audited (numbers of the catalogue): the state stays as it was, one record tells of the attempt, without secrets."""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from picontroller.core import errors, logs
from picontroller.core.audit.chain import DROPPED
from picontroller.core.rpc import mesh as rpc
from picontroller.core.tls import joining
from picontroller.identity.settings import Settings as IdentitySettings
from picontroller.v1 import audit_pb2, audit_pb2_grpc, discovery_pb2, identity_pb2
from tests.fakes.ledger import ledger_service
from tests.fakes.limits import PLENTY
from tests.rpc.discovery.world import World as Discovery
from tests.rpc.discovery.world import new_node_id
from tests.rpc.discovery.world import opened as discovery_opened
from tests.rpc.identity.test_joining import issue
from tests.rpc.identity.world import World as Identity
from tests.rpc.identity.world import request_for_new_key
from tests.rpc.identity.world import running as identity_running

NOT_STATE = {"audit", "audit_checkpoint", "outbox", "sqlite_sequence"}
WRITTEN_SECONDS = 5.0
UPDATE = "picontroller.v1.DiscoveryService/UpdateNode"
REQUESTS = int(os.environ.get("PICONTROLLER_REFUSALS", "2500"))


def state(path: Path) -> dict[str, list[Any]]:
    """Return what a database holds, but for its audit log and what is on its way to the event bus."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        tables = [str(name) for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()]
        return {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in tables if name not in NOT_STATE}
    finally:
        connection.close()


def rows(path: Path) -> list[tuple[Any, ...]]:
    """Return the audit log: method, principal's path, resource, code, reason."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        found = connection.execute("SELECT method, principal, resource, code, reason FROM audit ORDER BY number").fetchall()
        return [(str(method).rpartition("/")[2], str(who).partition("local/")[2], *rest) for method, who, *rest in found]
    finally:
        connection.close()


async def new_rows(path: Path, before: list[tuple[Any, ...]], count: int = 1) -> list[tuple[Any, ...]]:
    """Return the rows after ``before`` once there are ``count``."""
    async with asyncio.timeout(WRITTEN_SECONDS):
        while len(found := rows(path)[len(before) :]) < count:
            await asyncio.sleep(0.02)
    return found


@pytest.fixture
async def discovery(tmp_path: Path) -> AsyncIterator[Discovery]:
    async with discovery_opened(tmp_path) as world, world.running():
        yield world


@pytest.fixture
async def identity(tmp_path: Path) -> AsyncIterator[Identity]:
    async with identity_running(tmp_path, IdentitySettings()) as world:
        yield world


async def refused_with_one_row(world: Discovery, call: Any, request: Any) -> tuple[Any, ...]:
    """Return the one audit row of a call that fails and changes nothing. ``call`` is a method of a stub."""
    path = world.folder / "discovery" / "discovery.db"
    before, known = state(path), rows(path)
    with pytest.raises(errors.Error):
        await rpc.unary(call, request)
    found = await new_rows(path, known)
    assert state(path) == before
    assert len(found) == 1
    return found[0]


async def test_abuse_18_stale_etag_changes_nothing_and_leaves_one_row(discovery: Discovery) -> None:
    node = await discovery.register(new_node_id())
    stub = discovery.stub()
    await rpc.unary(stub.UpdateNode, discovery_pb2.UpdateNodeRequest(id=node.id, labels={"a": "1"}))
    stale = discovery_pb2.UpdateNodeRequest(id=node.id, labels={"a": "2"}, etag=node.etag)
    row = await refused_with_one_row(discovery, stub.UpdateNode, stale)
    assert row == ("UpdateNode", "user/anna", node.id, "ABORTED", "ETAG_STALE")


async def test_abuse_20_assignment_of_our_own_fields_changes_nothing_and_leaves_one_row(discovery: Discovery) -> None:
    node = await discovery.register(new_node_id())
    channel = discovery.mesh().service("discovery")
    status = discovery_pb2.Node(status=discovery_pb2.NodeStatus.Value.LOST).SerializeToString()  # a field that the request does not have
    assert not discovery_pb2.UpdateNodeRequest.FromString(status).labels
    raw = discovery_pb2.UpdateNodeRequest(id=node.id).SerializeToString() + status
    row = await refused_with_one_row(discovery, channel.unary_unary(f"/{UPDATE}"), raw)
    assert row == ("UpdateNode", "user/anna", node.id, "INVALID_ARGUMENT", "NOTHING_TO_CHANGE")


async def test_abuse_35_role_that_may_not_changes_nothing_and_leaves_one_row(discovery: Discovery) -> None:
    node = await discovery.register(new_node_id())
    for who, role in (("mona", "monitor"), ("otto", "gpio-operator")):
        stub = discovery.stub(f"user/{who}", role)
        row = await refused_with_one_row(discovery, stub.DeleteNode, discovery_pb2.DeleteNodeRequest(id=node.id))
        assert row == ("DeleteNode", f"user/{who}", node.id, "PERMISSION_DENIED", "ROLE_MISSING")


async def test_abuse_36_agent_that_acts_for_another_node_changes_nothing_and_leaves_one_row(discovery: Discovery) -> None:
    node, other = await discovery.register(new_node_id()), new_node_id()
    stub = discovery.stub(f"node/{other}")
    row = await refused_with_one_row(discovery, stub.ReportHealth, discovery_pb2.ReportHealthRequest(id=node.id, problems=["lies"]))
    assert row == ("ReportHealth", f"node/{other}", node.id, "PERMISSION_DENIED", "NOT_OWN_NODE")


async def test_abuse_51_reuse_of_a_token_changes_nothing_and_leaves_one_row(identity: Identity) -> None:
    token = await identity.join_token()
    await issue(identity, token, request_for_new_key()[1])
    path = identity.root / "identity" / "identity.db"
    before, known = state(path), rows(path)
    assert [row[0] for row in known] == ["CreateJoinToken", "IssueCertificate"]
    with pytest.raises(errors.Unauthenticated):
        await issue(identity, token, request_for_new_key()[1])
    assert await new_rows(path, known) == [("IssueCertificate", "", "", "UNAUTHENTICATED", "TOKEN_USED")]
    assert state(path) == before
    assert "token.reused" in [event["type"] for event in identity.events()]


async def test_abuse_61_secrets_are_in_no_audit_record_log_or_event(identity: Identity, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.handler.setFormatter(logs.JsonFormatter())
    token = await identity.join_token(description="garage")
    admin = identity.stub(identity.admin())
    made = await rpc.unary(admin.CreateApiToken, identity_pb2.CreateApiTokenRequest(subject="bot", roles=[3]))
    csr = request_for_new_key()[1]
    await issue(identity, token, csr)
    for wrong in (token, made.token):
        with pytest.raises(errors.Error):
            await rpc.unary(admin.RevokeJoinToken, identity_pb2.RevokeJoinTokenRequest(id=wrong))
        with pytest.raises(errors.Error):
            await issue(identity, wrong, request_for_new_key()[1])
    path = identity.root / "identity" / "identity.db"
    await new_rows(path, [], 7)
    gateway = identity.stub(identity.folder("gateway/edge"))
    with pytest.raises(errors.Error):
        await rpc.unary(gateway.WhoAmI, identity_pb2.WhoAmIRequest(), metadata={"authorization": f"Bearer {made.token}x"})
    await new_rows(path, [], 8)
    secrets = [joining.parse_token(token).secret, made.token.split(".")[2], csr.splitlines()[1]]
    said = [repr(rows(path)), json.dumps(identity.events()), caplog.text, str([record.__dict__ for record in caplog.records])]
    files = [file for file in (identity.root / "identity").rglob("*") if file.is_file() and "identity.db" in file.name]
    assert len(files) >= 2
    for secret in secrets:
        assert not any(secret in text for text in said)
        assert not any(secret.encode() in file.read_bytes() for file in files)


async def test_refusals_when_they_come_by_the_thousand_block_nobody_and_are_counted(tmp_path: Path) -> None:
    async with ledger_service(tmp_path, PLENTY) as ledger:
        refused, good = ledger.stub("user/mona", "monitor"), ledger.stub()
        slowest = 0.0
        loop = asyncio.get_running_loop()

        async def flood(count: int) -> int:
            failed = 0
            for _ in range(count):
                try:
                    await rpc.unary(refused.UpdateNode, discovery_pb2.UpdateNodeRequest(id="n1", labels={"a": "b"}))
                except errors.PermissionDenied:
                    failed += 1
            return failed

        flooding = asyncio.gather(*(flood(REQUESTS // 25) for _ in range(25)))
        changes = 0
        while not flooding.done():
            began = loop.time()
            await rpc.unary(good.UpdateNode, discovery_pb2.UpdateNodeRequest(id=f"g{changes}", labels={"a": "b"}))
            slowest = max(slowest, loop.time() - began)
            changes += 1
        assert sum(await flooding) == REQUESTS // 25 * 25
        records, beyond = [], 0
        while page := await ledger.records(beyond_number=beyond):
            records += page
            beyond = page[-1].number
        dropped = sum(int(record.resource) for record in records if record.method == DROPPED)
        written = sum(record.code == "PERMISSION_DENIED" for record in records)
        assert written + dropped == REQUESTS // 25 * 25
        assert [record.resource for record in records if record.code == "OK" and record.method == UPDATE] == await ledger.notes()
        assert len(await ledger.notes()) == changes > 10
        assert slowest < 2.0
        assert (await ledger.verify()).broken_number == 0
        print(f"{written} written, {dropped} dropped, {changes} changes, the slowest {slowest * 1000:.0f} ms")


async def test_audit_log_when_records_hold_control_characters_keeps_them_as_they_are(discovery: Discovery) -> None:
    path = discovery.folder / "discovery" / "discovery.db"
    evil = "n\x1b[2J\u202e\x00" + "x" * 400
    stub = discovery.stub()
    with pytest.raises(errors.InvalidArgument):
        await rpc.unary(stub.UpdateNode, discovery_pb2.UpdateNodeRequest(id=evil))
    (row,) = await new_rows(path, [])
    assert row[2] == evil[:256]
    audit = audit_pb2_grpc.AuditServiceStub(discovery.mesh().service("discovery"))
    answer = await rpc.unary(audit.VerifyAuditLog, audit_pb2.VerifyAuditLogRequest())
    assert answer.chains[0].broken_number == 0
