"""The audit log of a whole control plane, as people and scripts meet it: merged by the gateway, searched, watched, exported, verified."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.integration.plane import PICTL, Plane, embedded, wait_for

pytestmark = pytest.mark.timeout(180)
SERVICES = {"discovery", "events", "gpio", "identity"}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    with embedded(tmp_path_factory.mktemp("audit"), simulate=1) as running:
        running.ready_nodes(1)
        yield running


def search(plane: Plane, *arguments: str) -> list[dict[str, Any]]:
    """Return what a search finds, newest first."""
    found: list[dict[str, Any]] = json.loads(plane.pictl("audit", "search", *arguments, "-o", "json").stdout)["audit_records"]
    return found


def test_search_when_things_were_done_and_refused_shows_both_newest_first(plane: Plane) -> None:
    token = json.loads(plane.pictl("token", "create", "-o", "json").stdout)
    node = plane.ready_nodes(1)[0]["id"]
    with plane.client() as client:
        refused = client.put(f"/api/v1/nodes/{node}", json={"labels": {"bad key!": "x"}})
        assert refused.status_code == 400
    wait_for("the refusal in the log", lambda: search(plane, "--code", "invalid_argument"))
    found = search(plane)
    assert {record["service"] for record in found} >= {"discovery", "identity"}
    assert [record["time"] for record in found] == sorted((record["time"] for record in found), reverse=True)
    (made,) = [record for record in found if record["method"].endswith("/CreateJoinToken")][:1]
    assert (made["code"], made["principal"].rpartition("/user/")[2]) == ("OK", "admin")
    assert made["proof"]
    assert made["address"] == "127.0.0.1"
    assert token["token"].split(".")[-1] not in json.dumps(found)
    bad = search(plane, "--code", "INVALID_ARGUMENT", "--method", "UpdateNode", "--since", "10m")[0]
    assert (bad["resource"], bad["service"]) == (node, "discovery")
    assert search(plane, "--principal", "anonymous", "--since", "1s", "--until", "2000-01-01") == []
    table = plane.pictl("audit", "search", "--service", "identity").stdout
    assert table.splitlines()[0].split() == ["TIME", "PRINCIPAL", "METHOD", "RESOURCE", "CODE", "REASON", "ADDRESS", "NUMBER"]


def test_rest_when_paged_has_every_record_once_and_refuses_forged_pages(plane: Plane) -> None:
    with plane.client() as client:
        whole = client.get("/api/v1/audit", params={"page_size": 1000, "oldest_first": "true"}).json()["records"]
        paged: list[dict[str, Any]] = []
        token = ""
        for _ in range(200):
            answer = client.get("/api/v1/audit", params={"page_size": 3, "page_token": token, "oldest_first": "true"}).json()
            paged += answer["records"]
            token = answer["next_page_token"]
            if not token or len(paged) >= len(whole):
                break
        assert [(r["service"], r["number"]) for r in paged[: len(whole)]] == [(r["service"], r["number"]) for r in whole]
        assert client.get("/api/v1/audit", params={"page_token": "forged"}).status_code == 400
        assert client.get("/api/v1/audit", params={"beyond_number": "5"}).status_code == 400
        assert client.get("/api/v1/audit", params={"service": "nobody"}).status_code == 400
        chains = client.get("/api/v1/audit:verify").json()["chains"]
        assert {chain["service"] for chain in chains} == SERVICES
        assert all(chain["broken_number"] == "0" for chain in chains)


def test_export_when_verified_offline_holds_and_shows_tampering(plane: Plane, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    plane.pictl("audit", "export", str(file))
    lines = file.read_text().splitlines()
    assert len(lines) >= 3
    assert "holds" in plane.pictl("audit", "verify", str(file)).stdout
    own = [index for index, line in enumerate(lines) if json.loads(line)["service"] == "identity"]
    record = json.loads(lines[own[1]])
    lines[own[1]] = json.dumps({**record, "principal": "somebody else"})
    file.write_text("\n".join(lines) + "\n")
    done = plane.pictl("audit", "verify", str(file), check=False)
    assert done.returncode == 1
    assert f"identity, record {record['number']}" in done.stderr
    assert plane.pictl("audit", "verify").returncode == 0


def test_tail_when_something_happens_prints_it(plane: Plane) -> None:
    environment = {**os.environ, "XDG_CONFIG_HOME": str(plane.config_home)}
    node = plane.ready_nodes(1)[0]["id"]
    with subprocess.Popen([PICTL, "audit", "tail"], stdout=subprocess.PIPE, env=environment) as tail, plane.client() as client:
        assert tail.stdout is not None
        reading = tail.stdout.fileno()
        os.set_blocking(reading, False)

        def provoked() -> str:
            client.put(f"/api/v1/nodes/{node}", json={"labels": {"bad key!": "x"}})
            try:
                return os.read(reading, 65536).decode()
            except BlockingIOError:
                return ""

        try:
            said = wait_for("a line of the tail", provoked)
        finally:
            tail.terminate()
    assert "INVALID_ARGUMENT" in said
    assert "DiscoveryService/UpdateNode" in said


def test_verify_when_a_row_was_changed_in_the_file_exits_with_one_and_names_it(plane: Plane) -> None:
    path = next(plane.data_dir.rglob("identity.db"))
    connection = apsw.Connection(str(path))  # as old as the program's: two releases of SQLite on one file could damage it
    connection.set_busy_timeout(10_000)
    (principal,) = connection.execute("SELECT principal FROM audit WHERE number = 2").fetchall()[0]
    connection.execute("UPDATE audit SET principal = 'spiffe://x/user/eve' WHERE number = 2")
    done = plane.pictl("audit", "verify", check=False)
    connection.execute("UPDATE audit SET principal = ? WHERE number = 2", (principal,))
    connection.close()
    assert done.returncode == 1
    assert "identity, record 2" in done.stderr
    assert plane.pictl("audit", "verify").returncode == 0
