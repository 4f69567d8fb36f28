"""What strangers may see: the page, the root certificate, liveness and readiness."""

import re

import pytest

from picontroller.gateway.bridge.pages import ASSETS
from tests.fakes.edge import EdgeWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_page_when_opened_is_whole_and_asks_nobody_else(world: EdgeWorld) -> None:
    async with world.http() as client:
        page = await client.get("/")
        parts = [await client.get(f"/assets/{name}") for name in ASSETS]
    policy = page.headers["content-security-policy"]
    assert page.status_code == 200
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert {part.status_code for part in parts} == {200}
    wanted = set(re.findall(r'(?:src|href)="(/assets/[^"]+)"', page.text))
    assert wanted == {f"/assets/{name}" for name in ASSETS}
    for text in (page.text, *(part.text for part in parts)):
        foreign = re.findall(r"(?:https?:)?//[a-z][^\s\"'<>)]*", text)
        assert [url for url in foreign if "localhost" not in url and "www.w3.org/2000/svg" not in url and not url.startswith("//${")] == []
        assert "style=" not in text
    assert not re.search(r"<script(?![^>]*src=)|\son[a-z]+=", page.text)
    assert "innerHTML" not in parts[0].text


async def test_answers_without_login_are_these_and_no_others(world: EdgeWorld) -> None:
    async with world.http() as client:
        assert (await client.get("/healthz")).json()["live"] is True
        assert (await client.get("/readyz")).json()["ready"] is True
        assert (await client.get("/ca.pem")).content == world.authority.roots_pem
        for path in ("/", "/healthz", "/readyz", "/ca.pem"):
            assert (await client.post(path)).status_code in (404, 405)
        for path in ("/api/v1/nodes", "/api/v1/gpio", "/api/v1/events", "/api/v1/tokens", "/api/v1/trust-bundle"):
            assert (await client.get(path)).status_code == 401


async def test_readiness_when_asked_by_many_costs_the_services_little(world: EdgeWorld) -> None:
    async with world.http() as client:
        answers = [(await client.get("/readyz")).status_code for _ in range(50)]
    assert set(answers) == {200}
    assert await world.gateway.ready()


async def test_event_socket_when_asked_without_an_upgrade_says_what_it_is(world: EdgeWorld) -> None:
    async with world.http() as client:
        answer = await client.get("/api/v1/events/ws", headers=world.bearer())
    assert answer.status_code == 426
    assert answer.json()["code"] == 9
    assert "WebSocket" in answer.json()["message"]
