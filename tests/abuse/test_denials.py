"""Many denials cost next to nothing."""

from tests.bench import denials


def test_abuse_110_ten_thousand_denials_cost_each_call_at_most_ten_microseconds() -> None:
    found = denials.measure(loops=5, runs=5)
    assert found["entries"] == denials.ENTRIES
    assert found["holds_us"] <= denials.AIM_US, found
    assert found["file_bytes"] < 2_000_000, found
    assert found["memory_bytes"] < 4_000_000, found
