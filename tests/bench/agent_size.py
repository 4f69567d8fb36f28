"""Where an agent's memory and disk go: ``python -m tests.bench.agent_size`` prints tables, with ``--json`` one object.

Memory: resident set of a fresh process after each step of what a running agent imports, and of a whole agent that serves and reports.
Disk: files of the distributions that an agent needs (base and ``agent`` extra), without bytecode.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from tests.fakes.control_plane import running_control_plane

MEMORY_LIMIT_MB, DISK_LIMIT_MB = 75.0, 60.0
STEPS = (
    "asyncio, ssl",
    "cryptography.x509",
    "google.protobuf.message, google.protobuf.descriptor_pool",
    "grpc.aio",
    "picontroller.v1.agent_pb2_grpc, picontroller.v1.discovery_pb2_grpc, picontroller.v1.identity_pb2_grpc",
    "picontroller.core.rpc.metrics",
    "picontroller.core.rpc.hosting",
    "gpiod",
    "picontroller.agent.commands, picontroller.agent.wiring, picontroller.agent.gpio.drivers.gpiod",
)
DISTRIBUTIONS = (
    "grpcio", "protobuf", "googleapis-common-protos", "grpcio-status", "grpcio-health-checking", "grpcio-reflection", "grpcio-channelz",
    "cryptography", "cffi", "pycparser", "prometheus-client", "gpiod", "typing_extensions",
)  # fmt: skip


def imports_mb() -> list[tuple[str, float]]:
    """Return resident memory after each step, in one fresh interpreter."""
    code = "\n".join(
        [
            "import os",
            "def rss():",
            "    return int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 1e6",
            "print('interpreter', rss(), sep='|')",
            *(f"import {step}\nprint({step!r}, rss(), sep='|')" for step in STEPS),
        ]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = [line.rpartition("|") for line in done.stdout.splitlines()]
    return [(name, float(size)) for name, _, size in lines]


async def running_mb() -> float:
    """Return resident memory of a joined agent with a simulated board, after ten reports."""
    with tempfile.TemporaryDirectory() as place:
        async with running_control_plane(Path(place)) as plane:
            environment = {
                **os.environ, "PICONTROLLER_AGENT__BACKEND": "sim", "PICONTROLLER_AGENT__REPORT_SECONDS": "0.1",
                "PICONTROLLER_LOG__LEVEL": "ERROR",
            }  # fmt: skip
            base = (sys.executable, "-m", "picontroller.agent")
            data = ("--data-dir", f"{place}/agent")
            (Path(place) / "token").write_text(plane.token)
            joining = await asyncio.create_subprocess_exec(
                *base, "join", plane.address, "--token-file", f"{place}/token", *data, env=environment, stdout=subprocess.DEVNULL
            )
            if await joining.wait():
                raise SystemExit("join failed")
            agent = await asyncio.create_subprocess_exec(
                *base, "run", "--listen", "127.0.0.1:0", *data, env=environment, stdout=subprocess.DEVNULL
            )
            try:
                await plane.until(lambda: len(plane.reports) >= 10, 60)
                pages = int(Path(f"/proc/{agent.pid}/statm").read_text().split()[1])
            finally:
                agent.terminate()
                await agent.wait()
            return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def disk_mb() -> list[tuple[str, float]]:
    """Return the size of each distribution's files, and of the parts of ours that an agent has."""
    found = []
    for name in DISTRIBUTIONS:
        try:
            files = metadata.distribution(name).files or []
        except metadata.PackageNotFoundError:
            continue
        size = sum(path.stat().st_size for file in files if file.suffix != ".pyc" and (path := Path(str(file.locate()))).is_file())
        found.append((name, size / 1e6))
    root = Path(__file__).parents[2]
    parts = [path for folder in ("libs/picontroller", "agent/picontroller") for path in (root / folder).rglob("*") if path.is_file()]
    found.append(("picontroller (libs, agent)", sum(path.stat().st_size for path in parts if path.suffix != ".pyc") / 1e6))
    return found


def main() -> int:
    """Measure, print, and return 1 when a limit is exceeded."""
    imports, running, disk = imports_mb(), asyncio.run(running_mb()), disk_mb()
    whole_disk = sum(size for _, size in disk)
    if "--json" in sys.argv:
        print(json.dumps({"imports_mb": imports, "running_mb": running, "disk_mb": disk, "disk_total_mb": whole_disk}))
    else:
        print(f"{'memory after importing':90} {'MB':>7} {'adds':>7}")
        before = 0.0
        for name, size in imports:
            print(f"{name[:90]:90} {size:7.1f} {size - before:7.1f}")
            before = size
        print(f"{'a joined agent that serves and reports':90} {running:7.1f}   limit {MEMORY_LIMIT_MB:g}")
        print(f"\n{'disk':90} {'MB':>7}")
        for name, size in sorted(disk, key=lambda entry: -entry[1]):
            print(f"{name:90} {size:7.1f}")
        print(f"{'all':90} {whole_disk:7.1f}   limit {DISK_LIMIT_MB:g}")
    return int(running > MEMORY_LIMIT_MB or whole_disk > DISK_LIMIT_MB)


if __name__ == "__main__":
    raise SystemExit(main())
