"""Torn and damaged journals (T-18): the next start works, keeps the damaged files, saves what can be read."""

import asyncio
import errno
import os
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

from cctv_storaged.errors import JournalBroken
from cctv_storaged.journal import opening as opening_module
from cctv_storaged.journal import store as store_module
from cctv_storaged.journal.connection import PAGE_BYTES
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.opening import Opening
from cctv_storaged.journal.salvage import Note, recover
from cctv_storaged.journal.tokens import Token
from cctv_storaged.model import CopyState, SourceState
from tests.faults.journal_processes import ids
from tests.unit.journal.samples import ALWAYS, GATE, NOW, YARD, deliver, new, open_journal, proof, record

SEGMENTS = 5000
IN_LOG = 40
"""Of these commits in the log, each of one segment, so that damage has something to stand in front of."""
FILES = ("journal.db", "journal.db-wal")


@dataclass(frozen=True)
class Past:
    """What a journal knew when its process was killed."""

    folder: Path
    known: frozenset[UUID]

    def left_in(self, folder: Path) -> Path:
        """The files as they were left, in a folder of their own; the database's path."""
        folder.mkdir()
        for name in FILES:
            shutil.copy(self.folder / name, folder / name)
        return folder / FILES[0]


async def fill(journal: Journal, segments: int) -> None:
    await journal.tokens.add(
        Token(id=UUID(int=1), name="admin", scopes=frozenset({"admin"}), created_at=NOW), "secret"
    )
    numbers = range(segments)
    recorded = await asyncio.gather(*(record(journal, new(n, GATE if n % 2 else YARD)) for n in numbers))
    await asyncio.gather(*(deliver(journal, segment) for segment in recorded[: segments * 3 // 4]))
    await asyncio.gather(
        *(
            journal.copies.source_gone(segment.id, SourceState.MISSING, "source_vanished", NOW)
            for segment in recorded[-segments // 50 :]
        )
    )
    await journal.segments.set_aside(new(segments).source, "empty", "0 bytes", NOW)
    await journal.outbox.address("a catalog")
    pin = "INSERT OR REPLACE INTO meta VALUES ('host_id', 'the host of the first start')"
    await journal._store.write(lambda db: db.execute(pin))


async def make_past(folder: Path, segments: int, in_log: int) -> Past:
    """A journal of so many segments whose last commits are in its log only, as a kill leaves it."""
    live, left = folder / "live", folder / "left"
    left.mkdir()
    async with await open_journal(live) as journal:
        await fill(journal, segments)
        await journal._store.read(store_module._checkpoint)
        with pytest.MonkeyPatch.context() as patch:  # however long the log gets, it is not folded
            patch.setattr(store_module, "LOG_BYTES", 2**40)
            patch.setattr(store_module, "LONGEST_LOG_BYTES", 2**40)
            for number in range(segments + 1, segments + 1 + in_log):
                await deliver(journal, await record(journal, new(number)))
        for name in FILES:
            shutil.copy(live / name, left / name)
        return Past(left, await ids(journal))


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Past:
    return asyncio.run(make_past(tmp_path_factory.mktemp("big"), SEGMENTS, 0))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Past:
    return asyncio.run(make_past(tmp_path_factory.mktemp("small"), 200, IN_LOG))


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def cut(path: Path, size: int) -> None:
    os.truncate(path, max(0, size))


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        byte = os.pread(file.fileno(), 1, at)[0]
        os.pwrite(file.fileno(), bytes([byte ^ 0x10]), at)


def overwrite(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), content, at)


async def reopened(path: Path) -> tuple[Opening, frozenset[UUID]]:
    """The next start, which must leave a journal that is sound in every respect and takes new segments."""
    async with await open_journal(path.parent) as journal:
        opening, known = journal.opening, await ids(journal)
        await deliver(journal, await record(journal, new(90_000)))
        tallies = await journal._store.read(recounted)
        assert tallies == []
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    async with await open_journal(path.parent) as journal:
        assert journal.opening == Opening()
    return opening, known


def recounted(db: sqlite3.Connection) -> list[object]:
    """Counters that differ from a recount."""
    tallies = db.execute(
        """SELECT backend, state, count(*), sum(size_bytes) FROM copy GROUP BY backend, state EXCEPT
           SELECT backend, state, segments, bytes FROM tally"""
    ).fetchall()
    cameras = db.execute(
        """SELECT camera_no, count(*), sum(size_bytes) FROM segment GROUP BY camera_no EXCEPT
           SELECT no, segments, bytes FROM camera"""
    ).fetchall()
    return tallies + cameras


def kept_aside(path: Path) -> dict[str, bytes]:
    """Damaged files that were kept, by the name they had."""
    return {
        "journal.db" + ("-wal" if part.name.endswith("-wal") else ""): part.read_bytes()
        for part in path.parent.glob("journal.db.corrupt-*")
        if not part.name.endswith("-shm")
    }


# The log


@pytest.mark.parametrize("missing_bytes", [1, 5000, "half", "all"])
async def test_a_log_cut_short_loses_its_end_and_nothing_else(
    small: Past, tmp_path: Path, missing_bytes: int | str
) -> None:
    path = small.left_in(tmp_path / "data")
    size = log_of(path).stat().st_size
    lost = {"half": size // 2, "all": size}.get(str(missing_bytes)) or int(missing_bytes)
    cut(log_of(path), size - lost)
    opening, known = await reopened(path)

    assert opening.unclean and opening.recovered_from is None
    assert known <= small.known
    share = {1: 239, 5000: 238, "half": 200, "all": 200}[missing_bytes]
    assert len(known) >= share


async def test_a_missing_log_is_noticed(small: Past, tmp_path: Path) -> None:
    path = small.left_in(tmp_path / "data")
    log_of(path).unlink()
    opening, known = await reopened(path)
    assert opening.unclean and opening.damage == "it was not closed and its write-ahead log is gone"
    assert len(known) == 200


@pytest.mark.parametrize("place", ["header", "first", "middle", "late"])
async def test_damage_in_the_log_hides_nothing_behind_it(small: Past, tmp_path: Path, place: str) -> None:
    """SQLite alone would stop there, say "ok" and forget every later commit."""
    path = small.left_in(tmp_path / "data")
    log = log_of(path)
    at = {"header": 17, "first": 200, "middle": log.stat().st_size // 2, "late": log.stat().st_size * 4 // 5}
    flip(log, at[place])
    damaged = {name: (path.parent / name).read_bytes() for name in FILES}
    with sqlite_alone(path, tmp_path / "alone") as db:
        assert db.execute("PRAGMA quick_check").fetchone()[0] == "ok"
        forgotten = 240 - db.execute("SELECT count(*) FROM segment").fetchone()[0]
    opening, known = await reopened(path)

    assert forgotten >= 5
    assert "in its log stand behind damage" in (opening.damage or "")
    assert known <= small.known and len(known) >= 239
    assert kept_aside(path) == damaged


class sqlite_alone:  # noqa: N801  # reads as a function where it is used
    """A connection to a copy, for what plain SQLite makes of the files."""

    def __init__(self, path: Path, folder: Path) -> None:
        folder.mkdir()
        for name in FILES:
            shutil.copy(path.with_name(name), folder / name)
        self._db = sqlite3.connect(folder / FILES[0])

    def __enter__(self) -> sqlite3.Connection:
        return self._db

    def __exit__(self, *_: object) -> None:
        self._db.close()


async def test_a_log_without_its_database_is_not_replayed_into_a_new_one(small: Past, tmp_path: Path) -> None:
    path = small.left_in(tmp_path / "data")
    log = log_of(path).read_bytes()
    path.unlink()
    opening, known = await reopened(path)
    assert opening.created and known == frozenset()
    assert kept_aside(path) == {"journal.db-wal": log}


# The database


async def test_a_destroyed_page_costs_its_own_rows_at_most(big: Past, tmp_path: Path) -> None:
    """Pages from everywhere in the file, among them every inner node of every tree, filled with noise."""
    pages = (big.folder / FILES[0]).stat().st_size // PAGE_BYTES
    noise = random.Random(5)
    for page in [1, *inner_nodes(big.folder / FILES[0]), *noise.sample(range(2, pages), 12)]:
        path = big.left_in(tmp_path / f"page{page}")
        overwrite(path, (page - 1) * PAGE_BYTES, noise.randbytes(PAGE_BYTES))
        damaged = path.read_bytes()
        opening, known = await reopened(path)

        assert opening.damage is not None, f"page {page}"
        assert kept_aside(path)["journal.db"] == damaged
        assert known <= big.known and len(known) >= SEGMENTS * 0.98, f"page {page}: {len(known)}"
        shutil.rmtree(path.parent)


def inner_nodes(path: Path) -> Iterator[int]:
    with path.open("rb") as file:
        for page in range(2, path.stat().st_size // PAGE_BYTES + 1):
            if os.pread(file.fileno(), 1, (page - 1) * PAGE_BYTES)[0] in (0x02, 0x05):
                yield page


async def test_after_a_recovery_the_catalog_is_told_all_that_is_there_and_all_that_goes(
    big: Past, tmp_path: Path
) -> None:
    """Which catalog was told what is in the damaged part; it may be away for long when footage is deleted."""
    path = big.left_in(tmp_path / "data")
    overwrite(path, 0, bytes(PAGE_BYTES))
    async with await open_journal(path.parent) as journal:
        assert journal.opening.recovered_from is not None
        (gone, *_) = (await journal.outbox.news(1)).changed
        await journal.deletions.begin(gone.id)
        await journal.deletions.done(gone, "deleted_on_request", NOW)
        assert (await journal.outbox.news(1)).forgotten == (gone.id,)
        await journal.outbox.told(await journal.outbox.news(10 * SEGMENTS))
        await journal.outbox.address("a catalog")
        assert await journal.outbox.lag() == len((await journal.outbox.news(10 * SEGMENTS)).changed) > 0


async def test_many_destroyed_pages_leave_what_lies_between_them(big: Past, tmp_path: Path) -> None:
    path = big.left_in(tmp_path / "data")
    noise = random.Random(9)
    pages = path.stat().st_size // PAGE_BYTES
    for page in noise.sample(range(1, pages + 1), pages // 20):
        overwrite(path, (page - 1) * PAGE_BYTES, noise.randbytes(PAGE_BYTES))
    opening, known = await reopened(path)
    assert opening.salvaged_rows > 0
    assert known <= big.known and len(known) >= SEGMENTS * 0.85


async def test_a_destroyed_header_costs_nothing(big: Past, tmp_path: Path) -> None:
    path = big.left_in(tmp_path / "data")
    overwrite(path, 0, bytes(100))
    opening, known = await reopened(path)
    assert opening.damage == "file is not a database" and known == big.known
    async with await open_journal(path.parent) as journal:
        await everything_else_is_there(journal)


async def test_with_the_first_page_gone_tokens_ledger_and_proofs_are_still_there(
    big: Past, tmp_path: Path
) -> None:
    path = big.left_in(tmp_path / "data")
    overwrite(path, 0, bytes(PAGE_BYTES))
    _, known = await reopened(path)
    assert known == big.known
    async with await open_journal(path.parent) as journal:
        await everything_else_is_there(journal)


async def test_with_the_first_page_and_the_folders_gone_the_segments_are_still_there(
    big: Past, tmp_path: Path
) -> None:
    path = big.left_in(tmp_path / "data")
    with closing(sqlite3.connect(path)) as db:
        root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'folder'").fetchone()[0]
    for page in (1, root):
        overwrite(path, (page - 1) * PAGE_BYTES, bytes(PAGE_BYTES))
    _, known = await reopened(path)
    assert known == big.known


async def everything_else_is_there(journal: Journal) -> None:
    token = await journal.tokens.find("secret")
    assert token is not None and token.scopes == {"admin"}
    assert sum((await journal.ledger.losses()).values()) == SEGMENTS // 50
    assert await journal.segments.set_aside_counts() == {"empty": 1}
    verified = next(tally for tally in await journal.copies.tallies() if tally.state is CopyState.VERIFIED)
    assert verified.segments == SEGMENTS * 3 // 4 + 1  # and the one of the first start
    (segment,) = (await journal.segments.page(YARD.id, ALWAYS, 1)).segments
    assert segment.copies[0].path == proof(segment).path
    assert {footage.camera for footage in await journal.cameras.all(NOW)} == {GATE, YARD}
    meta = await journal._store.read(lambda db: dict(db.execute("SELECT key, value FROM meta").fetchall()))
    assert meta["host_id"] == "the host of the first start"


async def test_a_database_cut_to_half_keeps_what_is_in_that_half(big: Past, tmp_path: Path) -> None:
    path = big.left_in(tmp_path / "data")
    cut(path, path.stat().st_size // 2)
    opening, known = await reopened(path)
    assert opening.damage is not None and known <= big.known
    assert len(known) > SEGMENTS // 4


async def test_an_empty_database_does_not_cost_the_log(small: Past, tmp_path: Path) -> None:
    """SQLite would delete a log beside an empty file."""
    path = small.left_in(tmp_path / "data")
    log = log_of(path).read_bytes()
    cut(path, 0)
    opening, known = await reopened(path)
    assert opening.damage == "the file is shorter than one page"
    assert kept_aside(path) == {"journal.db": b"", "journal.db-wal": log}
    assert known <= small.known


async def test_the_log_of_a_damaged_database_is_kept_and_used(small: Past, tmp_path: Path) -> None:
    """Closing the damaged file would fold the log into it and remove it."""
    path = small.left_in(tmp_path / "data")
    with sqlite_alone(path, tmp_path / "alone") as db:
        root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'token'").fetchone()[0]
    overwrite(path, (root - 1) * PAGE_BYTES, bytes(PAGE_BYTES))
    damaged = {name: (path.parent / name).read_bytes() for name in FILES}
    opening, known = await reopened(path)
    assert opening.damage is not None and known == small.known
    assert kept_aside(path) == damaged


async def test_what_never_was_a_journal_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    for content in (b"", b"#!/bin/sh\n", b"x" * 100_000, bytes(8192)):
        path.write_bytes(content)
        opening, known = await reopened(path)
        assert opening.damage is not None and known == frozenset()
        assert opening.recovered_from is not None and opening.recovered_from.read_bytes() == content
        path.unlink()
        opening.recovered_from.unlink()


async def test_the_database_of_another_program_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE meta (key, value)")
    opening, _ = await reopened(path)
    assert opening.damage == "its tables are gone"


async def test_a_segment_that_lost_its_copies_is_delivered_again(small: Past, tmp_path: Path) -> None:
    path = small.left_in(tmp_path / "data")
    async with await open_journal(path.parent):
        pass
    with closing(sqlite3.connect(path)) as db:
        root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'copy'").fetchone()[0]
        before = dict(db.execute("SELECT state, count(*) FROM copy GROUP BY state").fetchall())
    leaves = leaves_below(path, root)
    overwrite(path, (leaves[0] - 1) * PAGE_BYTES, random.Random(1).randbytes(PAGE_BYTES))
    _, known = await reopened(path)

    assert known == small.known
    async with await open_journal(path.parent) as journal:
        tallies = {tally.state: tally.segments for tally in await journal.copies.tallies()}
        assert sum(tallies.values()) == 241
        assert tallies[CopyState.PENDING] > before["pending"]


def leaves_below(path: Path, root: int) -> list[int]:
    """Children of an inner node of a table without rowids."""
    with path.open("rb") as file:
        node = os.pread(file.fileno(), PAGE_BYTES, (root - 1) * PAGE_BYTES)
    assert node[0] == 0x02
    cells = int.from_bytes(node[3:5], "big")
    pointers = [int.from_bytes(node[12 + 2 * n : 14 + 2 * n], "big") for n in range(cells)]
    return [int.from_bytes(node[at : at + 4], "big") for at in pointers]


# What only people can put right


async def test_a_journal_of_a_newer_version_is_left_as_it_is(small: Past, tmp_path: Path) -> None:
    path = small.left_in(tmp_path / "data")
    log_of(path).unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 7")
    before = path.read_bytes()
    with pytest.raises(JournalBroken, match="written by a newer version; install that one again"):
        await open_journal(path.parent)
    assert path.read_bytes() == before
    assert {part.name for part in path.parent.iterdir()} == {"journal.db", "lock"}


async def test_a_folder_in_the_place_of_the_journal_is_named(tmp_path: Path) -> None:
    (tmp_path / "journal.db").mkdir()
    with pytest.raises(JournalBroken, match="is not a regular file; move it away"):
        await open_journal(tmp_path)


async def test_a_link_to_a_disk_that_is_not_mounted_is_not_taken_for_no_journal(tmp_path: Path) -> None:
    (tmp_path / "journal.db").symlink_to(tmp_path / "not mounted" / "journal.db")
    with pytest.raises(JournalBroken, match="is not a regular file"):
        await open_journal(tmp_path)
    assert (tmp_path / "journal.db").is_symlink()


async def test_a_data_dir_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(JournalBroken, match="create it or give this user the right to write"):
        await open_journal(tmp_path / "data")


async def test_a_recovery_without_room_says_so_and_the_next_start_goes_on(
    small: Past, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small.left_in(tmp_path / "data")
    overwrite(path, 0, bytes(PAGE_BYTES))
    cut(log_of(path), 0)  # it has a newer first page, which would heal the file

    def no_room(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(opening_module, "recover", no_room)
        with pytest.raises(JournalBroken, match="free some room"):
            await open_journal(path.parent)
    opening, known = await reopened(path)
    assert opening.damage == "an earlier recovery was interrupted"
    assert known <= small.known and len(known) == 200


async def test_the_reserve_makes_room_for_a_recovery(
    small: Past, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small.left_in(tmp_path / "data")
    overwrite(path, 0, bytes(PAGE_BYTES))
    cut(log_of(path), 0)
    reserve = path.parent / "journal.reserve"
    reserve.write_bytes(bytes(100_000))

    def recover_without_reserve(damaged: Path, draft: Path, note: Note) -> int:
        if reserve.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return recover(damaged, draft, note)

    monkeypatch.setattr(opening_module, "recover", recover_without_reserve)
    async with await open_journal(path.parent, reserve_bytes=100_000) as journal:
        assert journal.opening.recovered_from is not None
        assert len(await ids(journal)) == 200
    assert reserve.exists()
