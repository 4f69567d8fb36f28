"""``python -m tests.fuzz``: the long campaign; exit status 1 when something is not as it should be."""

import sys
import tempfile
from pathlib import Path

from tests.fuzz import campaigns

count = campaigns.size(campaigns.LONG)
print(f"{count} requests, seed {campaigns.seed()}; failures are kept in {campaigns.KEPT}", flush=True)
with tempfile.TemporaryDirectory(prefix="pi-fuzz-") as folder:
    report = campaigns.run(Path(folder), count)
print(report.text())
sys.exit(1 if report.problems else 0)
