"""What the manager's file does that no call shows at once."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from picontroller.gpio import resources
from picontroller.gpio.boards import Position
from picontroller.gpio.following import Sighting
from picontroller.gpio.reconciling import NO_REQUEST
from picontroller.gpio.resources import Epoch, Level, Mode, Observation, Pin, Resource, Stage, Wish
from picontroller.gpio.store import ResourceStore

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ResourceStore]:
    store = await ResourceStore.open(tmp_path)
    await store.begin()
    yield store
    await store.database.close()


def draft(name: str = "led", bcm: int = 17) -> Resource:
    return resources.new_resource(Wish(name, "", "pi", Pin("bcm", str(bcm)), Mode.OUTPUT), bcm, NOW)


async def kept(store: ResourceStore) -> Resource:
    made = replace(await store.reserve(draft()), stage=Stage.READY, observed=Observation(Level.LOW, NOW))
    await store.keep(made, None, NO_REQUEST, moved=True)
    return made


async def test_line_when_taken_again_is_no_more_to_be_released(store: ResourceStore) -> None:
    first = await store.reserve(draft())
    await store.abandon(first, release=True)
    assert [(pending.bcm, pending.epoch) for pending in await store.pending("pi")] == [(17, Epoch(1, 1))]
    await store.reserve(draft("heir"))
    assert await store.pending("pi") == []


async def test_epochs_when_the_manager_starts_again_rise(store: ResourceStore) -> None:
    first = await store.next_epoch()
    await store.begin()
    assert await store.next_epoch() > first


@pytest.mark.parametrize(("seconds", "level"), [(1, Level.HIGH), (0, Level.HIGH), (-1, Level.LOW), (-60, Level.HIGH)])
async def test_observation_when_late_is_passed_over_unless_the_clock_was_set_back(
    store: ResourceStore, seconds: float, level: Level
) -> None:
    made = await kept(store)
    seen = Sighting(made.id, Observation(Level.HIGH, NOW + timedelta(seconds=seconds)), None)
    await store.take("pi", Position("run", 2), [seen], [])
    found = (await store.some([made.id]))[made.id].observed
    assert found is not None
    assert found.level is level


async def test_resource_when_only_settings_change_keeps_what_events_said_meanwhile(store: ResourceStore) -> None:
    before = await kept(store)
    await store.take("pi", Position("run", 2), [Sighting(before.id, Observation(Level.HIGH, NOW), applied=True)], [])
    await store.keep(replace(before, restore=resources.Restore.DESIRED), None, NO_REQUEST, moved=False)
    found = (await store.some([before.id]))[before.id]
    assert (found.applied, found.restore) == (True, resources.Restore.DESIRED)


async def test_reservation_when_not_ready_is_shown_to_nobody(store: ResourceStore) -> None:
    reserved = await store.reserve(draft())
    assert await store.some([reserved.id]) == {}
    assert await store.page(10, "", "", "") == ([], "")
    assert await store.nodes_in_use() == {"pi"}
