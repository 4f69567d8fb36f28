"""The matrix by REST: the same answers through Envoy, as HTTP statuses, for each class of call."""

import ssl
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from tests.permissions.requests import ABSENT, NODE
from tests.permissions.world import World, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKENS = ("token admin", "token operator", "token monitor", "token expired", "token revoked")
# Class of the call, the call, and what becomes of it for each of TOKENS, then without any.
ROWS = (
    ("READ", "GET", "/api/v1/nodes", {}, (200, 200, 200, 401, 401), 401),
    ("READ", "GET", "/api/v1/certificates", {}, (200, 403, 403, 401, 401), 401),
    ("DRIVE", "PUT", f"/api/v1/gpio/{ABSENT}", {"value": "HIGH"}, (404, 404, 403, 401, 401), 401),
    ("CHANGE", "PUT", f"/api/v1/nodes/{ABSENT}", {"labels": {"a": "1"}}, (404, 403, 403, 401, 401), 401),
    ("CHANGE", "DELETE", f"/api/v1/gpio/{ABSENT}", {}, (404, 404, 403, 401, 401), 401),
    ("JOIN", "POST", "/api/v1/certificates:issue", {"token": "none", "csr_pem": "none"}, (400, 400, 400, 401, 401), 400),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with running(tmp_path_factory.mktemp("edge")) as world:
        yield world


def client(world: World, caller: str = "") -> httpx.AsyncClient:
    """Return a REST client that shows the certificate of a caller, or none."""
    assert world.gateway is not None
    trust = ssl.create_default_context(cadata=world.authority.roots_pem.decode())
    identity = world.callers[caller].identity if caller else None
    if identity is not None:
        trust.load_cert_chain(identity.path / "identity.pem")
    return httpx.AsyncClient(base_url=world.gateway.url, verify=trust, timeout=15, trust_env=False)


@pytest.mark.parametrize(("kind", "verb", "path", "body", "by_token", "by_nobody"), ROWS, ids=[f"{row[0]} {row[2]}" for row in ROWS])
async def test_rest_when_called_with_each_token_answers_as_the_matrix_says(
    world: World, kind: str, verb: str, path: str, body: dict[str, object], by_token: tuple[int, ...], by_nobody: int
) -> None:
    async with client(world) as http:
        got = []
        for metadata in [*(world.callers[name].metadata for name in TOKENS), ()]:
            answer = await http.request(verb, path, json=body if verb in ("PUT", "POST") else None, headers=dict(metadata))
            got.append(answer.status_code)
    assert got == [*by_token, by_nobody]


async def test_rest_when_called_with_certificates_answers_as_the_matrix_says(world: World) -> None:
    expected = {"admin": 200, "monitor": 200, "nobody's role": 403, "own agent": 403, "svc/gateway": 403, "expired": 401, "revoked": 401}
    for caller, status in expected.items():
        async with client(world, caller) as http:
            assert (caller, (await http.get("/api/v1/nodes")).status_code) == (caller, status)
    for caller, status in {"own agent": 404, "other agent": 403}.items():
        async with client(world, caller) as http:
            assert (caller, (await http.get(f"/api/v1/nodes/{NODE}")).status_code) == (caller, status)
