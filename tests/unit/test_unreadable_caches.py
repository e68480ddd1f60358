"""A cache is needed by nothing: a folder that cannot be read keeps no daemon from starting."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from cctv_storaged.clipcache import ClipCache
from cctv_storaged.picturecache import PictureCache
from cctv_storaged.vms.readbackcache import ReadbackCache


class Opening(Protocol):
    """What the caches have in common."""

    async def open(self) -> None: ...


CACHES: dict[str, Callable[[Path], Opening]] = {
    "clips": lambda folder: ClipCache(folder, 2**20),
    "pictures": lambda folder: PictureCache(folder, 2**20),
    "footage read back": lambda folder: ReadbackCache(folder, 2**20, 0),
}


@pytest.mark.parametrize("kind", CACHES)
async def test_a_folder_that_cannot_be_read_is_told_and_taken_for_an_empty_one(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "cache"
    folder.symlink_to("cache")  # to itself
    await CACHES[kind](folder).open()
    assert "cannot be found" in caplog.text
    caplog.clear()
    await CACHES[kind](tmp_path / "none").open()
    assert not caplog.text
