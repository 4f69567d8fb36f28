"""The links that limit how often a caller calls: whose bucket is taken from, and what is answered when it is empty."""

import asyncio
from typing import Any

import pytest

from picontroller.core.callers import ANONYMOUS, Caller, Role, SpiffeId
from picontroller.core.errors import Error, PermissionDenied, QuotaExceeded, Unauthenticated
from picontroller.core.rpc.interceptors.call import Handler, Method
from picontroller.core.rpc.interceptors.limits import Rates, Refusals
from picontroller.core.rpc.limits import LimitSettings
from picontroller.core.rpc.permissions import CallClass, Permission
from tests.fakes.clock import FakeClock


class FakeCall:
    """What the links look at of a call."""

    def __init__(self, caller: Caller = ANONYMOUS, address: str = "") -> None:
        self.caller = caller
        self.address = address


def person(name: str, role: Role = Role.CLUSTER_ADMIN, kind: str = "user") -> Caller:
    return Caller(SpiffeId("pi-controller.local", kind, name), frozenset({role}), "certificate", float("inf"))


def method(kind: CallClass) -> Method:
    permission = Permission(frozenset(Role), call_class=kind)
    return Method("a.B", "C", permission, request_streaming=False, response_streaming=False)


async def served(call: Any, request: Any) -> str:
    return "served"


async def wrong(call: Any, request: Any) -> str:
    raise Unauthenticated("wrong", reason="TOKEN_INVALID")


async def outcomes(handler: Handler, call: Any, count: int) -> list[str]:
    """Return what ``count`` calls at once end with: the answer, or the error's reason."""
    found = await asyncio.gather(*(handler(call, None) for _ in range(count)), return_exceptions=True)
    return [each.reason if isinstance(each, Error) else str(each) for each in found]


@pytest.mark.parametrize(
    ("kind", "burst"), [(CallClass.READ, 2000), (CallClass.REPORT, 400), (CallClass.DRIVE, 2000), (CallClass.CHANGE, 200)]
)
async def test_calls_of_a_person_when_too_many_are_told_when_to_come_back(kind: CallClass, burst: int) -> None:
    clock = FakeClock()
    handler = Rates(LimitSettings(), clock.monotonic).wrap(method(kind), served)
    found = await outcomes(handler, FakeCall(person("anna")), burst + 5)
    assert (found.count("served"), found.count("RATE_LIMITED")) == (burst, 5)
    with pytest.raises(QuotaExceeded) as caught:
        await handler(FakeCall(person("anna"), "192.0.2.1"), None)  # type: ignore[arg-type]  # what is looked at of a call
    assert caught.value.retry_after is not None
    assert await outcomes(handler, FakeCall(person("bert")), 1) == ["served"]
    await clock.advance(caught.value.retry_after)
    assert await outcomes(handler, FakeCall(person("anna")), 2) == ["served", "RATE_LIMITED"]


async def test_classes_when_one_is_exhausted_leave_the_others_alone() -> None:
    rates = Rates(LimitSettings(changes_burst=1), FakeClock().monotonic)
    anna = FakeCall(person("anna"))
    assert await outcomes(rates.wrap(method(CallClass.CHANGE), served), anna, 2) == ["served", "RATE_LIMITED"]
    assert await outcomes(rates.wrap(method(CallClass.READ), served), anna, 2) == ["served", "served"]


async def test_services_when_busy_are_never_limited_and_agents_are() -> None:
    handler = Rates(LimitSettings(reports_burst=2), FakeClock().monotonic).wrap(method(CallClass.REPORT), served)
    assert set(await outcomes(handler, FakeCall(person("gpio", Role.SERVICE, "svc"), "192.0.2.1"), 500)) == {"served"}
    assert await outcomes(handler, FakeCall(person("n1", Role.AGENT, "node")), 3) == ["served", "served", "RATE_LIMITED"]
    assert await outcomes(handler, FakeCall(person("n2", Role.AGENT, "node")), 1) == ["served"]


async def test_strangers_when_too_many_are_limited_by_address_and_ipv6_by_network() -> None:
    handler = Rates(LimitSettings(reads_burst=1), FakeClock().monotonic).wrap(method(CallClass.READ), served)
    assert await outcomes(handler, FakeCall(address="2001:db8::1"), 1) == ["served"]
    assert await outcomes(handler, FakeCall(address="2001:db8::2"), 1) == ["RATE_LIMITED"]
    assert await outcomes(handler, FakeCall(address="2001:db8:0:1::2"), 1) == ["served"]
    assert await outcomes(handler, FakeCall(address="192.0.2.1"), 2) == ["served", "RATE_LIMITED"]
    assert await outcomes(handler, FakeCall(), 5) == ["served"] * 5


async def test_joins_when_right_are_limited_by_their_own_bucket_and_cost_no_failure() -> None:
    clock = FakeClock()
    handler = Rates(LimitSettings(), clock.monotonic).wrap(method(CallClass.JOIN), served)
    here = FakeCall(address="192.0.2.1")
    one_by_one = [(await outcomes(handler, here, 1))[0] for _ in range(12)]
    assert one_by_one == ["served"] * 10 + ["RATE_LIMITED"] * 2
    await clock.advance(1)
    assert await outcomes(handler, here, 2) == ["served", "RATE_LIMITED"]


async def test_joins_when_wrong_are_looked_at_once_a_second_whoever_claims_to_make_them() -> None:
    clock, looked = FakeClock(), 0

    async def look(call: Any, request: Any) -> str:
        nonlocal looked
        looked += 1
        await asyncio.sleep(0)
        raise Unauthenticated("wrong", reason="TOKEN_INVALID")

    handler = Rates(LimitSettings(), clock.monotonic).wrap(method(CallClass.JOIN), look)
    assert (await outcomes(handler, FakeCall(address="192.0.2.1"), 500)).count("TOKEN_INVALID") == looked == 5
    known = FakeCall(person("anna"), "192.0.2.1")
    assert await outcomes(handler, known, 50) == ["RATE_LIMITED"] * 50
    for _ in range(10):
        await clock.advance(1)
        await outcomes(handler, known, 50)
    assert looked == 15
    assert await outcomes(handler, FakeCall(address="192.0.2.2"), 1) == ["TOKEN_INVALID"]


async def test_refusals_when_too_many_become_a_request_to_wait_and_who_has_a_proof_is_not_touched() -> None:
    clock = FakeClock()
    refusals = Refusals(LimitSettings(refusals_burst=3), clock.monotonic)
    handler = refusals.wrap(method(CallClass.CHANGE), wrong)
    assert await outcomes(handler, FakeCall(address="192.0.2.1"), 5) == ["TOKEN_INVALID"] * 3 + ["RATE_LIMITED"] * 2
    assert await outcomes(refusals.wrap(method(CallClass.READ), served), FakeCall(address="192.0.2.1"), 5) == ["served"] * 5
    assert await outcomes(handler, FakeCall(person("anna"), "192.0.2.1"), 5) == ["TOKEN_INVALID"] * 5  # a stream's proof has ended
    assert await outcomes(handler, FakeCall(address="192.0.2.2"), 1) == ["TOKEN_INVALID"]


async def test_denials_when_too_many_become_a_request_to_wait_for_that_caller_only() -> None:
    async def denied(call: Any, request: Any) -> str:
        raise PermissionDenied("no", reason="ROLE_MISSING")

    handler = Refusals(LimitSettings(refusals_burst=3), FakeClock().monotonic).wrap(method(CallClass.CHANGE), denied)
    assert await outcomes(handler, FakeCall(person("anna"), "192.0.2.1"), 5) == ["ROLE_MISSING"] * 3 + ["RATE_LIMITED"] * 2
    assert await outcomes(handler, FakeCall(person("bert"), "192.0.2.1"), 1) == ["ROLE_MISSING"]
    assert await outcomes(handler, FakeCall(person("gpio", Role.SERVICE, "svc")), 9) == ["ROLE_MISSING"] * 9


async def test_log_when_callers_are_limited_tells_so_every_ten_seconds_only(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    handler = Rates(LimitSettings(reads_per_second=0.001, reads_burst=1), clock.monotonic).wrap(method(CallClass.READ), served)
    await outcomes(handler, FakeCall(person("anna")), 500)
    await clock.advance(11)
    await outcomes(handler, FakeCall(person("anna")), 1)
    assert [record.__dict__["calls"] for record in caplog.records if record.message == "callers are limited"] == [1, 499]


@pytest.mark.parametrize(
    "values",
    [
        {"reads_per_second": 0.0},
        {"changes_per_second": float("nan")},
        {"drives_burst": 0},
        {"streams": 0},
        {"connection_age_seconds": 0.5},
        {"connection_grace_seconds": 0.0},
    ],
)
def test_settings_when_they_cannot_be_right_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        LimitSettings(**values)
