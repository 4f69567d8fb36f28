"""One gateway for each module of these tests: Envoy takes a fifth of a second to start."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.fakes.edge import EdgeWorld, edge_world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EdgeWorld]:
    async with edge_world(tmp_path_factory.mktemp("edge")) as running:
        yield running
