"""The campaign of REST requests at the gateway: cases that schemathesis makes of our OpenAPI description, and requests mutated by hand.

Schemathesis asks whether answers are those that the description promises; what it can't write (headers that are none, paths with tricks,
bodies that only look like JSON, streams) is written here.
"""

import asyncio
import contextlib
import json
import random
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.fuzz import oddities, oracle
from tests.fuzz.messages import WILD_TEXT
from tests.fuzz.oracle import Failure, Tally
from tests.fuzz.plane import Target

IN_FLIGHT = 16
SECONDS = 15.0
STREAMS = (":watch", ":subscribe")
DECLARED_AWAY = {501: {"FEATURE_MISSING"}, 503: {"NODE_OFFLINE", "NODES_UNAVAILABLE"}, 504: {"NODE_SILENT"}}


@dataclass
class Answered:
    """An answer, as both kinds of campaign hand it to the oracle."""

    verb: str
    path: str
    status: int
    body: bytes
    seconds: float
    headers: dict[str, str] = field(default_factory=dict)
    sent: bytes = b""

    def line(self, url: str) -> str:
        """Return the request as a line for a shell."""
        headers = "".join(f" -H {name + ': ' + value[:200]!r}" for name, value in self.headers.items() if name != "authorization")
        body = "".join(f"\\x{byte:02x}" for byte in self.sent[:2000])
        body = f" --data-binary $'{body}'" if body else ""
        return f'curl -k -X {self.verb} -H "authorization: Bearer $TOKEN"{headers}{body} {url + self.path[:500]!r}'


def judge(answered: Answered, secrets: tuple[bytes, ...]) -> str:
    """Return what is wrong with an answer, empty when nothing is."""
    if answered.seconds > SECONDS:
        return f"lasted {answered.seconds:.1f} s"
    if answered.status >= 400:
        if found := oracle.leak(answered.body, secrets, details=True):
            return f"the error tells {found!r}"
    elif found := oracle.leak(answered.body, secrets, details=False):
        return f"the answer holds {found}"
    if answered.status < 500 or (answered.status == 504 and "grpc-timeout" in answered.headers):
        return ""
    reasons: set[str] = set()
    with contextlib.suppress(ValueError, AttributeError):
        reasons = {str(detail.get("reason")) for detail in json.loads(answered.body).get("details", [])}
    return "" if reasons & DECLARED_AWAY.get(answered.status, set()) else f"{answered.status}: {answered.body[:200]!r}"


class Mutations:
    """Sends requests written by hand, a bounded number at a time."""

    def __init__(self, target: Target, document: dict[str, Any], seed: int, count: int, tally: Tally) -> None:
        self._target = target
        self._operations = list(operations(document))
        self._seed = seed
        self._count = count
        self._tally = tally
        self._next = 0
        self._tokens = {name: dict(caller.metadata) for name, caller in target.callers.items() if not name.startswith(("svc", "agent"))}
        roots = ssl.create_default_context(cafile=str(target.plane.admin / "ca.pem"))
        limits = httpx.Limits(max_connections=IN_FLIGHT)
        self._clients = [
            httpx.AsyncClient(base_url=target.plane.url, verify=roots, http2=http2, trust_env=False, timeout=SECONDS, limits=limits)
            for http2 in (False, True)
        ]

    async def run(self) -> None:
        """Send everything."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(IN_FLIGHT):
                    group.create_task(self._work())
        finally:
            for client in self._clients:
                await client.aclose()

    async def _work(self) -> None:
        while self._next < self._count:
            index, self._next = self._next, self._next + 1
            await self._one(random.Random(f"rest:{self._seed}:{index}"))

    async def _one(self, rng: random.Random) -> None:
        verb, path, body = self._request(rng)
        headers = dict(self._tokens[rng.choice(("admin", "admin", "admin", "operator", "monitor", "anonymous", "forger"))])
        if body and rng.random() < 0.9:
            headers["content-type"] = "application/json"
        if rng.random() < 0.25:
            headers.update([rng.choice(oddities.HEADERS)])
        answered = Answered(verb, path, 0, b"", 0.0, headers, body)
        started = time.monotonic()
        client = rng.choice(self._clients)
        try:
            async with asyncio.timeout(SECONDS + 5), client.stream(verb, path, headers=headers, content=body or None) as response:
                answered.status = response.status_code
                streaming = response.status_code == 200 and any(word in path for word in STREAMS)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.2 if streaming else None):
                        async for piece in response.aiter_bytes():
                            answered.body += piece
        except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeEncodeError, ValueError):
            self._tally.codes["MUTATED", "UNSENDABLE"] += 1
            return
        except httpx.HTTPError as error:  # a request that is no HTTP may end its connection or stream
            self._tally.codes["MUTATED", type(error).__name__] += 1
            return
        answered.seconds = 0 if any(word in path for word in STREAMS) else time.monotonic() - started
        self._tally.codes["MUTATED", str(answered.status)] += 1
        if why := judge(answered, self._target.secrets):
            self._tally.failures.append(Failure(why, str(answered.status), "", answered.line(self._target.plane.url)))

    def _request(self, rng: random.Random) -> tuple[str, str, bytes]:
        if rng.random() < 0.1:
            return (
                rng.choice(("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "BREW")),
                rng.choice(oddities.PATHS),
                b"",
            )
        verb, path, operation = rng.choice(self._operations)
        if rng.random() < 0.05:
            verb = rng.choice(("post", "put", "delete", "get", "patch"))
        path = path.replace("{id}", _escaped(self._id(verb, path, rng)))
        query = [item for item in operation.get("parameters", ()) if item["in"] == "query"]
        pairs = [f"{item['name']}={_escaped(rng.choice(_values(rng)))}" for item in query if rng.random() < 0.4]
        if rng.random() < 0.1:
            pairs += [rng.choice(("nonsense=1", "id=x", "=", "&&", "page_size=1&page_size=2", "filter.type.x=1", "page_size[]=1"))]
        body = self._body(operation, rng) if "requestBody" in operation else b""
        return verb.upper(), path + ("?" + "&".join(pairs) if pairs else ""), body

    def _id(self, verb: str, path: str, rng: random.Random) -> str:
        if rng.random() < 0.4:
            return rng.choice(WILD_TEXT)
        kind = ("doomed" if verb == "delete" else "nodes") if "/nodes/" in path else "gpio"
        return rng.choice(self._target.ids(kind) or ["x"])

    def _body(self, operation: dict[str, Any], rng: random.Random) -> bytes:
        if rng.random() < 0.25:
            return rng.choice(oddities.BODIES)
        names = list(operation["requestBody"]["content"]["application/json"]["schema"].get("properties", {}))
        made: dict[str, Any] = {name: self._value(name, rng) for name in names if rng.random() < 0.5}
        if operation["operationId"] == "RotateAuthority":
            made["step"] = "NONSENSE"
        raw = bytearray(json.dumps(made, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass"))
        if rng.random() < 0.25 and operation["operationId"] != "RotateAuthority":
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        return bytes(raw)

    def _value(self, name: str, rng: random.Random) -> Any:
        if name in ("node_id", "ids", "id") and rng.random() < 0.6:
            known = self._target.ids("nodes" if name == "node_id" else "gpio") or ["x"]
            return rng.choice(known) if name != "ids" else [rng.choice(known)]
        if name == "pin" and rng.random() < 0.6:
            return {"bcm": rng.randrange(30)}
        return rng.choice(_values(rng))


def _values(rng: random.Random) -> list[Any]:
    return [*oddities.VALUES, rng.choice(WILD_TEXT), rng.choice(("HIGH", "LOW", "OUTPUT", "INPUT", "default", "a", "1s", "labels"))]


def _escaped(value: Any) -> str:
    return "".join(f"%{byte:02X}" if not chr(byte).isalnum() else chr(byte) for byte in str(value).encode("utf-8", "surrogatepass"))


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield verb, path and operation of a description."""
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            yield verb, path, operation
