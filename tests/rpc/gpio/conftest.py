"""A running GPIO manager with one Pi for each test that asks for it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.rpc.gpio.world import World, opened


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[World]:
    """A world with one Pi whose GPIO manager does not run yet."""
    async with opened(tmp_path) as world:
        world.add_pi()
        yield world


@pytest.fixture
async def world(idle: World) -> AsyncIterator[World]:
    """A world with one Pi whose GPIO manager runs."""
    async with idle.running():
        yield idle
