"""A small campaign with each test run; ``make fuzz`` runs the long one."""

import tempfile
from pathlib import Path

import pytest

from tests.fuzz import campaigns


@pytest.mark.timeout(120)
def test_plane_when_sent_mutated_requests_stays_well_and_gives_nothing_away() -> None:
    with tempfile.TemporaryDirectory(prefix="pi-fuzz-") as folder:  # a short path: sockets are below it
        report = campaigns.run(Path(folder), campaigns.size(campaigns.SMALL))
    print(report.text())
    assert report.problems == [], report.text()
    assert sum(report.raw.codes.values()) >= campaigns.size(campaigns.SMALL) // 2
    answered = {code for _, code in report.raw.codes}
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "UNAUTHENTICATED", "UNIMPLEMENTED"} <= answered
    assert {"200", "400", "401", "403", "404"} <= {code for _, code in report.rest.codes}
