"""Where a Pi is told to join."""

import pytest

from picontroller.host import ports


@pytest.mark.parametrize(
    ("listen", "san", "wanted"),
    [
        ("127.0.0.1:8443", (), ""),
        ("localhost:8443", ("pi.example",), ""),
        ("[::1]:8443", (), ""),
        ("0.0.0.0:0", ("pi.example", "other.example"), "pi.example:8443"),
        ("[::]:0", ("2001:db8::1",), "[2001:db8::1]:8443"),
        ("192.0.2.7:0", (), "192.0.2.7:8443"),
        ("control.example:0", (), "control.example:8443"),
    ],
)
def test_join_address_when_a_pi_is_told_never_means_the_pi_itself(listen: str, san: tuple[str, ...], wanted: str) -> None:
    assert ports.outward(listen, 8443, san) == wanted
