"""Envoy as we run it: a configuration that it accepts, renewed secrets, a log that leaks nothing and does not grow for ever."""

import asyncio
import json
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from picontroller.core.tls.identity import IdentityFolder, Trust, credentials_from, key_to_pem, new_key
from picontroller.gateway.envoy import admin, process
from picontroller.gateway.settings import Settings
from tests.fakes.authority import FakeAuthority
from tests.fakes.edge import EdgeWorld, edge_world
from tests.fakes.tokens import FakeTokens
from tests.fakes.websocket import until
from tests.unit.gateway.test_bootstrap import edge


async def served_serial(world: EdgeWorld) -> int:
    _reader, writer = await asyncio.open_connection("127.0.0.1", world.gateway.port, ssl=world.tls())
    raw = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return x509.load_der_x509_certificate(raw).serial_number


async def test_configuration_when_given_to_envoy_is_valid(tmp_path: Path) -> None:
    FakeAuthority().identity(tmp_path / "edge", "gateway")
    for number, settings in enumerate((Settings(), Settings(allowed_origins=("https://dash.example",)))):
        wanted = edge(
            settings, identity=tmp_path / "edge", descriptors=tmp_path / str(number) / "public.binpb", access_log=tmp_path / "access.log"
        )
        path = process.write_configuration(wanted)
        assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
        child = await asyncio.create_subprocess_exec(
            str(process.find(None)), "--mode", "validate", "-c", str(path), "--log-level", "warning", stderr=asyncio.subprocess.PIPE
        )
        _, said = await child.communicate()
        assert child.returncode == 0, said.decode()
        assert b"deprecated" not in said.lower()


async def test_certificate_when_renewed_is_served_without_a_failed_call(tmp_path: Path) -> None:
    async with edge_world(tmp_path) as world:
        before = await served_serial(world)
        calls, stop = 0, asyncio.Event()

        async def busy() -> None:
            nonlocal calls
            async with world.http() as client:
                while not stop.is_set():
                    assert (await client.get("/api/v1/whoami", headers=headers)).status_code == 200
                    calls += 1

        headers = world.bearer()
        load = asyncio.create_task(busy())
        renewed = world.authority.identity(tmp_path / "renewed", "gateway")
        await until(lambda: calls > 20)
        world.edge.store(renewed.credentials, world.edge.trust)
        async with asyncio.timeout(10):
            while await served_serial(world) == before:
                await asyncio.sleep(0.02)
        so_far = calls
        await until(lambda: calls > so_far + 20)
        stop.set()
        await load
        assert (await served_serial(world)) == int(renewed.credentials.serial, 16)


async def test_roots_when_another_is_added_let_its_clients_in(tmp_path: Path) -> None:
    async with edge_world(tmp_path) as world:
        other = FakeAuthority(jwks=world.tokens.jwks())
        guest = other.identity(tmp_path / "guest", "user/anna", roles=("monitor",))
        both = Trust(2, other.trust_domain, world.authority.roots_pem + other.roots_pem, world.tokens.jwks())
        for name in ("identity", "discovery", "gpio", "events"):
            folder = IdentityFolder(tmp_path / name)
            folder.load()
            folder.store_trust(both)
        world.edge.store_trust(both)
        async with asyncio.timeout(10):
            while True:
                try:
                    async with world.http(identity=guest) as client:
                        answer = await client.get("/api/v1/whoami")
                        break
                except httpx.TransportError:  # refused until Envoy has read the file
                    await asyncio.sleep(0.05)
        # Past Envoy; the services of this test still hold the old roots and check for themselves.
        assert (answer.status_code, answer.json()["details"][0]["reason"]) == (401, "CERTIFICATE_INVALID")


async def test_token_key_when_added_is_believed_without_a_restart(tmp_path: Path) -> None:
    async with edge_world(tmp_path) as world:
        fresh = FakeTokens("test-2")
        jwks = json.dumps({"keys": [world.tokens.jwk(), fresh.jwk()]})
        world.edge.store_trust(Trust(2, world.edge.trust.trust_domain, world.edge.trust.roots_pem, jwks))
        async with world.http() as client, asyncio.timeout(25):
            headers = {"authorization": f"Bearer {fresh.token()}"}
            while "not signed by this control plane" not in (answer := await client.get("/api/v1/whoami", headers=headers)).text:
                await asyncio.sleep(0.1)  # Envoy says what it thinks of the key first; then the service does, whose trust is older here
        assert answer.status_code == 401


async def test_access_log_when_written_names_the_caller_and_holds_no_token(tmp_path: Path) -> None:
    async with edge_world(tmp_path) as world:
        path = tmp_path / "gateway" / "access.log"
        token = world.tokens.token("anna")
        async with world.http() as client:
            await client.get("/api/v1/nodes?page_size=7", headers={"authorization": f"Bearer {token}"})
            await client.get(f"/api/v1/nodes?access_token={token}")
            await client.get("/api/v1/whoami", headers={"authorization": f"Bearer {token[:-5]}AAAAA"})
        async with world.http(identity=world.person("monitor", name="bert")) as client:
            await client.get("/api/v1/whoami")
        await admin.ask(world.gateway.envoy._edge.admin, "POST", "/reopen_logs")
        await until(lambda: path.exists() and path.read_text().count("\n") >= 4)
        text = path.read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        assert token.split(".")[1] not in text
        assert token.split(".")[2] not in text
        assert [(line["path"], line["status"]) for line in lines] == [
            ("/api/v1/nodes", 200),
            ("/api/v1/nodes", 400),
            ("/api/v1/whoami", 401),
            ("/api/v1/whoami", 200),
        ]
        assert (lines[0]["subject"], lines[3]["certificate"]) == ("anna", "spiffe://pi-controller.local/user/bert")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_access_log_when_full_begins_anew_and_one_old_file_is_kept(tmp_path: Path) -> None:
    async with edge_world(tmp_path, Settings(log_bytes=2000)) as world:
        path = tmp_path / "gateway" / "access.log"
        async with world.http() as client:
            for _ in range(2):
                for _ in range(10):
                    await client.get("/healthz")
                await admin.ask(world.gateway.envoy._edge.admin, "POST", "/reopen_logs")
                await until(lambda: path.exists() and path.stat().st_size > 2000)
                assert await world.gateway.envoy.rotate_if_full()
            await client.get("/readyz")
            await admin.ask(world.gateway.envoy._edge.admin, "POST", "/reopen_logs")
            await until(lambda: path.exists() and "/readyz" in path.read_text())
        assert "/healthz" in path.with_name("access.log.1").read_text()
        assert sorted(file.name for file in path.parent.glob("access.log*")) == ["access.log", "access.log.1"]


async def test_client_certificate_when_expired_ends_the_handshake(tmp_path: Path) -> None:
    async with edge_world(tmp_path) as world:
        key, past = new_key(), datetime.now(UTC) - timedelta(minutes=1)
        chain = world.authority.certificate(
            key.public_key(), "spiffe://pi-controller.local/user/anna", organisations=("monitor",), not_after=past
        )
        folder = IdentityFolder(tmp_path / "old")
        folder.store(credentials_from(key_to_pem(key), chain), world.authority.trust)
        async with world.http(identity=folder) as client:
            with pytest.raises((httpx.TransportError, ssl.SSLError)):
                await client.get("/api/v1/whoami")
