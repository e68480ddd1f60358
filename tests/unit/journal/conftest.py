"""An open journal of its own for every test that asks for one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cctv_storaged.journal.journal import Journal
from tests.unit.journal.samples import open_journal


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with await open_journal(tmp_path / "data") as opened:
        yield opened
