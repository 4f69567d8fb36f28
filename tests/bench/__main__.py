"""Runs every benchmark of this folder, one after the other, and prints what each says: ``make bench``."""

import json
import pkgutil
import subprocess
import sys

import tests.bench


def main() -> int:
    """Run all, print a line for each figure, and return 1 when one could not run."""
    failed = 0
    for module in sorted(each.name for each in pkgutil.iter_modules(tests.bench.__path__) if each.name != "__main__"):
        print(f"== {module}", flush=True)
        done = subprocess.run([sys.executable, "-m", f"tests.bench.{module}"], capture_output=True, text=True, timeout=900, check=False)
        if done.returncode:
            print(done.stdout + done.stderr)
            failed = 1
            continue
        last = (done.stdout.strip().splitlines() or ["it printed nothing"])[-1]
        try:
            for key, value in json.loads(last).items():
                print(f"  {key:40} {value}")
        except ValueError:
            print(done.stdout)
    return failed


if __name__ == "__main__":
    sys.exit(main())
