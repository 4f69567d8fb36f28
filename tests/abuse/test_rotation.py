"""The root changes while a Pi is switched off: it gets in as long as there is a way, and else comes back with a token."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from picontroller.agent import joining
from picontroller.agent.admission import membership
from picontroller.agent.settings import Settings
from picontroller.agent.wiring import running_agent
from picontroller.core.clock import SystemClock
from picontroller.core.errors import FailedPrecondition
from tests.integration.plane import Plane, embedded

SILENT_SECONDS = 3
LIFE_SECONDS = 60  # members that are asked to renew do so within a twentieth of it


class Pi:
    """A simulated Pi that can be switched on and off."""

    def __init__(self, plane: Plane, folder: Path) -> None:
        self.plane = plane
        self.folder = folder
        self.gateway = plane.url.removeprefix("https://")
        self.node_id = ""

    async def join(self, **fields: str) -> None:
        token = (await asyncio.to_thread(asked, self.plane, "tokens", fields)).json()["token"]
        self.node_id = (await joining.join(self.gateway, token, self.folder, SystemClock())).node_id

    @asynccontextmanager
    async def on(self) -> AsyncIterator[None]:
        settings = Settings(listen="127.0.0.1:0", backend="sim", hostname=self.folder.name, report_seconds=0.2)
        async with running_agent(settings, self.folder, SystemClock()):
            yield

    def roots_and_serial(self) -> tuple[int, str]:
        identity = membership.identity_of(self.folder)
        identity.load()
        return identity.trust.roots_pem.count(b"BEGIN"), identity.credentials.serial

    def heard_of(self) -> tuple[str, str]:
        """Return the status that the control plane shows, and when it last heard of the Pi."""
        found = (node for node in self.plane.nodes() if node["id"] == self.node_id)
        return next(((node["status"], node["last_seen"]) for node in found), ("UNKNOWN", ""))

    async def ready(self) -> None:
        """Wait until a report that is made from now on has come in."""
        _, before = await asyncio.to_thread(self.heard_of)

        async def heard() -> bool:
            status, now = await asyncio.to_thread(self.heard_of)
            return status == "READY" and now != before

        await eventually(heard, f"{self.folder.name} is READY")


def asked(plane: Plane, what: str, body: dict[str, str]) -> httpx.Response:
    with plane.client() as client:
        return client.post(f"/api/v1/{what}", json=body)


async def step(plane: Plane, name: str) -> httpx.Response:
    return await asyncio.to_thread(asked, plane, "authority:rotate", {"step": name})


async def standing(plane: Plane) -> dict[str, Any]:
    def ask() -> dict[str, Any]:
        with plane.client() as client:
            found: dict[str, Any] = client.get("/api/v1/authority").json()
            return found

    return await asyncio.to_thread(ask)


async def eventually(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.1)


async def taken(plane: Plane, name: str) -> dict[str, Any]:
    """Take a step as soon as nobody who is alive is behind."""
    answers: list[httpx.Response] = []

    async def fine() -> bool:
        answers.append(await step(plane, name))
        assert answers[-1].status_code == httpx.codes.OK or "MEMBERS_BEHIND" in answers[-1].text, answers[-1].text
        return answers[-1].status_code == httpx.codes.OK

    await eventually(fine, f"{name} is taken")
    found: dict[str, Any] = answers[-1].json()
    return found


@pytest.mark.timeout(90)
async def test_abuse_109_pi_that_was_off_while_the_root_changed_gets_in_by_cross_signature_or_by_a_fresh_token(tmp_path: Path) -> None:
    environ = {
        "PICONTROLLER_IDENTITY__MEMBER_SILENT_SECONDS": str(SILENT_SECONDS),
        "PICONTROLLER_IDENTITY__CERTIFICATE_SECONDS": str(LIFE_SECONDS),
    }
    with embedded(tmp_path, environ=environ) as plane:
        back, away = Pi(plane, tmp_path / "back"), Pi(plane, tmp_path / "away")
        for pi in (back, away):
            await pi.join()
            async with pi.on():
                await pi.ready()
        before = back.roots_and_serial()

        await taken(plane, "PREPARE")
        refused = await step(plane, "ACTIVATE")
        assert refused.status_code == httpx.codes.BAD_REQUEST
        assert "MEMBERS_BEHIND" in refused.text
        assert f"/node/{away.node_id}" in refused.text
        await taken(plane, "ACTIVATE")
        retiring = await taken(plane, "RETIRE")
        assert {back.node_id, away.node_id} <= {member["spiffe_id"].rpartition("/")[2] for member in retiring["absent"]}
        assert back.roots_and_serial() == before

        async with back.on():  # it believes the old root only, and has a certificate of it
            await back.ready()
            await eventually(lambda: asyncio.to_thread(lambda: back.roots_and_serial()[1] != before[1]), "it renews by itself", 20)
            assert back.roots_and_serial()[0] == 2

            async def others_followed() -> bool:  # members report every minute: with this patience, all of them count as silent
                behind = await standing(plane)
                names = [member["spiffe_id"].rpartition("/")[2] for member in (*behind["stragglers"], *behind["absent"])]
                return names == [away.node_id]

            await eventually(others_followed, "all others have certificates of the new root")
            finished = await taken(plane, "FINISH")
            assert [member["spiffe_id"].rpartition("/")[2] for member in finished["absent"]] == [away.node_id]
            await eventually(lambda: asyncio.to_thread(lambda: back.roots_and_serial()[0] == 1), "it believes the new root alone")
            await back.ready()

            lost, (_, last) = away.roots_and_serial(), await asyncio.to_thread(away.heard_of)
            async with away.on():
                await asyncio.sleep(1.5)  # the time of several reports: none of them may come in
                assert (await asyncio.to_thread(away.heard_of))[1] == last
                assert away.roots_and_serial() == lost
            await away.join(node_id=away.node_id)
            async with away.on():
                await away.ready()
            assert len({pi.node_id for pi in (back, away)}) == 2
        with pytest.raises(FailedPrecondition) as caught:
            await away.join()
        assert caught.value.reason == "ALREADY_JOINED"
        assert len(await asyncio.to_thread(plane.nodes)) == 2
        assert (await standing(plane))["state"] == "STABLE"
