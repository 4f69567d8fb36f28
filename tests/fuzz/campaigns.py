"""The whole campaign against one plane: raw gRPC, REST, what must be true afterwards, and a second start on the same data.

Sizes and seed come from the environment: PICONTROLLER_FUZZ_REQUESTS (in all; half of them raw) and PICONTROLLER_FUZZ_SEED.
"""

import asyncio
import os
import random
import statistics
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz import described, oracle, plane, raw, rest
from tests.fuzz.oracle import Tally
from tests.integration.plane import PICTL, Plane, embedded

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "fuzz"
SMALL = 1500
LONG = 50_000
# So many requests fill what is bounded: proofs, request ids, the newest events, pages of SQLite (measured: nothing rises beyond).
WARM = 10_000
# One arena that gives back what is free. Otherwise glibc keeps what a burst of 4 MiB messages took, in each of its arenas, and 10 MB more
# or less say nothing of what we hold.
PLAIN_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "131072"}
GROWTH = 1.05
# Taken out of the environment, because whatever begins with PICONTROLLER_ is a setting to the planes that tests start.
SEED = int(os.environ.pop("PICONTROLLER_FUZZ_SEED", "") or random.SystemRandom().randrange(10**6))
_REQUESTS = os.environ.pop("PICONTROLLER_FUZZ_REQUESTS", "")
DESCRIBED_SHARE = {True: 0.5, False: 0.2}  # of the REST requests; schemathesis is the slower of the two


def seed() -> int:
    """Return the seed of this run, the same within a process."""
    return SEED


def size(default: int) -> int:
    """Return how many requests to send."""
    return int(_REQUESTS or default)


@dataclass
class Report:
    """What came of a campaign. ``problems`` is empty when all is well; ``memory`` is bytes at the start, and medians of the halves."""

    seed: int
    raw: Tally = field(default_factory=Tally)
    rest: Tally = field(default_factory=Tally)
    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, tuple[int, ...]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return it for people."""
        lines = [f"seed {self.seed} (PICONTROLLER_FUZZ_SEED)"]
        for name, tally in (("raw", self.raw), ("rest", self.rest)):
            lines += [f"{name}: {sum(tally.codes.values())} requests"]
            lines += [f"  {kind:<15} {sum(codes.values()):>6}  {codes}" for kind, codes in tally.histogram().items()]
        lines += [f"seconds {self.seconds}", f"memory { ({k: tuple(round(b / 1e6, 1) for b in v) for k, v in self.memory.items()}) } MB"]
        return "\n".join([*lines, *self.problems])


def run(folder: Path, count: int) -> Report:
    """Run a campaign of ``count`` requests in a fresh folder with a short path (for sockets)."""
    report = Report(seed())
    defaults = subprocess.run([PICTL, "config", "default"], capture_output=True, text=True, check=True).stdout
    environ = plane.raised_limits(defaults) | PLAIN_MEMORY
    started = time.monotonic()
    with embedded(folder, simulate=3, environ=environ) as running:
        report.seconds["start"] = round(time.monotonic() - started, 1)
        asyncio.run(_campaigns(running, folder, count, report))
    with embedded(folder, simulate=3, environ=environ) as again:
        report.problems += _loads(again)
    report.problems += [f"log: {line[-1500:]}" for line in plane.log_problems(folder / "up.log")]
    for name, tally in (("raw", report.raw), ("rest", report.rest)):
        raw.keep(tally, KEPT / f"{name}-{report.seed}.jsonl")
        kinds = Counter((failure.why[:150], failure.code) for failure in tally.failures)
        report.problems += [f"{name}: {number} times {why} ({code})" for (why, code), number in kinds.most_common(20)]
        report.problems += [f"{name}: {failure.sent[:600]}" for failure in tally.failures[:10]]
    return report


async def _campaigns(running: Plane, folder: Path, count: int, report: Report) -> None:
    target = await plane.prepare(running, folder / "callers")
    with running.client() as client:
        document: dict[str, Any] = client.get("/api/v1/openapi.json").json()
    try:
        campaign = raw.Campaign(target, report.seed, count // 2)
        began = time.monotonic()
        await campaign.run()
        report.raw = campaign.tally
        report.seconds["raw"] = round(time.monotonic() - began, 1)
        _remember(report, "raw", campaign.rss)
        long = count >= LONG
        share = int(count / 2 * DESCRIBED_SHARE[long])
        began, samples = time.monotonic(), _Samples(target)
        async with asyncio.TaskGroup() as group:
            sampling = group.create_task(samples.run())
            await rest.Mutations(target, document, report.seed, count // 2 - share, report.rest).run()
            await asyncio.to_thread(described.run, target, document, report.seed, share, report.rest)
            sampling.cancel()
        report.seconds["rest"] = round(time.monotonic() - began, 1)
        _remember(report, "rest", samples.taken)
        report.problems += await target.still_well()
    finally:
        await target.close()


def _remember(report: Report, name: str, samples: list[tuple[int, int]]) -> None:
    """Compare the halves of what was measured once it was warm. Small campaigns never get there and are only shown."""
    long = sum(report.raw.codes.values()) > 2 * WARM
    warm = [occupied for index, occupied in samples if index >= WARM or name == "rest" or not long]
    half = len(warm) // 2
    if not half:
        return
    first, second = statistics.median(warm[:half]), statistics.median(warm[half:])
    report.memory[name] = (samples[0][1], int(first), int(second))
    if long and second > first * GROWTH:
        report.problems.append(f"memory grew in {name}: {first / 1e6:.1f} MB to {second / 1e6:.1f} MB")


class _Samples:
    """Takes the control plane's memory twice a second."""

    def __init__(self, target: plane.Target) -> None:
        self._target = target
        self.taken: list[tuple[int, int]] = []

    async def run(self) -> None:
        while True:
            self.taken.append((len(self.taken), self._target.rss()))
            await asyncio.sleep(0.5)


def _loads(again: Plane) -> list[str]:
    """Return what of the data can't be read after a second start."""
    problems = []
    try:
        again.ready_nodes(3)
    except AssertionError as error:
        problems.append(f"after the restart: {error}")
    with again.client() as client:
        for path in ("nodes", "gpio", "events", "tokens", "api-tokens", "certificates"):
            answer = client.get(f"/api/v1/{path}", params={"page_size": 1000})
            if answer.status_code != 200 or oracle.leak(answer.content, (), details=False):
                problems.append(f"{path} after the restart: {answer.status_code} {answer.text[:300]}")
    return problems
