"""``python -m tests.bench.denials``: what refusing the revoked costs each call, and what the list takes in memory and on disk.

``Denials.holds`` is asked about callers who are not on the list, as nearly all are: with 10,000 entries, with none, and against the least
that any list could do (two look-ups in a dictionary of the same keys), in turns in the same run. The aim is at most 10 microseconds.
"""

import argparse
import json
import statistics
import tempfile
import time
import timeit
import tracemalloc
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from picontroller.core.callers import Caller, Role, SpiffeId
from picontroller.core.tls.denials import Denial, Denials

AIM_US = 10.0
ENTRIES = 10_000


def entries(count: int) -> list[Denial]:
    """Return denials as a mesh has them: mostly certificates, some tokens and nodes."""
    kinds: tuple[Callable[[], str], ...] = (
        lambda: f"certificate:{uuid.uuid4().int:x}",
        lambda: f"token:{uuid.uuid4()}",
        lambda: f"spiffe://pi-controller.local/node/{uuid.uuid4()}",
        lambda: f"certificate:{uuid.uuid4().int:x}",
    )
    end = time.time() + 30 * 86400
    return [Denial(kinds[number % len(kinds)](), end) for number in range(count)]


def callers(count: int) -> list[Caller]:
    """Return callers nobody denies."""
    nodes = (SpiffeId("pi-controller.local", "node", str(uuid.uuid4())) for _ in range(count))
    roles = frozenset({Role.AGENT})
    return [Caller(node, roles, "certificate", time.time() + 3600, proof=f"certificate:{uuid.uuid4().int:x}") for node in nodes]


def measure(loops: int = 20, runs: int = 7, count: int = ENTRIES) -> dict[str, Any]:
    """Return the medians in microseconds, and what the list takes in bytes."""
    asking = callers(500)
    with tempfile.TemporaryDirectory() as text:
        tracemalloc.start()
        found = entries(count)
        before = tracemalloc.get_traced_memory()[0]
        full, empty = Denials(Path(text) / "full"), Denials(Path(text) / "empty")
        started = time.perf_counter()
        full.add(found, count)
        adding = time.perf_counter() - started
        # Its texts are those that it was given, so that the measured part lacks them.
        memory = tracemalloc.get_traced_memory()[0] - before + sum(len(denial.proof) + 49 for denial in found)
        tracemalloc.stop()
        plain = {denial.proof: denial.expires for denial in found}
        keys = [(caller.proof, caller.principal) for caller in asking]
        works: dict[str, Callable[[], object]] = {
            "holds_us": lambda: [full.holds(caller) for caller in asking],
            "empty_us": lambda: [empty.holds(caller) for caller in asking],
            "dictionary_us": lambda: [proof in plain or principal in plain for proof, principal in keys],
        }
        times: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(runs):
            for name, work in works.items():
                times[name].append(timeit.timeit(work, number=loops) / loops / len(asking) * 1e6)
        medians = {name: round(statistics.median(each), 3) for name, each in times.items()}
        again = Denials(Path(text) / "full")
        started = time.perf_counter()
        again.load()
        loading = time.perf_counter() - started
        size = (Path(text) / "full" / "denials.json").stat().st_size
    return {
        "entries": len(full),
        **medians,
        "aim_us": AIM_US,
        "worst_run_us": round(max(times["holds_us"]), 3),
        "memory_bytes": memory,
        "file_bytes": size,
        "add_all_ms": round(adding * 1000, 1),
        "load_ms": round(loading * 1000, 1),
    }


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--entries", type=int, default=ENTRIES)
    said = parser.parse_args()
    print(json.dumps(measure(runs=said.runs, count=said.entries)))


if __name__ == "__main__":
    main()
