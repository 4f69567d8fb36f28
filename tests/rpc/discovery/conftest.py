"""Discovery, running and not yet."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.rpc.discovery.world import World, opened


@pytest.fixture
async def quiet_world(tmp_path: Path) -> AsyncIterator[World]:
    """A world in which discovery does not run yet."""
    async with opened(tmp_path) as world:
        yield world


@pytest.fixture
async def world(quiet_world: World) -> AsyncIterator[World]:
    """A world in which discovery runs."""
    async with quiet_world.running():
        yield quiet_world
