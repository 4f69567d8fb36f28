"""Time from ``pictl up`` to all healthy, and the memory it takes: ``python -m tests.bench.startup`` prints one JSON object.

The limit measured in the same run is a Python process that imports what ``up`` imports and ends: nothing that does this can start
faster.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.integration.plane import descendants, embedded

RUNS = 5
IMPORTS = (
    "import grpc.aio, cryptography.x509, apsw, jwt, protovalidate, prometheus_client, starlette.applications, uvicorn;"
    "protovalidate.Validator()"
)


def resident_mb(pid: int) -> float:
    """Return a process's resident memory in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def imports_seconds() -> float:
    """Return how long a Python takes that only imports the libraries."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    return time.monotonic() - started


def main() -> None:
    """Measure and print."""
    fresh, again, limits, python_mb, envoy_mb = [], [], [], [], []
    for _ in range(RUNS):
        limits.append(imports_seconds())
        with tempfile.TemporaryDirectory() as folder:
            for times in (fresh, again):
                started = time.monotonic()
                with embedded(Path(folder)) as plane:
                    times.append(time.monotonic() - started)
                    time.sleep(1)
                    for pid, line in descendants(plane.pids["up"]).items():
                        (envoy_mb if "envoy" in line.split()[0] else python_mb).append(resident_mb(pid))
    seconds, limit = statistics.median(fresh), statistics.median(limits)
    result = {
        "bench": "startup",
        "up_first_run_seconds": round(seconds, 2),
        "up_second_run_seconds": round(statistics.median(again), 2),
        "imports_only_seconds": round(limit, 2),
        "ratio": round(seconds / limit, 2),
        "target_seconds": 5,
        "python_rss_mb": round(statistics.median(python_mb), 1),
        "python_rss_target_mb": 150,
        "envoy_rss_mb": round(statistics.median(envoy_mb), 1),
        "runs": RUNS,
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
