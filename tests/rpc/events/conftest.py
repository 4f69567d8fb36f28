"""A bus for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.rpc.events.hosting import Bus, Stub


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Bus]:
    """Return a bus that does not run yet."""
    bus = Bus(tmp_path)
    yield bus
    await bus.close()


@pytest.fixture
async def stub(bus: Bus) -> AsyncIterator[Stub]:
    """Return a publishing service's view of a bus that runs."""
    async with bus.running():
        yield bus.stub()
