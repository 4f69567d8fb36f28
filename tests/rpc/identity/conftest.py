"""A running world for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from picontroller.identity.settings import Settings
from tests.rpc.identity.world import World, running


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path, Settings(), ("192.0.2.7", "pi.example.org", "0.0.0.0")) as made:
        yield made
