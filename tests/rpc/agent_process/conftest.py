"""A control plane for agents to join, and one that has been joined."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from picontroller.agent import joining
from picontroller.core.clock import SystemClock
from tests.fakes.control_plane import FakeControlPlane, running_control_plane


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[FakeControlPlane]:
    """A control plane that nobody has joined."""
    async with running_control_plane(tmp_path) as plane:
        yield plane


@pytest.fixture
async def folder(plane: FakeControlPlane, tmp_path: Path) -> Path:
    """The folder of an agent that has joined ``plane``."""
    folder = tmp_path / "agent"
    await joining.join(plane.address, plane.token, folder, SystemClock())
    return folder
