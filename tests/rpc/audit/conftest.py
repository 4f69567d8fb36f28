"""A running ledger for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.ledger import Ledger, ledger_service


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with ledger_service(tmp_path) as made:
        yield made
