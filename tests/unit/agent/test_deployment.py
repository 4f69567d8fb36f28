"""The unit and the rules that we ship agree with the code."""

import re
import shlex
from pathlib import Path

from picontroller.agent.board import permissions
from picontroller.agent.settings import Settings

SYSTEMD = Path(__file__).parents[3] / "deploy/systemd"


def unit() -> dict[str, list[str]]:
    """Return the settings of the unit by name."""
    found: dict[str, list[str]] = {}
    for line in (SYSTEMD / "pi-agent.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_unit_starts_the_agent_in_its_folder() -> None:
    words = shlex.split(unit()["ExecStart"][0])
    assert words[1:] == ["-m", "picontroller.agent", "run", "--data-dir", "/var/lib/pi-controller/agent"]
    assert unit()["ConditionPathExists"] == ["/var/lib/pi-controller/agent/tls/identity.pem"]
    assert unit()["StateDirectory"] == ["pi-controller/agent"]


def test_unit_gives_the_agent_time_to_stop_and_restarts_it_always() -> None:
    assert int(unit()["TimeoutStopSec"][0]) > 2 * Settings().grace_seconds
    assert (unit()["Restart"], unit()["Type"]) == (["always"], ["notify"])
    assert int(unit()["WatchdogSec"][0]) >= 10


def test_unit_grants_the_groups_of_the_rules_and_no_capabilities() -> None:
    rules = (SYSTEMD / permissions.RULES).read_text()
    assert set(re.findall(r'GROUP="(\w+)"', rules)) == set(unit()["SupplementaryGroups"][0].split())
    assert unit()["CapabilityBoundingSet"] == [""]
    assert {value.split()[0] for value in unit()["DeviceAllow"]} == {"char-gpiochip", "char-i2c", "char-spi"}


def test_rules_cover_each_kind_of_device_that_permission_problems_name() -> None:
    rules = (SYSTEMD / permissions.RULES).read_text()
    for subsystem in ("gpio", "i2c-dev", "spidev"):
        assert re.search(rf'^SUBSYSTEM=="{subsystem}".*MODE="0660"$', rules, re.MULTILINE), subsystem
    assert 'SUBSYSTEM=="pwm*"' in rules
