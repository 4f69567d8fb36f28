"""Buckets of calls: what they let pass, when, and what is forgotten when there are too many."""

import random

import pytest

from picontroller.core.rpc.interceptors.rates import Buckets, network_of


class Time:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_bucket_when_taken_from_at_once_holds_its_burst_and_tells_when_there_is_more() -> None:
    now = Time()
    buckets = Buckets(2.0, 3, now)
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a") == pytest.approx(0.5)
    now.seconds += 0.25
    assert buckets.take("a") == pytest.approx(0.25)
    now.seconds += 0.25
    assert buckets.take("a") == 0
    assert buckets.take("a") == pytest.approx(0.5)
    assert buckets.take("b") == 0


@pytest.mark.parametrize(("per_second", "burst"), [(1.0, 5), (500.0, 1000), (3.0, 20)])
def test_bucket_over_any_time_lets_pass_no_more_than_its_burst_and_what_came_back(per_second: float, burst: int) -> None:
    now, chance = Time(), random.Random(7)
    buckets = Buckets(per_second, burst, now)
    passed, started = 0, now.seconds
    for _ in range(20_000):
        now.seconds += chance.expovariate(per_second * 3)
        passed += not buckets.take("a")
    allowed = burst + (now.seconds - started) * per_second
    assert allowed * 0.95 - 2 < passed <= allowed + 1e-6


def test_call_when_given_back_does_not_count() -> None:
    buckets = Buckets(1.0, 2, Time())
    for _ in range(10):
        assert buckets.take("a") == 0
        buckets.give_back("a")
    assert [buckets.take("a") == 0 for _ in range(3)] == [True, True, False]


def test_buckets_when_too_many_forget_the_fullest_and_keep_the_exhausted() -> None:
    now = Time()
    buckets = Buckets(1.0, 10, now, most=1000)
    for _ in range(10):
        assert buckets.take("exhausted") == 0
    for number in range(50_000):  # a flood from ever new addresses, hoping that the one above is forgotten
        assert buckets.take(f"fresh {number}") == 0
        assert len(buckets) <= 1000
    assert buckets.take("exhausted") > 0
    now.seconds += 11
    assert buckets.take("another") == 0
    assert buckets.take("exhausted") == 0


def test_buckets_when_full_again_are_forgotten_all() -> None:
    now = Time()
    buckets = Buckets(1.0, 10, now, most=100)
    for number in range(100):
        buckets.take(str(number))
    now.seconds += 2
    buckets.take("new")
    assert len(buckets) == 1


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("", ""),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("rubbish:", "rubbish:"),
    ],
)
def test_network_of_an_address(address: str, network: str) -> None:
    assert network_of(address) == network
