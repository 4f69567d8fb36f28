"""Whose certificate is believed, and for how long after its root was dropped."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from picontroller.core.errors import Unauthenticated
from picontroller.core.rpc.authentication import Authenticator
from picontroller.core.tls.identity import Trust
from tests.fakes.authority import FakeAuthority
from tests.fakes.clock import FakeClock

GATEWAY_SECONDS = 60.0


class PeerContext:
    """What is asked of a call's context to know its peer."""

    def __init__(self, pem: bytes) -> None:
        self._pem = pem

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"ssl_tls_version": [b"TLSv1.3"], "x509_pem_cert": [self._pem]}


class Believer:
    """An authenticator under a root that another takes the place of. ``refusal`` is empty for a peer who is let in."""

    def __init__(self) -> None:
        self.authority = FakeAuthority()
        self.trust: Trust = self.authority.trust
        self.clock = FakeClock(datetime.now(UTC))
        self.authenticator = Authenticator(lambda: self.trust, now=lambda: self.clock.now().timestamp(), gateway_seconds=GATEWAY_SECONDS)

    def certificate(self, path: str) -> bytes:
        return self.authority.certificate(ec.generate_private_key(ec.SECP256R1()).public_key(), f"spiffe://pi-controller.local/{path}")

    def believe(self, *authorities: FakeAuthority) -> None:
        roots = b"".join(authority.roots_pem for authority in authorities)
        self.trust = replace(self.trust, version=self.trust.version + 1, roots_pem=roots)

    def refusal(self, pem: bytes) -> str:
        try:
            self.authenticator.peer(PeerContext(pem))  # type: ignore[arg-type]  # the part of a context that is used
        except Unauthenticated as error:
            return error.reason
        return ""


@pytest.mark.parametrize("path", ["user/anna", "svc/gpio", "node/0b0e7e9e-4b5c-4f0f-9d1c-0123456789ab"])
def test_certificate_when_its_root_is_dropped_is_refused_at_once(path: str) -> None:
    world, coming = Believer(), FakeAuthority()
    pem = world.certificate(path)
    assert world.refusal(pem) == ""
    world.believe(world.authority, coming)
    assert world.refusal(pem) == ""
    world.believe(coming)
    assert [world.refusal(pem), world.refusal(pem)] == ["ROOT_DROPPED"] * 2
    world.believe(world.authority)
    assert world.refusal(pem) == ""


async def test_gateway_when_its_root_is_dropped_goes_on_for_the_age_of_a_connection() -> None:
    world, coming = Believer(), FakeAuthority()
    known, new = world.certificate("gateway"), world.certificate("gateway")
    assert world.refusal(known) == ""
    world.believe(coming)
    assert (world.refusal(known), world.refusal(new)) == ("", "ROOT_DROPPED")
    await world.clock.advance(GATEWAY_SECONDS - 1)
    world.believe(coming, FakeAuthority())
    assert world.refusal(known) == ""
    await world.clock.advance(1)
    assert world.refusal(known) == "ROOT_DROPPED"


def test_certificate_when_it_begins_later_by_our_clock_is_no_stranger() -> None:
    world = Believer()
    world.clock.jump(-timedelta(days=10_000).total_seconds())
    assert world.refusal(world.certificate("svc/gpio")) == ""
