"""Trust that spreads: what the identity service tells, and members that follow it whatever happens to the connection."""

import asyncio
import logging
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY

from picontroller.core.callers import SpiffeId
from picontroller.core.clock import SystemClock
from picontroller.core.errors import FailedPrecondition, Unauthenticated, Unavailable
from picontroller.core.rpc import hosting
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.hosting import Manners
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.rpc.renewal import Issued, Renewal
from picontroller.core.rpc.trust import Believer, TrustWatch
from picontroller.core.rpc.validation import default_validator
from picontroller.core.rpc.wiring import Service
from picontroller.core.tls import joining
from picontroller.core.tls.channels import channel
from picontroller.core.tls.denials import Denial
from picontroller.core.tls.identity import IdentityFolder, credentials_from, key_to_pem, new_key
from picontroller.identity.revocation.news import Tidings
from picontroller.v1 import identity_pb2_grpc, trust_pb2
from tests.fakes.authority import FakeAuthority
from tests.rpc.identity.telling import END, PATIENCE_SECONDS, Plane, until


def shown_age(identity: str) -> float:
    """Return what is shown in the metrics, -1 for nothing."""
    found = REGISTRY.get_sample_value("picontroller_trust_age_seconds", {"identity": identity})
    return -1 if found is None else found


@pytest.fixture
def plane(tmp_path: Any) -> Plane:
    return Plane(tmp_path)


async def told(plane: Plane, version: int, denials_version: int, count: int) -> list[Tidings]:
    """Return the first ``count`` tidings of a listener to an identity service that has just started."""
    found = []
    running = asyncio.create_task(plane.news.run())
    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(plane.news.listen(version, denials_version)) as listening:
        async for tidings in listening:
            found.append(tidings)
            if len(found) == count:
                break
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return found


async def test_news_when_a_listener_lacks_nothing_is_a_sign_of_life_at_once_and_again(plane: Plane) -> None:
    assert await told(plane, 1, 0, 3) == [Tidings(), Tidings(), Tidings()]


async def test_news_when_a_listener_lacks_something_is_that_alone(plane: Plane) -> None:
    plane.deny("token:a", "token:b")
    assert await told(plane, 0, 1, 2) == [Tidings(plane.trust), Tidings(None, (Denial("token:b", END),), 2)]


async def test_news_when_a_listener_knows_more_than_there_is_is_everything(plane: Plane) -> None:
    plane.deny("token:a", "token:b")
    (first,) = await told(plane, 1, 77, 1)
    assert ([denial.proof for denial in first.denials], first.denials_version) == (["token:a", "token:b"], 2)


async def test_news_when_there_are_many_comes_in_pieces(plane: Plane) -> None:
    plane.deny(*(f"token:{number}" for number in range(4500)))
    pieces = await told(plane, 1, 0, 3)
    assert [(len(piece.denials), piece.denials_version) for piece in pieces] == [(2000, 2000), (2000, 4000), (500, 4500)]


async def test_member_when_it_follows_believes_and_refuses_what_it_is_told_and_says_so(plane: Plane) -> None:
    gpio = plane.member()
    async with plane.serving(), plane.following(gpio):
        await until(lambda: plane.acknowledged == [("", 1)])
        plane.publish(jwks_json='{"keys":[1]}')
        await until(lambda: gpio.trust == plane.trust)
        await until(lambda: plane.acknowledged[-1] == ("", 2))
        plane.deny("token:a")
        await until(lambda: gpio.denials.denies("token:a"))
        again = IdentityFolder(gpio.path)

        def written() -> bool:
            again.load()
            return again.denials.denies("token:a")

        await until(written)
        assert (again.trust, again.denials.version) == (plane.trust, 1)


async def test_gateway_when_it_follows_does_so_for_both_of_its_identities(plane: Plane) -> None:
    own, edge = plane.member("gateway", "svc/gateway"), plane.member("edge", "gateway")
    await asyncio.to_thread(own.denials.add, [Denial("token:a", END)], 1)
    plane.deny("token:a", "token:b")
    async with plane.serving(), plane.following(own, Believer(edge, None, "/gateway")):
        await until(lambda: edge.denials.version == own.denials.version == 2)
        assert edge.denials.denies("token:a"), "what only one of them knew is told again"
        plane.publish()
        await until(lambda: own.trust == edge.trust == plane.trust)
        await until(lambda: {("", 2), ("/gateway", 2)} <= set(plane.acknowledged))


async def test_member_when_ten_thousand_are_denied_knows_them_all(plane: Plane) -> None:
    gpio = plane.member()
    async with plane.serving(), plane.following(gpio):
        await until(lambda: plane.acknowledged)
        plane.deny(*(f"certificate:{number:040x}" for number in range(10_000)))
        await until(lambda: gpio.denials.version == 10_000)
        assert len(gpio.denials) == 10_000
        again = IdentityFolder(gpio.path)

        def written() -> bool:
            again.load()
            return len(again.denials) == 10_000

        await until(written)


async def test_member_when_the_service_is_away_keeps_what_it_knows_says_stale_and_comes_back(
    plane: Plane, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    gpio = plane.member()
    plane.deny("token:a")
    async with plane.following(gpio, stale_seconds=0.5) as watch:
        async with plane.serving():
            await until(lambda: gpio.denials.denies("token:a"))
            assert watch.problems() == ()
            assert watch.age() < 1
        await until(watch.problems)
        await until(lambda: any("is silent" in record.message for record in caplog.records))
        assert watch.problems()[0].startswith("TRUST_STALE: ")
        assert shown_age("/svc/gpio") > 0.5
        assert gpio.denials.denies("token:a"), "fail-static"
        async with plane.serving():
            plane.deny("token:b")
            await until(lambda: gpio.denials.denies("token:b"))
            assert watch.problems() == ()
            await until(lambda: any("heard again" in record.message for record in caplog.records))
    assert sum("is silent" in record.message for record in caplog.records) == 1
    assert shown_age("/svc/gpio") == -1


async def test_member_when_nothing_is_heard_takes_the_connection_for_lost(plane: Plane) -> None:
    gpio = plane.member()
    async with plane.serving(), plane.following(gpio, silence_seconds=0.5):
        await until(lambda: plane.asked)
        plane.silent = True
        await until(lambda: len(plane.asked) >= 2)
        plane.silent = False
        plane.deny("token:a")
        await until(lambda: gpio.denials.denies("token:a"))


async def test_member_when_its_channel_is_replaced_or_closed_follows_on_another(plane: Plane) -> None:
    gpio = plane.member()
    mesh = Mesh(gpio, {"identity": plane.address})
    watch = TrustWatch(lambda: mesh.service("identity"), [Believer(gpio)], SystemClock())
    async with plane.serving():
        task = asyncio.create_task(watch.run())
        await until(lambda: plane.asked)
        mesh.forget(plane.address, "identity.pi-controller.local")
        await until(lambda: len(plane.asked) == 2)
        plane.deny("token:a")
        await until(lambda: gpio.denials.denies("token:a"))
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await mesh.close()


async def test_member_when_its_own_proof_was_revoked_says_so_and_does_not_storm(plane: Plane, caplog: pytest.LogCaptureFixture) -> None:
    gpio = plane.member()
    plane.refusal = Unauthenticated("the certificate was revoked", reason="PROOF_REVOKED")
    async with plane.serving(), plane.following(gpio):
        await until(lambda: any("was revoked" in record.message for record in caplog.records))
        await asyncio.sleep(1.2)  # nothing may happen meanwhile: a storm would
        assert len(plane.asked) == 1
        assert [record.levelname for record in caplog.records if "was revoked" in record.message] == ["ERROR"]
        assert "`pictl serve identity`" in str(next(vars(record)["try"] for record in caplog.records if "was revoked" in record.message))
        plane.refusal = None
        plane.authority.identity(gpio.path, "svc/gpio")
        gpio.load()  # it has got a new certificate
        await until(lambda: len(plane.asked) == 2)


async def test_member_when_its_proof_expires_on_the_stream_connects_again_at_once(plane: Plane) -> None:
    gpio = plane.member()
    plane.refusal = Unauthenticated("the proof has expired", reason="PROOF_EXPIRED")
    async with plane.serving(), plane.following(gpio):
        await until(lambda: len(plane.asked) >= 2)
        plane.refusal = None
        await until(lambda: plane.acknowledged)
        plane.deny("token:a")
        await until(lambda: gpio.denials.denies("token:a"))


async def test_member_when_told_to_renew_does_so_only_under_another_root(plane: Plane) -> None:
    gpio, other = plane.member(), FakeAuthority()
    key, now = new_key(), datetime.now(UTC)
    # Forty seconds: they are shared out over two, and no renewal is due by time meanwhile.
    chain = plane.authority.certificate(
        key.public_key(), str(gpio.credentials.spiffe_id), not_before=now - timedelta(seconds=1), not_after=now + timedelta(seconds=39)
    )
    gpio.store(credentials_from(key_to_pem(key), chain), gpio.trust)
    asked: list[bytes] = []

    async def request(csr_pem: bytes) -> Issued:
        asked.append(csr_pem)
        raise Unavailable("not here")

    renewal = Renewal(gpio, request, SystemClock())
    renewing = asyncio.create_task(renewal.run())
    async with plane.serving(), plane.following(gpio, renewal=renewal):
        plane.publish(active_root=joining.root_fingerprint(plane.authority.root), renew_now=True)
        await until(lambda: plane.acknowledged and plane.acknowledged[-1] == ("", 2))
        assert asked == []
        plane.publish(roots_pem=plane.trust.roots_pem + other.roots_pem, active_root=joining.root_fingerprint(other.root))
        await until(lambda: asked)
    renewing.cancel()
    await asyncio.gather(renewing, return_exceptions=True)


async def test_member_when_it_has_another_certificate_says_so_by_calling_with_it(plane: Plane) -> None:
    gpio, edge = plane.member(), plane.member("edge", "gateway")
    async with plane.serving(), plane.following(gpio, Believer(edge, None, "/gateway")):
        await until(lambda: plane.acknowledged == [("", 1), ("/gateway", 1)])
        first = gpio.credentials.serial
        assert plane.proofs == [f"certificate:{first}"] * 2
        gpio.store(plane.member("fresh", "svc/gpio").credentials, gpio.trust)
        await until(lambda: len(plane.acknowledged) == 4)
        assert plane.proofs[2:] == [f"certificate:{gpio.credentials.serial}"] * 2
        assert gpio.credentials.serial != first


async def test_mesh_when_a_node_is_denied_does_not_dial_it_and_cuts_it_off(plane: Plane) -> None:
    gpio = plane.member()
    mesh = Mesh(gpio, {})
    node = SpiffeId("pi-controller.local", "node", "n1")
    before, other = mesh.node("n1", "127.0.0.1:1"), mesh.node("n2", "127.0.0.1:1")
    await asyncio.to_thread(gpio.denials.add, [Denial(str(node), END)], 1)
    with pytest.raises(FailedPrecondition) as caught:
        mesh.node("n1", "127.0.0.1:1")
    assert caught.value.reason == "NODE_REVOKED"
    assert mesh.node("n2", "127.0.0.1:1") is other
    stub = identity_pb2_grpc.IdentityServiceStub(before)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                await rpc.unary(stub.GetTrustBundle, trust_pb2.GetTrustBundleRequest(), seconds=0.5)
            except Exception as error:
                if "closed" in str(error):
                    break
    await mesh.close()


async def test_member_when_the_service_is_away_goes_on_refusing_whom_it_knew_also_after_a_restart(plane: Plane) -> None:
    gpio = plane.member()
    doomed, other = plane.member("doomed", "node/n1"), plane.member("other", "node/n2")
    server = Service("gpio", ())
    manners = Manners(default_validator(), SystemClock(), grace_seconds=0.2)
    address = f"unix:{plane.folder}/g.sock"

    async def status(identity: IdentityFolder) -> grpc.StatusCode:
        async with channel(identity, address, "gpio.pi-controller.local") as made:
            try:
                await health_pb2_grpc.HealthStub(made).Check(health_pb2.HealthCheckRequest(), timeout=5)
            except grpc.aio.AioRpcError as error:
                return error.code()
        return grpc.StatusCode.OK

    async with hosting.serving(server, gpio, [address], manners), plane.following(gpio):
        async with plane.serving():
            assert await status(doomed) is grpc.StatusCode.OK
            plane.deny(f"certificate:{doomed.credentials.serial}")
            await until(lambda: len(gpio.denials) == 1)
            await until((gpio.path / "denials.json").exists)
        assert await status(doomed) is grpc.StatusCode.UNAUTHENTICATED
        assert await status(other) is grpc.StatusCode.OK
    started = IdentityFolder(gpio.path)
    started.load()
    async with hosting.serving(server, started, [address], manners), plane.following(started):
        assert await status(doomed) is grpc.StatusCode.UNAUTHENTICATED
        assert await status(other) is grpc.StatusCode.OK


async def test_member_when_the_certificate_of_whom_it_acts_for_is_revoked_renews_that_at_once_and_no_other(plane: Plane) -> None:
    own, edge = plane.member("gateway", "svc/gateway"), plane.member("edge", "gateway")
    asked: list[str] = []

    def renewal_of(identity: IdentityFolder) -> Renewal:
        async def request(csr_pem: bytes) -> Issued:
            asked.append(str(identity.credentials.spiffe_id))
            raise Unavailable("not here")

        return Renewal(identity, request, SystemClock())

    renewals = [renewal_of(own), renewal_of(edge)]
    renewing = [asyncio.create_task(each.run()) for each in renewals]
    async with plane.serving(), plane.following(own, Believer(edge, renewals[1], "/gateway"), renewal=renewals[0]):
        plane.deny("certificate:other", f"certificate:{own.credentials.serial}")
        await until(lambda: edge.denials.denies("certificate:other"))
        assert asked == []
        plane.deny(f"certificate:{edge.credentials.serial}")
        await until(lambda: asked)
        assert set(asked) == {"spiffe://pi-controller.local/gateway"}
    for task in renewing:
        task.cancel()
    await asyncio.gather(*renewing, return_exceptions=True)
