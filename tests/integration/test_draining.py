"""Stopping the whole control plane while people use it."""

import os
import signal
import threading
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.fakes.limits import ENVIRON
from tests.integration.plane import embedded, wait_for

CLIENTS = 4
pytestmark = pytest.mark.timeout(120)


def test_up_when_told_to_stop_under_load_fails_no_call_in_flight(tmp_path: Path) -> None:
    outcomes: Counter[int | str] = Counter()
    answered, stopped = threading.Event(), threading.Event()
    with embedded(tmp_path, environ=ENVIRON) as plane:

        def ask() -> None:
            with plane.client() as client:
                while not stopped.is_set():
                    try:
                        outcomes[client.get("/api/v1/nodes").status_code] += 1
                        answered.set()
                    except httpx.ConnectError:  # nobody listens any more: this call never began
                        outcomes["refused"] += 1
                        return
                    except httpx.HTTPError as error:
                        outcomes[type(error).__name__] += 1

        threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        assert answered.wait(10)
        wait_for("there is a load", lambda: outcomes[200] > 200)
        os.kill(plane.pids["up"], signal.SIGTERM)
        try:
            for thread in threads:
                thread.join(30)
        finally:
            stopped.set()
        # A second signal would end it at once, and leaving this block sends one to what still runs.
        wait_for("it has ended", lambda: Path(f"/proc/{plane.pids['up']}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    # A call that meets the closing gateway may be told UNAVAILABLE; none may be broken off or fail in another way.
    assert set(outcomes) <= {200, 503, "refused"}, outcomes
    assert outcomes["refused"] == CLIENTS
