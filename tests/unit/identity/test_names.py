"""Further names of servers, and settings."""

import pytest

from picontroller.core import config
from picontroller.core.callers import SpiffeId
from picontroller.core.errors import InvalidArgument, PermissionDenied
from picontroller.identity import names
from picontroller.identity.settings import Settings

GATEWAY = SpiffeId("pi-controller.local", "gateway", "")
GPIO = SpiffeId("pi-controller.local", "svc", "gpio")


def test_names_when_checked_are_in_usual_form_without_those_everyone_has() -> None:
    asked = [
        "PI.Example.org",
        "localhost",
        "127.0.0.1",
        "::1",
        "0:0:0:0:0:0:0:1",
        "2001:DB8::1",
        "pi.example.org",
        "gateway.pi-controller.local",
    ]
    assert names.checked(GATEWAY, asked) == ("2001:db8::1", "pi.example.org")


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "*.example.org", "a/b", "http://x", "1.2.3.4.5", "fe80::1%eth0", "ä.example", "a" * 64, "a." * 127 + "ab"]
)
def test_names_when_they_are_none_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        names.checked(GATEWAY, [name])


def test_names_when_below_our_suffix_belong_to_their_identity_alone() -> None:
    assert names.checked(GPIO, ["gpio.pi-controller.local"]) == ()
    for name in ("gateway.pi-controller.local", "x.node.pi-controller.local", "EVENTS.PI-CONTROLLER.LOCAL"):
        with pytest.raises(PermissionDenied):
            names.checked(GPIO, [name])


def test_names_when_too_many_are_refused() -> None:
    with pytest.raises(InvalidArgument):
        names.checked(GATEWAY, [f"pi{number}.example.org" for number in range(65)])


@pytest.mark.parametrize("kind", ["node", "user"])
def test_names_when_neither_service_nor_gateway_asks_are_refused(kind: str) -> None:
    identity = SpiffeId("pi-controller.local", kind, "x")
    assert names.checked(identity, []) == ()
    with pytest.raises(PermissionDenied):
        names.checked(identity, ["pi.example.org"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("trust_domain", "Pi Controller"),
        ("trust_domain", "a" * 191),
        ("certificate_seconds", 9),
        ("certificate_seconds", 121 * 86400),
        ("join_token_seconds", 86401),
        ("local_members", ("gpio", "gardener")),
    ],
)
def test_settings_when_they_can_not_be_right_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        Settings(**{field: value})  # type: ignore[arg-type]  # wrong on purpose


def test_settings_when_documented_leave_nothing_out() -> None:
    assert set(config.documentation(Settings)) == set(Settings.__slots__)
