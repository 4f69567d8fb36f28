"""Samples of machines in files: what is there is counted right, what is not there stays absent."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from picontroller.agent.board.metrics import Interface, SystemMetrics
from tests.fakes.clock import FakeClock
from tests.unit.agent.trees import write


def stat(root: Path, user: int, idle: int, *, iowait: int = 0, guest: int = 0) -> None:
    write(root / "proc/stat", f"cpu  {user} 0 0 {idle} {iowait} 0 0 0 {guest} 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n".encode())


def interface(root: Path, name: str, *, received: int = 1, sent: int = 2, speed: str = "1000") -> None:
    folder = root / "sys/class/net" / name
    write(folder / "address", b"b8:27:eb:00:00:01\n")
    write(folder / "statistics/rx_bytes", f"{received}\n".encode())
    write(folder / "statistics/tx_bytes", f"{sent}\n".encode())
    write(folder / "speed", f"{speed}\n".encode())


def test_sample_when_the_machine_offers_nothing_is_empty(tmp_path: Path) -> None:
    sample = SystemMetrics(FakeClock(), tmp_path).sample()
    assert (sample.cpu_usage, sample.memory_usage, sample.temperature, sample.uptime) == (None, None, None, None)
    assert (sample.interfaces, sample.load, sample.memory_bytes) == ((), (), 0)
    assert sample.disk_usage is not None  # the folder is on some file system


def test_cpu_usage_counts_since_the_sample_before(tmp_path: Path) -> None:
    metrics = SystemMetrics(FakeClock(), tmp_path)
    stat(tmp_path, user=100, idle=900)
    assert metrics.sample().cpu_usage == pytest.approx(10.0)
    stat(tmp_path, user=175, idle=925, guest=50)
    assert metrics.sample().cpu_usage == pytest.approx(75.0)
    stat(tmp_path, user=175, idle=925, iowait=100, guest=50)
    assert metrics.sample().cpu_usage == pytest.approx(0.0)


def test_cpu_usage_when_no_tick_has_passed_is_that_of_before(tmp_path: Path) -> None:
    metrics = SystemMetrics(FakeClock(), tmp_path)
    stat(tmp_path, user=1, idle=1)
    assert [metrics.sample().cpu_usage, metrics.sample().cpu_usage] == [50.0, 50.0]


def test_memory_usage_counts_what_is_not_available(tmp_path: Path) -> None:
    write(tmp_path / "proc/meminfo", b"MemTotal:        1000 kB\nMemFree:          10 kB\nMemAvailable:    250 kB\nHugePages_Total:  0\n")
    sample = SystemMetrics(FakeClock(), tmp_path).sample()
    assert (sample.memory_usage, sample.memory_bytes) == (75.0, 1_024_000)


@pytest.mark.parametrize(("text", "celsius"), [("25178", 25.178), ("-5000", -5.0), ("-273000", None), ("127999", None), ("broken", None)])
def test_temperature_when_the_zone_says_nonsense_is_absent(text: str, celsius: float | None, tmp_path: Path) -> None:
    write(tmp_path / "sys/class/thermal/thermal_zone0/type", b"battery\n")
    write(tmp_path / "sys/class/thermal/thermal_zone0/temp", b"30000\n")
    write(tmp_path / "sys/class/thermal/thermal_zone1/type", b"cpu-thermal\n")
    write(tmp_path / "sys/class/thermal/thermal_zone1/temp", text.encode())
    assert SystemMetrics(FakeClock(), tmp_path).sample().temperature == celsius


def test_interfaces_leave_out_the_loopback_and_say_0_for_an_unknown_speed(tmp_path: Path) -> None:
    interface(tmp_path, "lo")
    interface(tmp_path, "eth0", received=10, sent=20, speed="-1")
    interface(tmp_path, "wlan0", speed="")
    mac = "b8:27:eb:00:00:01"
    assert SystemMetrics(FakeClock(), tmp_path).sample().interfaces == (
        Interface("eth0", mac, 10, 20, 0),
        Interface("wlan0", mac, 1, 2, 0),
    )


def test_uptime_and_load_are_read(tmp_path: Path) -> None:
    write(tmp_path / "proc/uptime", b"3601.50 7000.00\n")
    write(tmp_path / "proc/loadavg", b"0.52 0.40 0.31 1/200 4242\n")
    sample = SystemMetrics(FakeClock(), tmp_path).sample()
    assert (sample.uptime, sample.load) == (timedelta(seconds=3601.5), (0.52, 0.4, 0.31))


def test_disk_usage_is_as_df_has_it(tmp_path: Path) -> None:
    usage = SystemMetrics(FakeClock(), tmp_path).sample().disk_usage
    status = os.statvfs(tmp_path)
    used = status.f_blocks - status.f_bfree
    assert usage == pytest.approx(100 * used / (used + status.f_bavail), abs=1.0)


def test_sample_of_this_machine_is_plausible() -> None:
    sample = SystemMetrics(FakeClock()).sample()
    assert sample.cpu_usage is not None
    assert 0 <= sample.cpu_usage <= 100
    assert sample.memory_bytes > 2**26
    assert sample.uptime is not None
    assert len(sample.load) == 3
