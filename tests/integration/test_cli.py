"""The command line as people and scripts meet it, against a running control plane."""

import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.integration.plane import PICTL, Plane, embedded, wait_for

pytestmark = pytest.mark.timeout(180)
ESCAPE = "\x1b"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    with embedded(tmp_path_factory.mktemp("cli"), simulate=2) as running:
        running.ready_nodes(2)
        yield running


def environment(plane: Plane, **extra: str) -> dict[str, str]:
    return {**os.environ, "XDG_CONFIG_HOME": str(plane.config_home), **extra}


def test_context_when_up_has_run_needs_no_flags(plane: Plane) -> None:
    done = subprocess.run([PICTL, "node", "list"], capture_output=True, text=True, env=environment(plane), timeout=30, check=True)
    assert "pi-1" in done.stdout
    assert "pi-2" in done.stdout


def test_formats_when_chosen_are_what_programs_expect(plane: Plane) -> None:
    as_json = json.loads(plane.pictl("node", "list", "-o", "json").stdout)
    with plane.client() as client:
        by_rest = client.get("/api/v1/nodes").json()["nodes"]
    for node in [*as_json["nodes"], *by_rest]:
        node.pop("last_seen")
    assert as_json["nodes"] == by_rest
    lines = plane.pictl("-o", "jsonl", "node", "list").stdout.splitlines()
    assert {json.loads(line)["id"] for line in lines} == {node["id"] for node in by_rest}
    names = plane.pictl("node", "list", "--output", "name").stdout.split()
    assert names == [f"nodes/{node['id']}" for node in by_rest]
    assert plane.pictl("node", "get", "pi-1", "-o", "yaml").stdout.startswith('id: "')
    wide = plane.pictl("node", "list", "-o", "wide").stdout
    assert all(node["id"] in wide for node in by_rest)


def test_output_when_piped_has_no_escape_bytes_and_on_a_terminal_obeys_no_color(plane: Plane) -> None:
    assert ESCAPE not in plane.pictl("node", "list").stdout
    assert ESCAPE in on_a_terminal(plane, ["node", "list"])
    assert ESCAPE not in on_a_terminal(plane, ["node", "list"], NO_COLOR="1")


def on_a_terminal(plane: Plane, arguments: list[str], **extra: str) -> str:
    leader, follower = pty.openpty()
    try:
        environ = environment(plane, TERM="xterm", **extra)
        process = subprocess.Popen([PICTL, *arguments], stdout=follower, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environ)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
        os.set_blocking(leader, False)
        return os.read(leader, 65536).decode()
    finally:
        os.close(leader)
        os.close(follower)


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["node", "get", "nobody"], 3, "there is no node nobody"),
        (["gpio", "get", "nobody"], 3, "there is no resource nobody"),
        (["gpio", "write", "led"], 2, "pairs"),
        (["gpio", "create", "x", "--node", "pi-1", "--pin", "41"], 2, "bcm"),
        (["gpio", "create", "x", "--node", "pi-1", "--pin", "J8:6"], 2, "position 6 of the header is GND"),
        (["gpio", "create", "x", "--node", "pi-1", "--pin", "5", "--safe", "up"], 2, "--safe is one of low, high, input, hold"),
        (["gpio", "create", "X Y", "--node", "pi-1", "--pin", "5"], 2, "name"),
        (["token", "create", "--ttl", "soon"], 2, "10m"),
        (["token", "revoke", "nobody"], 3, "nobody"),
        (["node", "delete", "pi-1"], 2, "--yes"),
        (["no-such-verb"], 2, "No such command"),
        (["gpio", "list", "--watch"], 2, "pictl gpio watch"),
        (["token", "list", "-w"], 2, "pictl event tail"),
        (["node", "list", "--status", "happy"], 2, "ready"),
    ],
)
def test_mistake_when_made_has_its_status_and_says_what_to_do(plane: Plane, arguments: list[str], status: int, told: str) -> None:
    done = plane.pictl(*arguments, check=False)
    assert done.returncode == status, done
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_line_when_taken_is_a_conflict_with_the_next_step(plane: Plane) -> None:
    plane.pictl("gpio", "create", "fan", "--node", "pi-2", "--pin", "GPIO20", "--value", "low")
    done = plane.pictl("gpio", "create", "fan2", "--node", "pi-2", "--pin", "J8:38", check=False)
    assert done.returncode == 5
    assert "PIN_TAKEN" in done.stderr
    assert "Try: pictl gpio list" in done.stderr


def test_server_when_away_is_unreachable(plane: Plane) -> None:
    done = plane.pictl("--server", "127.0.0.1:1", "--timeout", "2", "node", "list", check=False)
    assert done.returncode == 6
    assert "Try: pictl doctor" in done.stderr


def test_caller_when_not_allowed_is_told_so(plane: Plane, tmp_path: Path) -> None:
    with plane.client() as client:
        made = client.post("/api/v1/api-tokens", json={"subject": "anna", "roles": ["MONITOR"]})
        assert made.status_code == 200, made.text
    token = tmp_path / "token"
    token.write_text(made.json()["token"])
    token.chmod(0o600)
    environ = environment(plane, PICTL_TOKEN_FILE=str(token))
    assert subprocess.run([PICTL, "node", "list"], env=environ, capture_output=True, timeout=30, check=False).returncode == 0
    refused = subprocess.run([PICTL, "token", "list"], env=environ, capture_output=True, text=True, timeout=30, check=False)
    assert refused.returncode == 4
    assert "ROLE_MISSING" in refused.stderr


def test_journey_when_typed_moves_a_pin_and_shows_it(plane: Plane) -> None:
    plane.pictl("gpio", "create", "lamp", "--node", "pi-1", "--pin", "GPIO16", "--value", "low")
    plane.pictl("gpio", "create", "pump", "--node", "pi-1", "--pin", "J8:40", "--value", "low")
    written = plane.pictl("gpio", "write", "lamp", "high", "default/pump", "high").stdout
    assert re.search(r"default/lamp\s+high", written)
    assert re.search(r"default/pump\s+high", written)
    assert re.search(r"default/lamp\s+high", plane.pictl("gpio", "read", "lamp").stdout)
    assert "high" in plane.pictl("gpio", "get", "lamp").stdout
    plane.pictl("gpio", "delete", "pump", "--yes")
    assert "pump" not in plane.pictl("gpio", "list").stdout


@pytest.mark.parametrize("verb", [["event", "tail", "--type", "gpio.*", "-o", "jsonl"], ["gpio", "watch", "-o", "jsonl"]])
def test_stream_when_interrupted_ends_with_130_and_showed_what_happened(plane: Plane, verb: list[str], tmp_path: Path) -> None:
    name = f"blink-{verb[0]}"
    pin = "GPIO12" if verb[0] == "event" else "GPIO13"
    plane.pictl("gpio", "create", name, "--node", "pi-1", "--pin", pin, "--value", "low")
    output = tmp_path / "out"
    with output.open("wb") as file:
        # A shell that runs this in its background has it ignore interrupts, and children inherit that.
        listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        process = subprocess.Popen([PICTL, *verb], stdout=file, stderr=subprocess.PIPE, env=environment(plane), preexec_fn=listen)

    def shown() -> list[dict[str, Any]]:
        plane.pictl("gpio", "write", name, "high")
        plane.pictl("gpio", "write", name, "low")
        return [json.loads(line) for line in output.read_text().splitlines() if name in line]

    try:
        wait_for("the stream shows the pin", shown)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
        assert process.returncode == 130, errors
        assert b"Traceback" not in errors
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_join_token_when_made_is_alone_on_standard_output_and_listed_without_its_secret(plane: Plane) -> None:
    made = plane.pictl("token", "create", "--ttl", "2m", "--description", "kitchen")
    token = made.stdout.strip()
    assert re.fullmatch(r"PC1\.[A-Z2-7]{52}\.[a-z0-9]+\.[A-Za-z0-9_-]{43}", token)
    assert "pictl join THIS_MACHINE:8443" in made.stderr
    token_id, secret = token.split(".")[2:]
    listed = plane.pictl("token", "list", "-o", "json").stdout
    assert token_id in listed
    assert secret not in listed
    plane.pictl("token", "revoke", token_id)


def test_doctor_when_all_is_well_says_so(plane: Plane) -> None:
    done = plane.pictl("doctor")
    assert "FAIL" not in done.stdout
    assert "service gpio is serving" in done.stdout
    verdicts = json.loads(plane.pictl("doctor", "-o", "json").stdout)
    assert {each["verdict"] for each in verdicts} <= {"OK", "WARN"}


def test_doctor_when_the_plane_is_away_fails_with_what_to_do(plane: Plane) -> None:
    done = plane.pictl("--server", "127.0.0.1:1", "--timeout", "2", "doctor", check=False)
    assert done.returncode == 1
    assert "FAIL" in done.stdout
    assert "Try:" in done.stdout


def test_help_when_asked_lists_every_verb_and_imports_no_service(plane: Plane) -> None:
    shown = plane.pictl("--help").stdout
    for verb in ("up", "serve", "agent", "join", "leave", "config", "node", "gpio", "event", "token", "context", "doctor", "version"):
        assert re.search(rf"\b{verb}\b", shown)
    for verb in ("up", "serve", "join", "leave", "config"):
        assert plane.pictl(verb, "--help").stdout.startswith(f"usage: pictl {verb}")
    probe = "import sys; sys.argv = ['pictl', 'version']\nfrom picontroller.gateway.cli.__main__ import main\n"
    probe += "try:\n    main()\nexcept SystemExit:\n    pass\nprint(sorted(sys.modules))"
    loaded = subprocess.run(
        [str(Path(PICTL).with_name("python")), "-c", probe], capture_output=True, text=True, timeout=30, check=True
    ).stdout
    for absent in ("picontroller.host", "picontroller.gpio", "picontroller.agent", "apsw", "starlette", "protovalidate"):
        assert f"'{absent}" not in loaded
    assert plane.pictl("version").stdout.startswith("pictl 0.")
