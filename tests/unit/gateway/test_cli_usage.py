"""Wrong usage of the command line is found before anybody is called: exit status 2, and what would be right."""

import pytest
from typer.testing import CliRunner

from picontroller.gateway.cli.app import complete


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["cert", "revoke"], "serial number or --identity"),
        (["cert", "revoke", "abc", "--identity", "/user/anna"], "one of them"),
        (["cert", "revoke", "abc", "--may-return"], "--may-return goes with --identity"),
        (["cert", "list", "--state", "new"], "good, expired, revoked"),
        (["cert", "rotate-ca", "--force"], "--force goes with --step"),
        (["cert", "rotate-ca", "--step", "next"], "prepare, activate, retire, finish, abandon"),
        (["cert", "rotate-ca"], "pictl cert rotate-ca --yes"),
        (["cert", "rotate-ca", "--step", "finish", "--force"], "pictl cert rotate-ca --step finish --force --yes"),
        (["token", "create", "--api", "--subject", "anna"], "--role"),
        (["token", "create", "--api", "--role", "monitor"], "--subject"),
        (["token", "create", "--api", "--subject", "anna", "--role", "root"], "cluster-admin, gpio-operator, monitor"),
        (["token", "create", "--api", "--subject", "anna", "--role", "monitor", "--node", "x"], "--node"),
        (["token", "create", "--subject", "anna"], "add --api"),
    ],
)
def test_usage_when_wrong_ends_with_2_and_says_what_is_right(arguments: list[str], told: str) -> None:
    done = CliRunner().invoke(complete(arguments), arguments, env={"TERMINAL_WIDTH": "200"})
    assert done.exit_code == 2, done.output
    assert told in " ".join(done.output.replace("│", " ").split())
