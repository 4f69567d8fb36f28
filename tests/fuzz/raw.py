"""The campaign of raw gRPC: every method of every server, by every kind of caller, with messages mutated down to their bytes."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from grpc_channelz.v1 import channelz_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from picontroller.core.rpc.server import permission_of
from picontroller.gateway.envoy.descriptors import PUBLIC
from picontroller.v1 import agent_pb2, audit_pb2, gpio_pb2
from tests.fuzz import oracle, wire
from tests.fuzz.messages import Maker
from tests.fuzz.oracle import Failure, Sent, Tally
from tests.fuzz.plane import Caller, Target

UNARY_SECONDS = 20.0
STREAM_SECONDS = 0.4
IN_FLIGHT = 40
# What grpcio's client makes of a message that it could not send because the call had ended; it does not say how.
CLIENT_SIDE = "Internal error from Core"
FOREIGN = (health_pb2, reflection_pb2, channelz_pb2)
ELSEWHERE = tuple(service for file in FOREIGN for service in sorted(s.full_name for s in file.DESCRIPTOR.services_by_name.values()))
AGENT = agent_pb2.DESCRIPTOR.services_by_name["NodeAgentService"].full_name
# An admin who may turn the wheel of the authority would, sooner or later, lock out the callers of the campaign itself.
HARMLESS_ONLY = {("RotateAuthority", "admin")}
ODD_HEADERS = (
    ("if-match", "*"), ("if-match", '"x'), ("x-request-id", "a" * 200), ("x-client-address", "::ffff:999"), ("authorization", "Basic eDp5"),
    ("authorization", "Bearer"), ("authorization", "Bearer a.b.c"), ("x-forwarded-client-cert", 'Cert="x";Cert="y"'),
    ("x-forwarded-client-cert", 'Chain="-----BEGIN"'), ("grpc-accept-encoding", "zstd"), ("te", "gzip"), ("x-none", ""),
)  # fmt: skip


@dataclass(frozen=True)
class Aim:
    """A method at a place."""

    place: str
    path: str
    method: MethodDescriptor | None
    kind: str


def aims() -> list[Aim]:
    """Return every method at every place where it is served, and some that are nowhere."""
    pool = descriptor_pool.Default()
    services = {member: [*names] for member, names in PUBLIC.items()}
    audits = [service.full_name for service in audit_pb2.DESCRIPTOR.services_by_name.values()]
    found: list[Aim] = []
    for member, names in {**services, "agent": [AGENT], "reflection": []}.items():
        known = [*names, *ELSEWHERE] if member != "reflection" else [*ELSEWHERE[:2]]
        for name in known:
            for method in pool.FindServiceByName(name).methods:
                found.append(Aim(member, f"/{name}/{method.name}", method, permission_of(name, method.name).call_class.name))
        found.append(Aim(member, "/picontroller.v1.NoService/Nothing", None, "UNKNOWN_METHOD"))
        found.append(Aim(member, f"/{known[0]}/NoSuchMethod", None, "UNKNOWN_METHOD"))
    edge = [Aim("edge", aim.path, aim.method, aim.kind) for aim in found if aim.method and aim.place in PUBLIC and "grpc." not in aim.path]
    return [aim for aim in [*found, *edge] if aim.path.split("/")[1] not in audits or aim.place == "identity"]


class Campaign:
    """Sends requests until their number is reached. What one is depends on the seed, its index, and what answers have told before it."""

    def __init__(self, target: Target, seed: int, count: int) -> None:
        self._target = target
        self._seed = seed
        self._count = count
        self._maker = Maker(target.things)
        self._aims = aims()
        self._next = 0
        self.tally = Tally()
        self.rss: list[tuple[int, int]] = []

    async def run(self) -> None:
        """Send everything, a bounded number at a time."""
        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(self._work())

    async def _work(self) -> None:
        while self._next < self._count:
            index, self._next = self._next, self._next + 1
            if index % 250 == 0:
                self.rss.append((index, self._target.rss()))
            await self._one(random.Random(f"{self._seed}:{index}"))

    async def _one(self, rng: random.Random) -> None:
        aim = rng.choice(self._aims)
        caller = self._caller(aim, rng)
        sent = Sent(
            aim.place,
            aim.path,
            caller.name,
            tuple(self._requests(aim, caller, rng)),
            self._headers(caller, rng),
            aim.method is not None and aim.path not in oracle.LEFT_OUT,
        )
        self.tally.methods[aim.path] += 1
        started = time.monotonic()
        method = aim.method
        if method is not None and (method.client_streaming or method.server_streaming):
            allowed = STREAM_SECONDS
            answer = await self._stream(sent, caller, method, rng)
        else:
            allowed = rng.choice((UNARY_SECONDS,) * 100 + (0.001, 0.0))
            answer = await self._unary(sent, caller, allowed)
        self._note(aim, sent, answer, time.monotonic() - started, allowed)

    def _caller(self, aim: Aim, rng: random.Random) -> Caller:
        callers = self._target.callers
        if aim.place == "edge":
            return callers[rng.choice(("admin", "admin", "operator", "monitor", "anonymous", "forger"))]
        if aim.place == "agent":
            return callers[rng.choice(("svc-gpio",) * 6 + ("svc-gateway", "agent-0", "admin"))]
        fitting = {"REPORT": ("agent-0", "agent-1", "svc-gateway"), "DRIVE": ("operator", "admin")}.get(aim.kind, ("admin",))
        return callers[rng.choice(fitting) if rng.random() < 0.6 else rng.choice(sorted(callers))]

    def _headers(self, caller: Caller, rng: random.Random) -> tuple[tuple[str, str], ...]:
        if rng.random() < 0.92:
            return caller.metadata
        extra = rng.choice((*ODD_HEADERS, ("x-long", "y" * rng.choice((100, 7000, 20_000)))))
        return (*caller.metadata, extra)

    def _requests(self, aim: Aim, caller: Caller, rng: random.Random) -> list[bytes]:
        method = aim.method
        if method is None:
            return [rng.randbytes(rng.randrange(50))]
        if (method.name, caller.name) in HARMLESS_ONLY:
            return [b"\x08" + wire.varint(rng.choice((0, 9, 2**31, 2**70)))]
        if not method.client_streaming:
            return [self._request(method, rng)]
        shape = rng.random()
        if shape < 0.15:
            return []
        if shape < 0.16:
            return [b"\x00\x00" if rng.random() < 0.3 else b""] * 10_000
        return [self._request(method, rng) for _ in range(rng.choice((1, 2, 5)))]

    def _request(self, method: MethodDescriptor, rng: random.Random) -> bytes:
        how = rng.random()
        try:
            raw = self._maker.make(method.input_type, rng, wild=0.3 if how > 0.75 else 0.0).SerializeToString()
        except ValueError:  # a text that can't be UTF-8
            raw = b""
        return raw if how < 0.35 or how > 0.75 else wire.mutate(raw, rng)

    async def _unary(self, sent: Sent, caller: Caller, seconds: float) -> "Answer":
        call: Any = self._target.channel(sent.place, caller).unary_unary(sent.method)(
            sent.raw[0], metadata=sent.metadata or None, timeout=seconds
        )
        try:
            async with asyncio.timeout(seconds + 2 * oracle.SLACK_SECONDS):
                raw = await call
        except grpc.aio.AioRpcError as error:
            return Answer.of(error, gave_up=seconds < 1)
        except TimeoutError:
            call.cancel()
            return Answer(grpc.StatusCode.OK, "", b"", [])
        return Answer(grpc.StatusCode.OK, "", b"", [raw])

    async def _stream(self, sent: Sent, caller: Caller, method: MethodDescriptor, rng: random.Random) -> "Answer":
        opened = self._target.channel(sent.place, caller)
        metadata = sent.metadata or None
        reset, finish = rng.random() < 0.15, rng.random() < 0.7
        call: Any
        if method.client_streaming:
            call = opened.stream_stream(sent.method)(_sending(sent.raw, stay=not finish), metadata=metadata, timeout=30)
        else:
            call = opened.unary_stream(sent.method)(sent.raw[0], metadata=metadata, timeout=30)
        got: list[bytes] = []
        gave_up = False
        try:
            async with asyncio.timeout(STREAM_SECONDS if len(sent.raw) < 100 else 10):
                async for raw in call:
                    got.append(raw)
                    if reset or len(got) >= 5:
                        break
        except TimeoutError:
            gave_up = True
        except grpc.aio.AioRpcError as error:
            return Answer.of(error, gave_up=gave_up)
        finally:
            call.cancel()
        return Answer(grpc.StatusCode.OK, "", b"", got)

    def _note(self, aim: Aim, sent: Sent, answer: "Answer", seconds: float, allowed: float) -> None:
        allowed = max(allowed, 10.0) if len(sent.raw) > 100 else allowed
        if answer.details == CLIENT_SIDE:
            self.tally.codes[aim.kind, "OWN_WRITE_FAILED"] += 1
            return
        secrets = self._target.secrets
        self.tally.codes[aim.kind, answer.code.name] += 1
        reason = oracle.reason_of(answer.packed) if answer.packed else ""
        why = oracle.judge(answer.code, reason, known=sent.known, seconds=seconds, allowed=allowed, gave_up=answer.gave_up)
        if found := oracle.leak(answer.details.encode(errors="replace") + answer.packed, secrets, details=True):
            why = why or f"the details tell {found!r}"
        for raw in answer.got:
            if found := oracle.leak(raw, secrets, details=False):
                why = why or f"the answer holds {found}"
        if why:
            self.tally.failures.append(Failure(why, answer.code.name, answer.details[:500], sent.line()))
        elif answer.code is grpc.StatusCode.OK and aim.method is not None and answer.got:
            if aim.method.name == "DeleteGpioResource":
                self._target.things.forget(gpio_pb2.DeleteGpioResourceRequest.FromString(sent.raw[0]).id)
            try:
                self._target.things.learn(message_factory.GetMessageClass(aim.method.output_type).FromString(answer.got[0]))
            except Exception as error:
                self.tally.failures.append(Failure(f"the answer can't be read: {error}", "OK", "", sent.line()))


@dataclass(frozen=True)
class Answer:
    """What came back. ``packed`` is the status with its details, ``got`` the messages."""

    code: grpc.StatusCode
    details: str
    packed: bytes
    got: list[bytes]
    gave_up: bool = False

    @classmethod
    def of(cls, error: grpc.aio.AioRpcError, *, gave_up: bool) -> "Answer":
        """Return a failed call's answer."""
        trailing: Any = error.trailing_metadata() or ()
        packed = next((value for key, value in trailing if key == "grpc-status-details-bin"), b"")
        return cls(error.code(), error.details() or "", packed, [], gave_up)


async def _sending(messages: tuple[bytes, ...], *, stay: bool) -> AsyncIterator[bytes]:
    for message in messages:
        yield message
    if stay:
        await asyncio.sleep(STREAM_SECONDS)


def keep(tally: Tally, path: Path) -> None:
    """Write failures below ``build/fuzz``, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        for failure in tally.failures:
            file.write(json.dumps({"why": failure.why, "code": failure.code, "details": failure.details, "sent": failure.sent}) + "\n")
