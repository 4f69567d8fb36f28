"""A clock that is not set is noticed, said, and waited for; one that was set is believed."""

import asyncio
import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from picontroller.agent.timekeeping import RELEASED, SLACK, Timekeeper
from tests.fakes.clock import START, FakeClock
from tests.unit.agent.trees import write

NEW_YEAR_1970 = datetime(1970, 1, 1, 0, 0, 12, tzinfo=UTC)


def test_clock_when_set_is_no_problem(tmp_path: Path) -> None:
    keeper = Timekeeper(FakeClock(), tmp_path, root=tmp_path)
    assert keeper.behind() is None
    assert keeper.problems() == ()


def test_abuse_107_clock_of_1970_is_unsynced(tmp_path: Path) -> None:
    keeper = Timekeeper(FakeClock(NEW_YEAR_1970), tmp_path, root=tmp_path)
    assert keeper.behind() == RELEASED - NEW_YEAR_1970
    assert keeper.problems()[0].startswith("CLOCK_UNSYNCED: the clock says 1970-01-01 00:00 UTC")


def test_clock_when_before_the_certificate_begins_is_unsynced(tmp_path: Path) -> None:
    begin = START + timedelta(days=3)
    assert Timekeeper(FakeClock(), tmp_path, lambda: begin, tmp_path).behind() == timedelta(days=3)
    assert Timekeeper(FakeClock(), tmp_path, lambda: START + SLACK, tmp_path).behind() is None


def test_clock_when_before_a_file_of_ours_is_unsynced(tmp_path: Path) -> None:
    write(tmp_path / "join.json", b"{}")
    late = (START + timedelta(days=20)).timestamp()
    os.utime(tmp_path / "join.json", (late, late))
    assert Timekeeper(FakeClock(), tmp_path, root=tmp_path).behind() == timedelta(days=20)


def test_clock_when_network_time_set_it_is_believed_over_files_from_the_future(tmp_path: Path) -> None:
    write(tmp_path / "last-seen", b"")
    late = (START + timedelta(days=9000)).timestamp()
    os.utime(tmp_path / "last-seen", (late, late))
    write(tmp_path / "run/systemd/timesync/synchronized", b"")
    assert Timekeeper(FakeClock(), tmp_path, root=tmp_path).behind() is None


def test_last_seen_when_written_down_bounds_the_next_start(tmp_path: Path) -> None:
    Timekeeper(FakeClock(), tmp_path, root=tmp_path).write_down()
    next_start = FakeClock(START - timedelta(days=2))
    assert Timekeeper(next_start, tmp_path, root=tmp_path).behind() == timedelta(days=2)


def test_last_seen_when_the_folder_is_gone_costs_nothing(tmp_path: Path) -> None:
    keeper = Timekeeper(FakeClock(), tmp_path / "gone", root=tmp_path)
    keeper.write_down()
    assert keeper.behind() is None


async def test_wait_when_the_clock_is_set_ends_and_says_so_once_a_minute(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = FakeClock(NEW_YEAR_1970)
    keeper = Timekeeper(clock, tmp_path, root=tmp_path)
    waiting = asyncio.create_task(keeper.until_right())
    await clock.until_sleeping()
    await clock.advance(150)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    assert all(record.getMessage().startswith("CLOCK_UNSYNCED") for record in caplog.records)
    assert not waiting.done()
    clock.jump((START - NEW_YEAR_1970).total_seconds())
    await clock.advance(2)
    await asyncio.wait_for(waiting, 1)
    assert caplog.records[-1].getMessage() == "the clock was set"


async def test_remembering_while_unsynced_writes_nothing(tmp_path: Path) -> None:
    clock = FakeClock(NEW_YEAR_1970)
    remembering = asyncio.create_task(Timekeeper(clock, tmp_path, root=tmp_path).remember())
    await clock.until_sleeping()
    await clock.advance(30)
    assert not (tmp_path / "last-seen").exists()
    clock.jump((START - NEW_YEAR_1970).total_seconds())
    await clock.advance(2)
    assert (tmp_path / "last-seen").exists()
    remembering.cancel()
