"""Who may read the journal's files: its own user and group, whatever the umask of who started the daemon."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.journal.samples import new, open_journal, record


@pytest.fixture(autouse=True)
def everything_is_for_everybody() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def open_to_others(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.stat().st_mode & 0o007]


async def test_nobody_else_reads_a_new_journal_or_its_log(tmp_path: Path) -> None:
    async with await open_journal(tmp_path / "data") as journal:
        await record(journal, new(0))
        assert (tmp_path / "data" / "journal.db-wal").exists()
        assert open_to_others(tmp_path / "data") == []


@pytest.mark.parametrize("header", [b"", b"no journal"], ids=["whole", "not recognised"])
async def test_nobody_else_reads_what_is_made_of_a_damaged_one(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "journal.db"
    async with await open_journal(tmp_path) as journal:
        await record(journal, new(0))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 4096)
        file.write(header)
    async with await open_journal(tmp_path):
        assert len(list(tmp_path.glob("journal.db*"))) > 2, "the damaged one is kept"
        assert open_to_others(tmp_path) == []
