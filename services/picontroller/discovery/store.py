"""Nodes on disk.

A node is kept as one JSON text beside its id, because nobody searches here: all nodes are in memory. ``last_seen`` has a column of its own,
so that writing down signs of life touches nothing else. A change, its events and the reply that a request id is owed are one transaction.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

import apsw

from picontroller.core.ids import NodeId
from picontroller.core.store import audit, outbox, pages, requests
from picontroller.core.store.sqlite import Database
from picontroller.discovery.departures import Departure, NodeDeleted
from picontroller.discovery.nodes import Decide, Node, NodeRole, NodeStatus, Registration
from picontroller.discovery.registry import Outcome, RequestIdentity

SCHEMA = (
    "CREATE TABLE nodes (id TEXT PRIMARY KEY, node TEXT NOT NULL, last_seen REAL NOT NULL) WITHOUT ROWID;"
    + outbox.SCHEMA
    + pages.SCHEMA
    + requests.SCHEMA,
    "CREATE TABLE departures (node_id TEXT PRIMARY KEY, lasting INTEGER NOT NULL, settled INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;",
    audit.SCHEMA,
    "ALTER TABLE departures ADD COLUMN time REAL;",
)


class SqliteNodeStore:
    """Implements ``registry.NodeStore`` and ``listing.Pages`` on one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[Node]:
        """Return every node."""
        return await self._database.read(_all)

    async def change(self, node_id: NodeId, decide: Decide, request: RequestIdentity | None = None) -> Outcome:
        """Let ``decide`` decide about a node and keep its decision with its events, all or nothing."""
        key = requests.RequestKey("", "", b"")
        if request is not None:
            key = requests.request_key(request.principal, request.request_id, "node", request.body)

        def work(connection: apsw.Connection) -> Outcome:
            answered = requests.recall(connection, key)
            if answered is not None:
                return Outcome(_from_json(answered), changed=False)
            before = _find(connection, node_id)
            decision = decide(before)
            changed = decision.node != before
            if before is None and decision.node is not None:
                _refuse_deleted(connection, node_id)
            if changed:
                _keep(connection, node_id, decision.node)
            if before is not None and decision.node is None:
                _note_departure(connection, Departure(node_id, decision.lasting, decision.events[0].time if decision.events else None))
            for event in decision.events:
                outbox.emit(connection, event)
            if decision.node is not None:
                requests.remember(connection, key, _to_json(decision.node))
            return Outcome(decision.node, changed)

        return await self._database.write(work)

    async def keep_last_seen(self, times: Mapping[NodeId, datetime]) -> None:
        """Note when nodes were last heard of, in one transaction."""
        rows = [(time.timestamp(), node_id) for node_id, time in times.items()]
        await self._database.write(lambda connection: connection.executemany("UPDATE nodes SET last_seen = ? WHERE id = ?", rows).close())

    async def departures(self) -> list[Departure]:
        """Return those that the identity service does not know of yet."""
        return await self._database.read(_departures)

    async def settle(self, departure: Departure) -> None:
        """Note that the identity service knows of a departure. One that lasts is remembered; of the other nothing stays."""
        # Not one noted since: the node came back and left again while this was worked off.
        key = (departure.node_id, departure.lasting, None if departure.time is None else departure.time.timestamp())

        def work(connection: apsw.Connection) -> None:
            if departure.lasting:
                connection.execute("UPDATE departures SET settled = 1 WHERE node_id = ? AND lasting = ? AND time IS ?", key)
            else:
                connection.execute("DELETE FROM departures WHERE node_id = ? AND lasting = ? AND time IS ?", key)

        await self._database.write(work)

    def size(self, asked: int) -> int:
        """Return how many nodes to answer when ``asked`` were asked for."""
        return pages.page_size(asked)

    async def seal(self, listing: Sequence[object], last: NodeId) -> str:
        """Return the token of the page behind ``last``."""
        return await self._database.read(lambda connection: pages.seal(connection, listing, [last]))

    async def unseal(self, listing: Sequence[object], token: str) -> NodeId | None:
        """Return behind which node a page begins. Raises InvalidArgument for a token of another listing."""
        if not token:
            return None
        key = await self._database.read(lambda connection: pages.unseal(connection, listing, token))
        return NodeId(str(key[0])) if key else None


def _all(connection: apsw.Connection) -> list[Node]:
    rows = connection.execute("SELECT node, last_seen FROM nodes ORDER BY id")
    return [_from_json(str(text), float(str(last_seen))) for text, last_seen in rows]


def _find(connection: apsw.Connection, node_id: NodeId) -> Node | None:
    row = connection.execute("SELECT node, last_seen FROM nodes WHERE id = ?", (node_id,)).fetchone()
    return _from_json(str(row[0]), float(str(row[1]))) if row else None


def _keep(connection: apsw.Connection, node_id: NodeId, node: Node | None) -> None:
    if node is None:
        connection.execute("DELETE FROM nodes WHERE id = ?", (node_id,))
    else:
        row = (node_id, _to_json(node), node.last_seen.timestamp())
        connection.execute("INSERT OR REPLACE INTO nodes (id, node, last_seen) VALUES (?, ?, ?)", row)


def _refuse_deleted(connection: apsw.Connection, node_id: NodeId) -> None:
    if connection.execute("SELECT count(*) FROM departures WHERE node_id = ? AND lasting", (node_id,)).get:
        raise NodeDeleted(node_id)


def _note_departure(connection: apsw.Connection, departure: Departure) -> None:
    connection.execute(
        "INSERT INTO departures (node_id, lasting, time) VALUES (?, ?, ?)"
        " ON CONFLICT (node_id) DO UPDATE SET lasting = max(lasting, excluded.lasting), time = excluded.time, settled = 0",
        (departure.node_id, departure.lasting, None if departure.time is None else departure.time.timestamp()),
    )


def _departures(connection: apsw.Connection) -> list[Departure]:
    rows = connection.execute("SELECT node_id, lasting, time FROM departures WHERE NOT settled")
    return [
        Departure(NodeId(str(node_id)), bool(lasting), None if time is None else datetime.fromtimestamp(float(str(time)), UTC))
        for node_id, lasting, time in rows
    ]


def _to_json(node: Node) -> str:
    raw = asdict(node)
    raw["registration"]["capabilities"] = base64.b64encode(node.registration.capabilities).decode()
    raw |= {"status": node.status.name, "role": node.role.name, "labels": dict(node.labels)}
    raw |= {"create_time": node.create_time.timestamp(), "last_seen": node.last_seen.timestamp()}
    return json.dumps(raw, separators=(",", ":"))


def _from_json(text: str, last_seen: float | None = None) -> Node:
    """Return the node that ``_to_json`` wrote; ``last_seen``, in Unix seconds, overrides what is written there."""
    raw = json.loads(text)
    raw["registration"]["capabilities"] = base64.b64decode(raw["registration"]["capabilities"])
    raw["registration"] = Registration(**raw["registration"])
    raw |= {"status": NodeStatus[raw["status"]], "role": NodeRole[raw["role"]]}
    raw |= {"reported": tuple(raw["reported"]), "noticed": tuple(raw["noticed"])}
    raw["create_time"] = datetime.fromtimestamp(raw["create_time"], UTC)
    raw["last_seen"] = datetime.fromtimestamp(raw["last_seen"] if last_seen is None else last_seen, UTC)
    return Node(**raw)
