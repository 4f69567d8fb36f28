"""Settings, addresses and tokens as people write them."""

import io
import os
from pathlib import Path

import pytest

from picontroller.agent import addresses, supervision
from picontroller.agent.admission import tokens
from picontroller.agent.admission.roots import join_address, split_address
from picontroller.agent.board import simulated
from picontroller.agent.board.simulated import SimulatedMetrics
from picontroller.agent.gpio.drivers.simulation import MODELS, Simulation
from picontroller.agent.settings import SIMULATED_MODELS, Settings
from picontroller.core import config
from picontroller.core.config import ConfigurationError
from picontroller.core.errors import FailedPrecondition, InvalidArgument
from picontroller.core.logs import LogSettings
from tests.fakes.clock import FakeClock


@pytest.mark.parametrize(
    "wrong",
    [
        {"listen": "7450"},
        {"listen": "host:99999"},
        {"advertise": "10.0.0.1:0"},
        {"advertise": "unix:/x"},
        {"report_seconds": 15.0},
        {"report_seconds": 0.0},
        {"grace_seconds": -1.0},
        {"simulated_life_seconds": 0.0},
        {"chip": "gpiochip0"},
        {"chip": "0"},
        {"chip": "/dev/gpiochip4"},
        {"metrics": "0.0.0.0:9100"},
        {"metrics": "127.0.0.1:65536"},
        {"simulated_model": "Raspberry Pi 9"},
        {"simulated_model": ""},
        {"simulated_model": "Raspberry Pi"},
    ],
)
def test_settings_when_they_cannot_be_right_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings(**wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_simulated_models_when_the_settings_allow_them_are_those_of_boards_and_drivers() -> None:
    for model in SIMULATED_MODELS:
        settings = Settings(simulated_model=model)
        assert simulated.board_like(settings.simulated_model).simulated
        assert Simulation(model=settings.simulated_model).chips()
    assert {board.model.partition(" Rev")[0] for board in simulated.BOARDS} <= set(SIMULATED_MODELS)
    assert all(any(model.startswith(known) for model in SIMULATED_MODELS) for known in MODELS)


def test_settings_when_read_from_file_and_environment_are_all_documented(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[agent]\nlisten = "[::1]:7450"\nbackend = "sim"\n[log]\nlevel = "DEBUG"\n')
    sections = {"agent": Settings, "log": LogSettings}
    read = config.load(sections, tmp_path / "c.toml", {"PICONTROLLER_AGENT__ROOT": "/host"})
    assert read["agent"] == Settings(listen="[::1]:7450", backend="sim", root=Path("/host"))
    for kind in sections.values():
        assert set(config.documentation(kind)) == set(kind.__slots__)  # type: ignore[attr-defined]  # slotted dataclasses


def test_settings_when_a_key_is_wrong_name_it(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[agent]\nlisen = "x:1"\n')
    with pytest.raises(ConfigurationError, match="did you mean listen"):
        config.load({"agent": Settings}, tmp_path / "c.toml", {})


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("10.0.0.1:8443", "10.0.0.1", 8443),
        ("10.0.0.1", "10.0.0.1", 8443),
        ("https://pi.lan:1234/", "pi.lan", 1234),
        ("[fe80::1]:99", "fe80::1", 99),
        ("[fe80::1]", "fe80::1", 8443),
        (" pi.lan ", "pi.lan", 8443),
    ],
)
def test_address_when_right_is_split(text: str, host: str, port: int) -> None:
    assert split_address(text) == (host, port)
    assert split_address(join_address(host, port)) == (host, port)


@pytest.mark.parametrize("text", ["", ":8443", "a:b", "a:0", "a:65536", "fe80::1", "http://a:1", "a/b:1", "user@a:1", "a b:1", "ä:1"])
def test_address_when_wrong_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="HOST:PORT"):
        split_address(text)


@pytest.mark.parametrize(
    ("advertise", "bound", "said"),
    [
        (None, "0.0.0.0:7450", "10.0.0.2:7450"),
        (None, "[::]:7450", "10.0.0.2:7450"),
        (None, "127.0.0.1:99", "127.0.0.1:99"),
        (None, "[fe80::2]:99", "[fe80::2]:99"),
        ("pi.example.com:1", "0.0.0.0:7450", "pi.example.com:1"),
    ],
)
def test_agent_address_is_what_others_can_dial(advertise: str | None, bound: str, said: str) -> None:
    assert addresses.agent_address(advertise, bound, "10.0.0.2") == said


@pytest.mark.parametrize(
    ("name", "shown"), [("pi-1.lan", "pi-1.lan"), ("my pi_2!", "my-pi-2"), ("---", "raspberrypi"), ("ß" * 300, "raspberrypi")]
)
def test_hostname_when_odd_is_made_one(name: str, shown: str) -> None:
    assert addresses.hostname(name) == shown


def test_token_when_in_a_file_is_read_without_its_newline(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"PC1.x.y.z\r\n")
    assert tokens.read_token(str(tmp_path / "token")) == "PC1.x.y.z"


def test_token_when_on_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"PC1.x.y.z\n")))
    assert tokens.read_token("-") == "PC1.x.y.z"


def test_token_when_the_file_is_missing_empty_or_huge_says_so(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="can't be read"):
        tokens.read_token(str(tmp_path / "missing"))
    (tmp_path / "empty").write_bytes(b" \n")
    with pytest.raises(InvalidArgument, match="is empty"):
        tokens.read_token(str(tmp_path / "empty"))
    (tmp_path / "huge").write_bytes(b"x" * 1_000_000)
    with pytest.raises(InvalidArgument, match="too large"):
        tokens.read_token(str(tmp_path / "huge"))


@pytest.mark.parametrize(
    ("command", "clean"),
    [
        (["python", "pictl", "join", "a:1", "--token", "s3cret"], ["python", "pictl", "join", "a:1", "--token-file", "/f"]),
        (["python", "-m", "x", "join", "--token=s3cret", "a"], ["python", "-m", "x", "join", "--token-file", "/f", "a"]),
        (["python", "-m", "x", "join", "a"], None),
    ],
)
def test_command_line_when_it_has_a_token_is_scrubbed(command: list[str], clean: list[str] | None) -> None:
    assert tokens.scrubbed(command, "/f") == clean


def test_simulated_boards_are_those_that_the_driver_can_simulate() -> None:
    for number in range(8):
        board = simulated.board(number)
        assert board.simulated
        assert Simulation(model=board.model).chips()
        assert simulated.board_like(board.model.partition(" Rev")[0]) == board
    assert len({simulated.board(number).model for number in range(8)}) == 4
    with pytest.raises(ValueError, match="known are Raspberry Pi 4"):
        simulated.board_like("Commodore 64")


async def test_simulated_sensors_drift_slowly_and_differ() -> None:
    clock = FakeClock()
    one = SimulatedMetrics(clock, simulated.board(0), "node-1")
    other = SimulatedMetrics(clock, simulated.board(0), "node-2")
    temperatures = []
    for _ in range(600):
        sample = one.sample()
        assert sample.temperature is not None
        assert sample.cpu_usage is not None
        assert 0 <= sample.cpu_usage <= 40
        temperatures.append(sample.temperature)
        await clock.advance(1)
    assert all(30 < celsius < 65 for celsius in temperatures)
    assert max(abs(a - b) for a, b in zip(temperatures, temperatures[1:], strict=False)) < 1.0
    assert max(temperatures) - min(temperatures) > 1.0
    assert one.sample().interfaces[0].mac_address != other.sample().interfaces[0].mac_address
    assert one.sample().uptime is not None


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [("", "", None), ("0", "", None), ("x", "", None), ("10000000", "", 10.0), ("10000000", "1", None), ("3000000", "ours", 3.0)],
)
def test_watchdog_when_asked_for_is_heeded(usec: str, pid: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "ours" else pid)
    assert supervision.watchdog_seconds() == seconds
