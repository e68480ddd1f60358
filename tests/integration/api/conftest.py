"""A host with the embedded defaults and one allowed path besides its recorder root."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.integration.api.harness import Host, running


@pytest_asyncio.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    async with running(tmp_path, {"api": {"allowed_paths": [str(tmp_path / "handed-in")]}}) as started:
        yield started
