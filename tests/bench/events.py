"""Latency from publish to subscriber at 500 events a second: ``python -m tests.bench.events`` prints one JSON object.

Open loop: each event's clock starts at the moment it was due, whether or not the bus kept up. The bus is a process of its own; publisher
and subscriber are this one. Two limits are measured in the same run: a bare SQLite commit of the same bytes with ``synchronous=FULL`` at
the same pace (no bus that keeps its word can be faster), and a bare mTLS echo stream at the same pace (the trip without a disk). ``ratio``
is the bus's p99 over the sum of theirs. Times are milliseconds, each the median of the runs.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw
import grpc

from picontroller.core.rpc import mesh as rpc
from picontroller.core.tls.channels import channel, server_credentials
from picontroller.core.tls.identity import IdentityFolder
from picontroller.v1 import events_pb2, events_pb2_grpc
from tests.chaos.bus_process import BusProcess
from tests.fakes.authority import FakeAuthority

TARGET_P99_MS = 10.0
EVENT_BYTES = 120


def percentiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {f"p{share}": round(ordered[min(len(ordered) - 1, len(ordered) * share // 100)] * 1000, 3) for share in (50, 99)}


async def paced(rate: int, seconds: float, act: Callable[[int, float], Awaitable[None]]) -> None:
    """Begin ``act(number, due)`` ``rate`` times a second, each when it is due, however long those before take."""
    start = time.perf_counter() + 0.05
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = start + number / rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            group.create_task(act(number, due))


def made_event(number: int) -> events_pb2.Event:
    event = events_pb2.Event(
        type="gpio.state.changed", resource=str(number), node_id="0d9d8a52-5f0e-4c0c-9c55-0c1b8b4ad0a5", namespace="default"
    )
    event.timestamp.GetCurrentTime()
    event.data.update({"value": "HIGH", "filling": "x" * EVENT_BYTES})
    return event


class Arrivals:
    """A subscriber that notes how long after it was due each event came."""

    def __init__(self, bus: BusProcess, count: int) -> None:
        self.due_at: dict[str, float] = {}
        self.took: list[float] = []
        self._count = count
        self._mesh = bus.mesh("svc/reader")
        self._listening = asyncio.Event()
        self._task = asyncio.create_task(self._listen())

    async def begun(self) -> None:
        """Wait until the bus has confirmed the subscription."""
        await self._listening.wait()

    async def all(self) -> list[float]:
        """Wait until all have come; return the seconds that each took."""
        async with asyncio.timeout(30):
            await self._task
        await self._mesh.close()
        return self.took

    async def _listen(self) -> None:
        stub = events_pb2_grpc.EventServiceStub(self._mesh.service("events"))
        async for response in rpc.stream(stub.Subscribe, events_pb2.SubscribeRequest()):
            now = time.perf_counter()
            self._listening.set()
            self.took.extend(now - self.due_at[event.resource] for event in response.events)
            if len(self.took) == self._count:
                return


def request(number: int, epoch: str) -> events_pb2.PublishRequest:
    return events_pb2.PublishRequest(events=[made_event(number)], source_epoch=epoch, first_sequence=number + 1)


async def published_latency(bus: BusProcess, rate: int, seconds: float, epoch: str) -> dict[str, float]:
    """Publish as an outbox does: one request at a time, with all that is due; measure until the subscriber has it, and until it is safe."""
    mesh, count = bus.mesh("svc/gpio"), int(rate * seconds)
    stub = events_pb2_grpc.EventServiceStub(mesh.service("events"))
    arrivals, safe, waiting, due_now = Arrivals(bus, count), [], [], asyncio.Event()
    await arrivals.begun()

    async def publish(number: int, due: float) -> None:
        arrivals.due_at[str(number)] = due
        waiting.append(number)
        due_now.set()

    async def carry() -> None:
        while len(safe) < count:
            await due_now.wait()
            due_now.clear()
            numbers, waiting[:] = list(waiting), []
            run = events_pb2.PublishRequest(source_epoch=epoch, first_sequence=numbers[0] + 1, events=map(made_event, numbers))
            await rpc.unary(stub.Publish, run, seconds=10)
            now = time.perf_counter()
            safe.extend(now - arrivals.due_at[str(number)] for number in numbers)

    carrying = asyncio.create_task(carry())
    await paced(rate, seconds, publish)
    arrived = await arrivals.all()
    await carrying
    await mesh.close()
    return {**percentiles(arrived), **{f"safe_{name}": value for name, value in percentiles(safe).items()}}


async def streamed_latency(bus: BusProcess, rate: int, seconds: float, epoch: str) -> dict[str, float]:
    """The same over PublishStream: one event a request, many in flight."""
    mesh, outgoing = bus.mesh("svc/gpio"), asyncio.Queue()
    stub = events_pb2_grpc.EventServiceStub(mesh.service("events"))
    arrivals = Arrivals(bus, int(rate * seconds))
    await arrivals.begun()

    async def requests() -> AsyncIterator[events_pb2.PublishRequest]:
        while (one := await outgoing.get()) is not None:
            yield one

    async def publish(number: int, due: float) -> None:
        arrivals.due_at[str(number)] = due
        await outgoing.put(request(number, epoch))

    async def acknowledge() -> None:
        async for _ in stub.PublishStream(requests()):
            pass

    acknowledging = asyncio.create_task(acknowledge())
    await paced(rate, seconds, publish)
    arrived = await arrivals.all()
    await outgoing.put(None)
    await acknowledging
    await mesh.close()
    return percentiles(arrived)


def commit_latency(folder: Path, rate: int, seconds: float) -> dict[str, float]:
    """Commit one row of the same size at the same pace, with nothing around it."""
    connection = apsw.Connection(str(folder / "limit.db"))
    connection.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL").fetchall()
    connection.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, body BLOB)")
    body, took, start = made_event(0).SerializeToString(), [], time.perf_counter()
    for number in range(int(rate * seconds)):
        due = start + number / rate
        if (wait := due - time.perf_counter()) > 0:
            time.sleep(wait)
        with connection:
            connection.execute("INSERT INTO t (body) VALUES (?)", (body,))
        took.append(time.perf_counter() - due)
    connection.close()
    return percentiles(took)


async def echo(folder: Path) -> None:
    """Serve a bare stream that answers each message with itself, until standard input ends."""
    identity = FakeAuthority().identity(folder, "svc/events")

    async def answer(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", {"Echo": handler}),))
    server.add_secure_port(f"unix:{folder}/e", server_credentials(identity))
    await server.start()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


async def echo_latency(folder: Path, rate: int, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.events", "--echo", str(folder)]
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    identity = IdentityFolder(folder)
    identity.load()
    connection = channel(identity, f"unix:{folder}/e", "events.pi-controller.local")
    call = connection.stream_stream("/bench.Echo/Echo")()
    due_at: list[float] = []
    took: list[float] = []
    body, turn = made_event(0).SerializeToString(), asyncio.Lock()

    async def listen() -> None:
        while len(took) < int(rate * seconds):
            await call.read()
            took.append(time.perf_counter() - due_at[len(took)])

    async def send(number: int, due: float) -> None:
        due_at.append(due)
        async with turn:
            await call.write(body)

    listener = asyncio.create_task(listen())
    await paced(rate, seconds, send)
    await listener
    call.cancel()
    await connection.close()
    await process.communicate(b"")  # closes its standard input, which ends it
    return percentiles(took)


def median_of(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(run[name] for run in runs), 3) for name in runs[0]}


async def measure(runs: int, rate: int, seconds: float) -> dict[str, Any]:
    published_runs, streamed_runs, commits, echoes = [], [], [], []
    with tempfile.TemporaryDirectory(dir=os.environ.get("PICONTROLLER_BENCH_DIR")) as name:
        folder = Path(name)
        bus = BusProcess(folder)
        await bus.start()
        try:
            await published_latency(bus, rate, 1, "warm-up")
            for run in range(runs):
                published_runs.append(await published_latency(bus, rate, seconds, f"run-{run}"))
                streamed_runs.append(await streamed_latency(bus, rate, seconds, f"stream-{run}"))
                commits.append(await asyncio.to_thread(commit_latency, folder, rate, seconds))
                (folder / f"echo{run}").mkdir()
                echoes.append(await echo_latency(folder / f"echo{run}", rate, seconds))
            resident = bus.resident_bytes()
        finally:
            await bus.end(signal.SIGTERM)
    published, streamed, commit, trip = map(median_of, (published_runs, streamed_runs, commits, echoes))
    return {
        "publish_to_subscriber_p50_ms": published["p50"],
        "publish_to_subscriber_p99_ms": published["p99"],
        "publish_to_subscriber_p99_target_ms": TARGET_P99_MS,
        "publish_to_subscriber_p99_ratio": round(published["p99"] / (commit["p99"] + trip["p99"]), 2),
        "publish_to_safe_p50_ms": published["safe_p50"],
        "publish_to_safe_p99_ms": published["safe_p99"],
        "streamed_to_subscriber_p50_ms": streamed["p50"],
        "streamed_to_subscriber_p99_ms": streamed["p99"],
        "limit_commit_p50_ms": commit["p50"],
        "limit_commit_p99_ms": commit["p99"],
        "limit_echo_p50_ms": trip["p50"],
        "limit_echo_p99_ms": trip["p99"],
        "events_per_second": rate,
        "bus_resident_mb": round(resident / 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--echo", type=Path, help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.echo:
        asyncio.run(echo(said.echo))
        return
    print(json.dumps(asyncio.run(measure(said.runs, said.rate, said.seconds))))


if __name__ == "__main__":
    main()
