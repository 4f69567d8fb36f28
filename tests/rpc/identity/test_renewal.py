"""When certificates renew themselves, by a clock that tests bend; and once for real, with certificates of twelve seconds."""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from picontroller.core.clock import SystemClock
from picontroller.core.errors import InvalidArgument, Unavailable
from picontroller.core.rpc import mesh as rpc
from picontroller.core.rpc.mesh import Mesh
from picontroller.core.rpc.renewal import Issued, Renewal, through
from picontroller.core.tls.identity import IdentityFolder, Trust, credentials_from, key_to_pem, new_key
from picontroller.identity.settings import Settings
from picontroller.v1 import identity_pb2 as pb
from picontroller.v1 import identity_pb2_grpc
from tests.fakes.authority import FakeAuthority
from tests.fakes.clock import FakeClock
from tests.rpc.identity.world import running

START = datetime.now(UTC).replace(microsecond=0)  # the throw-away authority's root begins its life today
LIFE = timedelta(days=30)
DUE = LIFE.total_seconds() * 2 / 3
JITTER = LIFE.total_seconds() / 20
GPIO = "spiffe://pi-controller.local/svc/gpio"


class Issuer:
    """The other side of a renewal, with knobs: ``now`` is its own idea of the time, ``spoil`` changes its answers."""

    def __init__(self, folder: Path) -> None:
        self.authority = FakeAuthority()
        self.now: Callable[[], datetime] = lambda: START
        self.fails = False
        self.identity = GPIO
        self.requests: list[bytes] = []
        self.folder = IdentityFolder(folder)
        self.authority.identity(folder, "svc/gpio")
        self.folder.load()
        self.trust: Trust = self.authority.trust

    def age(self, clock: FakeClock) -> None:
        """Give the folder a certificate whose life begins now by ``clock``."""
        key = new_key()
        chain = self.authority.certificate(key.public_key(), GPIO, not_before=clock.now(), not_after=clock.now() + LIFE)
        self.folder.store(credentials_from(key_to_pem(key), chain), self.trust)

    async def renew(self, csr_pem: bytes) -> Issued:
        """Answer a signing request."""
        self.requests.append(csr_pem)
        if self.fails:
            raise Unavailable("nobody is there")
        key = x509.load_pem_x509_csr(csr_pem).public_key()
        chain = self.authority.certificate(key, self.identity, not_before=self.now(), not_after=self.now() + LIFE)  # type: ignore[arg-type]  # an EC key
        return Issued(chain, self.trust)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


@pytest.fixture
def issuer(tmp_path: Path, clock: FakeClock) -> Issuer:
    made = Issuer(tmp_path / "gpio")
    made.age(clock)
    made.now = clock.now
    return made


async def test_certificate_when_young_is_left_alone(issuer: Issuer, clock: FakeClock) -> None:
    renewal = Renewal(issuer.folder, issuer.renew, clock)
    assert await renewal.step() == 60.0
    await clock.advance(DUE - JITTER - 1)
    await renewal.step()
    assert issuer.requests == []


async def test_certificate_when_two_thirds_of_life_are_over_is_renewed_with_a_new_key_each_time(issuer: Issuer, clock: FakeClock) -> None:
    renewal, serials, keys = Renewal(issuer.folder, issuer.renew, clock), set(), set()
    for _ in range(3):
        serials.add(issuer.folder.credentials.serial)
        keys.add(issuer.folder.credentials.key_pem)
        await renewal.step()
        await clock.advance(DUE)
        await renewal.step()
    assert (len(issuer.requests), len(serials), len(keys)) == (3, 3, 3)
    stored = IdentityFolder(issuer.folder.path)
    stored.load()
    assert stored.credentials == issuer.folder.credentials


async def test_renewals_when_many_are_due_do_not_come_at_once(issuer: Issuer, clock: FakeClock) -> None:
    issuer.fails = True
    fleet = [Renewal(issuer.folder, issuer.renew, clock) for _ in range(50)]
    seen = []
    for seconds in (0.0, DUE - JITTER - 1, JITTER / 2, JITTER / 2 + 1):
        await clock.advance(seconds)
        for renewal in fleet:
            await renewal.step()
        seen.append(len(issuer.requests))
    assert seen[:2] == [0, 0]
    assert 0 < seen[2] < 50
    assert seen[3] >= 50


async def test_certificate_when_the_clock_jumps_far_ahead_is_renewed_once_and_not_in_a_storm(issuer: Issuer, clock: FakeClock) -> None:
    issuer.now = lambda: START  # the issuer's clock is right, ours is forty days ahead: each new certificate looks as old as the last
    renewal = Renewal(issuer.folder, issuer.renew, clock)
    await renewal.step()
    clock.jump(40 * 86400)
    for _ in range(100):
        await renewal.step()
    assert len(issuer.requests) == 1
    await clock.advance(LIFE.total_seconds() / 10)
    await renewal.step()
    assert len(issuer.requests) == 2


async def test_certificate_when_the_clock_falls_back_to_1970_is_renewed_all_the_same(issuer: Issuer, clock: FakeClock) -> None:
    issuer.now = lambda: START
    renewal = Renewal(issuer.folder, issuer.renew, clock)
    await renewal.step()
    clock.jump((datetime(1970, 1, 1, tzinfo=UTC) - START).total_seconds())
    await clock.advance(DUE)
    await renewal.step()
    assert len(issuer.requests) == 1


async def test_certificate_when_a_clock_without_battery_gets_set_is_renewed_at_the_next_look(issuer: Issuer, clock: FakeClock) -> None:
    clock.jump((datetime(1970, 1, 1, tzinfo=UTC) - START).total_seconds())
    renewal = Renewal(issuer.folder, issuer.renew, clock)
    assert await renewal.step() <= 60
    clock.jump((START - clock.now()).total_seconds() + DUE)
    await renewal.step()
    assert len(issuer.requests) == 1


async def test_renewal_when_it_fails_is_tried_again_with_growing_pauses(
    issuer: Issuer, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.fails = True
    renewal = Renewal(issuer.folder, issuer.renew, clock, remedy="do this")
    await renewal.step()
    await clock.advance(DUE)
    moments = []
    for _ in range(400):
        before = len(issuer.requests)
        pause = await renewal.step()
        if len(issuer.requests) > before:
            moments.append(clock.monotonic())
        await clock.advance(pause)
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert 0.5 <= gaps[0] <= 1.0
    assert 150 <= min(gaps[10:]) <= max(gaps) <= 360
    assert "the certificate could not be renewed yet" in caplog.messages
    assert len(caplog.records) < len(moments) / 5
    await clock.advance(LIFE.total_seconds())
    for _ in range(10):
        await renewal.step()
        await clock.advance(301)
    last = [record for record in caplog.records if record.levelno == logging.ERROR][-1]
    assert last.message == "the certificate has expired and can't be renewed"
    assert last.__dict__["try"] == "do this"
    issuer.fails = False
    await renewal.step()
    assert issuer.folder.credentials.not_after > clock.now()


@pytest.mark.parametrize("fault", ["identity", "root"])
async def test_renewal_when_the_answer_would_lock_us_out_keeps_the_old(issuer: Issuer, clock: FakeClock, fault: str) -> None:
    before = issuer.folder.credentials
    if fault == "identity":
        issuer.identity = "spiffe://pi-controller.local/svc/events"
    else:
        issuer.trust = FakeAuthority().trust
    renewal = Renewal(issuer.folder, issuer.renew, clock)
    await renewal.step()
    await clock.advance(DUE)
    await renewal.step()
    assert len(issuer.requests) == 1
    assert issuer.folder.credentials == before
    assert issuer.folder.trust == issuer.authority.trust


async def test_renewal_when_wanted_at_once_does_not_wait_for_its_time(issuer: Issuer, clock: FakeClock) -> None:
    renewal = Renewal(issuer.folder, issuer.renew, clock)
    running = asyncio.create_task(renewal.run())
    for _ in range(2):  # the second right after the first, for which a renewal by time would have to wait
        await clock.until_sleeping()
        serial = issuer.folder.credentials.serial
        renewal.renew_now()
        async with asyncio.timeout(5):
            while issuer.folder.credentials.serial == serial:
                await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert len(issuer.requests) == 2


async def test_renewal_when_its_answer_was_lost_is_repeated_with_the_same_key_for_a_minute(issuer: Issuer, clock: FakeClock) -> None:
    asked: list[bytes] = []
    failures: list[Exception] = [Unavailable("lost"), Unavailable("lost"), InvalidArgument("no"), Unavailable("lost")]

    async def request(csr_pem: bytes) -> Issued:
        asked.append(x509.load_pem_x509_csr(csr_pem).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
        if failures:
            raise failures.pop(0)
        return await issuer.renew(csr_pem)

    renewal = Renewal(issuer.folder, request, clock)
    renewal.renew_now()
    for _ in range(3):
        await renewal.step()
        await clock.advance(5)
    assert asked[0] == asked[1] == asked[2]
    await renewal.step()
    assert asked[3] != asked[2], "a refusal is not repeated with the same key"
    await clock.advance(60)
    await renewal.step()
    assert asked[4] != asked[3], "after a minute the issuer would not know the key as a repetition"
    assert not failures
    await renewal.step()
    assert len(asked) == 5


async def test_members_when_certificates_last_twelve_seconds_renew_without_a_failed_call(tmp_path: Path) -> None:
    async with running(tmp_path, Settings(certificate_seconds=12)) as world:
        identity, gpio = world.served, world.folder("gpio")
        own, mesh = Mesh(identity, {"identity": world.address}), Mesh(gpio, {"identity": world.address})
        renewals = [
            through(lambda chosen=chosen: chosen.service("identity"), chosen.identity, SystemClock())  # type: ignore[misc]  # default binds the loop's value
            for chosen in (own, mesh)
        ]
        tasks = [asyncio.create_task(renewal.run()) for renewal in renewals]
        first = {identity.credentials.serial, gpio.credentials.serial}
        calls, end = 0, time.monotonic() + 24
        # Until both have renewed and the first certificates have ended: from then on nothing old can be what makes calls succeed.
        while first & {identity.credentials.serial, gpio.credentials.serial} or time.monotonic() < end - 11:
            stub = identity_pb2_grpc.IdentityServiceStub(mesh.service("identity"))
            who: pb.Principal = await rpc.unary(stub.WhoAmI, pb.WhoAmIRequest())
            assert who.spiffe_id == GPIO
            calls += 1
            await asyncio.sleep(0.02)
            assert time.monotonic() < end, "no renewal within 24 s"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await own.close()
        await mesh.close()
        assert calls > 100
