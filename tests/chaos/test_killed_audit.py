"""kill -9 amid changes: every change that is there has its audit record, every acknowledged one is there, and the chain holds."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import apsw

from picontroller.core.callers import SpiffeId
from picontroller.core.clock import SystemClock
from picontroller.core.errors import Error
from picontroller.core.rpc import mesh as rpc
from picontroller.core.store.audit import AuditLog
from picontroller.core.store.sqlite import Database
from picontroller.core.tls.channels import channel
from picontroller.core.tls.identity import IdentityFolder, server_name
from picontroller.v1 import discovery_pb2, discovery_pb2_grpc
from tests.fakes.ledger import SCHEMA

ROUNDS = 3
CALLERS = 8
START_SECONDS = 20.0
ACKNOWLEDGED = 40  # of each round, then the process is killed
UPDATE = "picontroller.v1.DiscoveryService/UpdateNode"


async def until_killed(folder: Path, number: int) -> set[str]:
    """Run the process, change things at once from several callers, kill it, and return the ids that were acknowledged."""
    command = [sys.executable, "-m", "tests.chaos.ledger_process", str(folder)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    acknowledged: set[str] = set()
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            facts = json.loads(await process.stdout.readline())
        identity = IdentityFolder(Path(facts["identity"]))
        identity.load()
        async with channel(identity, facts["address"], server_name(SpiffeId("", "svc", "discovery"))) as connected:
            stub = discovery_pb2_grpc.DiscoveryServiceStub(connected)

            async def change(caller: int) -> None:
                for step in range(10_000):
                    name = f"r{number}-c{caller}-{step}"
                    try:
                        await rpc.unary(stub.UpdateNode, discovery_pb2.UpdateNodeRequest(id=name, labels={"a": "b"}))
                    except Error:
                        return
                    acknowledged.add(name)
                    if len(acknowledged) == ACKNOWLEDGED:
                        process.send_signal(signal.SIGKILL)

            async with asyncio.timeout(START_SECONDS):
                await asyncio.gather(*(change(caller) for caller in range(CALLERS)))
    finally:
        if process.returncode is None and not acknowledged:
            process.kill()
        await process.wait()
    return acknowledged


async def test_changes_when_the_process_is_killed_have_their_records_and_only_they(tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    for number in range(ROUNDS):
        acknowledged |= await until_killed(tmp_path, number)
    assert len(acknowledged) >= ROUNDS * ACKNOWLEDGED
    async with await Database.open(tmp_path / "data" / "ledger.db", SCHEMA) as database:

        def both(connection: apsw.Connection) -> tuple[list[str], list[str]]:
            rows = connection.execute("SELECT resource FROM audit WHERE method = ? AND code = 'OK' ORDER BY number", (UPDATE,)).fetchall()
            notes = connection.execute("SELECT text FROM notes ORDER BY rowid").fetchall()
            return [str(text) for (text,) in rows], [str(text) for (text,) in notes]

        recorded, changed = await database.read(both)
        found = await AuditLog(database, "discovery", SystemClock(), "spiffe://d/svc/discovery").verify(())
    assert recorded == changed
    assert acknowledged <= set(changed)
    assert (found.broken, found.problem) == (0, "")
