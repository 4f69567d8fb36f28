"""Starting, stopping, starting again, and starting wrongly."""

import json
import os
import signal
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.integration.plane import PICTL, embedded, wait_for

pytestmark = pytest.mark.timeout(180)
CANARY = "canary-8c1f3e"


def run(*arguments: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_CONFIG_HOME": "/nonexistent", **(environ or {})}
    return subprocess.run([PICTL, *arguments], capture_output=True, text=True, env=environment, timeout=60, check=False)


def test_second_run_when_started_on_the_same_folder_resumes_the_same_state(tmp_path: Path) -> None:
    with embedded(tmp_path, simulate=1) as plane:
        node = plane.ready_nodes(1)[0]
        body = {"name": "kept", "node_id": node["id"], "pin": {"bcm": 17}, "mode": "OUTPUT", "value": "HIGH", "restore": "DESIRED"}
        with plane.client() as client:
            made = client.post("/api/v1/gpio", json=body)
            assert made.status_code == 200, made.text
        before = (plane.admin / "ca.pem").read_bytes()
    restarted = datetime.now(UTC)
    with embedded(tmp_path, simulate=1) as plane:
        assert (plane.admin / "ca.pem").read_bytes() == before
        assert [each["id"] for each in plane.ready_nodes(1)] == [node["id"]]
        wait_for("the node reports to the new address", lambda: datetime.fromisoformat(plane.nodes()[0]["last_seen"]) > restarted)
        with plane.client() as client:

            def observed() -> dict[str, object]:
                found: dict[str, object] = client.get(f"/api/v1/gpio/{made.json()['id']}").json().get("observed", {})
                return found

            def applied() -> bool:
                now = observed()
                return now.get("value") == "HIGH" and now.get("stale") is False

            wait_for("the wanted level is applied again", applied)


def test_up_when_interrupted_ends_with_0_and_leaves_no_process(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    command = [PICTL, "up", "--data-dir", str(tmp_path / "data"), "--listen", "127.0.0.1:0", "--ready-file", str(ready)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}
    )
    try:
        wait_for("ready", ready.exists)
        from tests.integration.plane import descendants

        family = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert b"pictl node list" in output
        assert all(not Path(f"/proc/{pid}").exists() for pid in family)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("text", "place", "told"),
    [
        ("[gpio]\nleese = 1\n", "[gpio] leese", "unknown setting"),
        ("[gpoi]\n", "[gpoi]", "did you mean gpio"),
        ("[log]\nlevel = 3\n", "[log] level", "must be one of"),
        ("[log]\nlevel = \"INFO\"\nlevel = \"INFO\"\n", "config.toml", "is not TOML"),
        ("[log\n", "config.toml", "is not TOML"),
        ("\ufeff[log]\n", "config.toml", "is not TOML"),
        ("[mesh]\nmetrics = \"0.0.0.0:9000\"\n", "MeshSettings", "loopback"),
        ("[mesh]\nmetrics = \"127.0.0.1:65536\"\n", "metrics", "HOST:PORT"),
        ("[mesh]\ngpio = \"gpio.example\"\n", "gpio", "HOST:PORT"),
        ("[gateway]\nenvoy_file = \"/nonexistent/envoy\"\n", "envoy_file", "/nonexistent/envoy"),
    ],
)  # fmt: skip
def test_abuse_94_broken_configuration_is_told_with_its_place_and_starts_nothing(tmp_path: Path, text: str, place: str, told: str) -> None:
    config, data = tmp_path / "config.toml", tmp_path / "data"
    config.write_text(text)
    for verb in (["up", "--data-dir", str(data)], ["serve", "events", "--data-dir", str(data)], ["config", "check"]):
        done = run(*verb, "--config", str(config))
        assert done.returncode == 2, done
        assert place in done.stderr
        assert told in done.stderr
        assert "Traceback" not in done.stderr
    assert not data.exists()


def test_abuse_94_empty_configuration_is_all_defaults(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("")
    assert run("config", "check", "--config", str(config)).returncode == 0


def test_abuse_96_taken_port_is_one_line_and_nothing_is_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("up", "--data-dir", str(tmp_path / "data"), "--listen", address)
    assert done.returncode == 5
    assert address in done.stderr
    assert "--listen" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("verb", [["up"], ["serve", "identity"], ["serve", "gateway"]])
@pytest.mark.parametrize("which", ["listen", "metrics"])
def test_abuse_96_port_that_is_taken_is_one_line_with_the_next_step_for_every_verb(tmp_path: Path, verb: list[str], which: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        listen, environ = (address, {}) if which == "listen" else ("127.0.0.1:0", {"PICONTROLLER_MESH__METRICS": address})
        done = run(*verb, "--data-dir", str(tmp_path / "data"), "--listen", listen, environ=environ)
    assert done.returncode == 5, done.stderr
    assert address in done.stderr
    assert ("--listen" if which == "listen" else "[mesh]") in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_abuse_96_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = run("up", "--data-dir", str(blocked / "data"), "--listen", "127.0.0.1:0")
    assert done.returncode == 5
    assert "--data-dir" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_abuse_96_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    done = run("up", "--data-dir", str(tmp_path), "--listen", "127.0.0.1:0")
    assert done.returncode == 5
    assert "holds something else" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_abuse_95_key_that_others_can_read_keeps_the_plane_from_starting(tmp_path: Path) -> None:
    with embedded(tmp_path):
        pass
    key = tmp_path / "data" / "events" / "tls" / "identity.pem"
    key.chmod(0o644)
    done = run("up", "--data-dir", str(tmp_path / "data"), "--listen", "127.0.0.1:0")
    assert done.returncode == 5
    assert f"chmod 600 {key}" in done.stderr


def test_abuse_97_sighup_with_a_broken_file_keeps_the_old_and_says_so(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[log]\nlevel = "INFO"\n')
    with embedded(tmp_path / "plane", arguments=("--config", str(config))) as plane:
        config.write_text("[log]\nlevle = 1\n")
        os.kill(plane.pids["up"], signal.SIGHUP)
        with plane.client() as client:

            def told(kind: str) -> list[dict[str, object]]:
                events = client.get("/api/v1/events", params={"filter.type": kind}).json()["events"]
                return [event["data"] for event in events]

            mistakes = wait_for("the refusal is an event", lambda: told("config.rejected"))
            assert "levle" in json.dumps(mistakes)
            assert client.get("/api/v1/nodes").status_code == 200
            config.write_text('[log]\nlevel = "WARNING"\n[events]\nmax_age_days = 3\n')
            os.kill(plane.pids["up"], signal.SIGHUP)
            assert wait_for("the reload is an event", lambda: told("config.reloaded"))[-1] == {"restart_needed_for": ["events"]}


def test_abuse_98_secrets_in_the_environment_are_not_shown(tmp_path: Path) -> None:
    secret = {"PICONTROLLER_IDENTITY__PASSWORD": CANARY, "PICTL_TOKEN": CANARY}
    for verb in (["config", "show"], ["config", "check"], ["up", "--data-dir", str(tmp_path / "data")]):
        done = run(*verb, environ=secret)
        assert CANARY not in done.stdout + done.stderr
        assert "PICONTROLLER_IDENTITY__PASSWORD" in done.stderr
    shown = run("config", "show", environ={"PICTL_TOKEN": CANARY})
    assert shown.returncode == 0
    assert CANARY not in shown.stdout


def test_default_configuration_when_written_out_is_good_and_documented(tmp_path: Path) -> None:
    printed = run("config", "default")
    assert printed.returncode == 0
    config = tmp_path / "config.toml"
    config.write_text(printed.stdout)
    assert run("config", "check", "--config", str(config)).returncode == 0
    settings = [line for line in printed.stdout.splitlines() if " = " in line and not line.startswith("#")]
    assert len(settings) > 15
