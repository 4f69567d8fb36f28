"""Certificates and roots change while everybody calls: no call fails.

``PICONTROLLER_ROTATIONS`` sets how often the root changes (1), ``PICONTROLLER_RENEWAL_SECONDS`` how long certificates renew themselves
under load (11, with lives of 10 s; from 60 on with lives of 20 s).
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from picontroller.core.tasks import cancel_and_wait
from tests.chaos.load import Load
from tests.integration.plane import Plane, embedded

# Taken out of the environment: the control plane, which inherits it, refuses variables that name no setting of its own.
ROTATIONS = int(os.environ.pop("PICONTROLLER_ROTATIONS", "1"))
SECONDS = float(os.environ.pop("PICONTROLLER_RENEWAL_SECONDS", "11"))
PER_SECOND = 112.0
LEAST_PER_SECOND = 100.0
STEP_SECONDS = 30.0


@asynccontextmanager
async def loaded(folder: Path, life: int, *, simulate: int) -> AsyncIterator[tuple[Plane, Load]]:
    """Yield a control plane with certificates of ``life`` seconds and a load on it, and fail for any call that did."""
    environ = {"PICONTROLLER_IDENTITY__CERTIFICATE_SECONDS": str(life)}
    with embedded(folder, simulate=simulate, environ=environ) as plane:
        load = Load(plane, folder / "provisioner", PER_SECOND)
        await load.join()
        running = asyncio.create_task(load.run())
        started = time.monotonic()
        try:
            yield plane, load
        finally:
            seconds = time.monotonic() - started
            await cancel_and_wait(running)
            await load.close()
        print(f"{load.calls} calls in {seconds:.1f} s, {len(load.failures)} failed, {load.streamed} events, {load.resumed} resumptions")
        print({what: len(values) for what, values in load.seen.items()})
        assert load.failures == []
        assert load.calls >= LEAST_PER_SECOND * seconds
        assert load.streamed > 0


def asked_for(plane: Plane, step: str) -> httpx.Response:
    with plane.client() as client:
        return client.post("/api/v1/authority:rotate", json={"step": step})


async def take(plane: Plane, step: str) -> dict[str, Any]:
    """Take a step as soon as nobody is behind."""
    deadline = time.monotonic() + STEP_SECONDS
    while True:
        answer = await asyncio.to_thread(asked_for, plane, step)
        if answer.status_code == httpx.codes.OK:
            found: dict[str, Any] = answer.json()
            return found
        assert "MEMBERS_BEHIND" in answer.text, answer.text
        assert time.monotonic() < deadline, answer.text
        await asyncio.sleep(0.1)


@pytest.mark.timeout(max(60, SECONDS + 45))
async def test_abuse_105_certificates_when_renewed_under_load_cost_no_call(tmp_path: Path) -> None:
    life = 20 if SECONDS >= 60 else 10
    async with loaded(tmp_path, life, simulate=1) as (_, load):
        await asyncio.sleep(SECONDS)
    renewals = 3 if SECONDS >= 60 else 1
    assert {what for what, values in load.seen.items() if len(values) > renewals} == {
        "our certificate, direct",
        "our certificate, gateway",
        "the gateway's certificate",
        "the gpio service's certificate",
    }, load.seen


@pytest.mark.timeout(60 + 40 * ROTATIONS)
async def test_root_when_replaced_under_load_costs_no_call(tmp_path: Path) -> None:
    async with loaded(tmp_path, 60, simulate=2) as (plane, _):
        roots = []
        for _ in range(ROTATIONS):
            for step in ("PREPARE", "ACTIVATE", "RETIRE", "FINISH"):
                state = await take(plane, step)
                await asyncio.sleep(0.3)
            assert state["state"] == "STABLE"
            assert len(state["roots"]) == 1
            roots += state["roots"]
        assert len(set(roots)) == ROTATIONS
        await asyncio.sleep(1)
