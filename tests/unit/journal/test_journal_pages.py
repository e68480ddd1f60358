"""Reading a database file and its log without SQLite: held against what SQLite itself says."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cctv_storaged.journal.pages import records
from cctv_storaged.journal.wal import FRAME, HEADER, read_log

PAGE = 4096

values = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-300, 300),
    st.floats(allow_nan=False),
    st.text(max_size=40),
    st.binary(max_size=60),
    st.integers(900, 9000).map(lambda size: b"\xa5" * size),  # more than a page holds
)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(values, values, values), max_size=60))
def test_every_row_of_a_table_is_found_on_its_bare_pages(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[object, ...]]
) -> None:
    path = tmp_path_factory.mktemp("pages") / "t.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA page_size = {PAGE}")
        db.execute("CREATE TABLE plain (a, b, c)")
        db.execute("CREATE TABLE keyed (k INTEGER, a, b, c, PRIMARY KEY (k)) WITHOUT ROWID")
        db.executemany("INSERT INTO plain VALUES (?, ?, ?)", rows)
        db.executemany("INSERT INTO keyed VALUES (?, ?, ?, ?)", [(n, *row) for n, row in enumerate(rows)])
        db.commit()
        plain = db.execute("SELECT rowid, a, b, c FROM plain").fetchall()
        keyed = db.execute("SELECT k, a, b, c FROM keyed").fetchall()
    with path.open("rb") as file:
        of_table = [(r.rowid, *r.values) for r in records(file.fileno(), PAGE, 3, of_table=True)]
        of_index = [r.values for r in records(file.fileno(), PAGE, 4, of_table=False)]
    assert sorted(of_table, key=repr) == sorted(plain, key=repr)
    assert sorted(of_index, key=repr) == sorted(keyed, key=repr)


@settings(max_examples=100, deadline=None)
@given(noise=st.binary(min_size=1, max_size=300), at=st.integers(0, 3 * PAGE - 300), kind=st.integers(1, 6))
def test_noise_never_stops_the_reading(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int, kind: int
) -> None:
    path = tmp_path_factory.mktemp("pages") / "t.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA page_size = {PAGE}")
        db.execute("CREATE TABLE plain (a, b, c)")
        db.executemany("INSERT INTO plain VALUES (?, ?, ?)", [(n, b"x" * 90 * n, "y") for n in range(60)])
        db.commit()
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), noise, at)
        for of_table in (True, False):
            found = list(records(file.fileno(), PAGE, kind, of_table=of_table))
            assert all(len(record.values) == kind for record in found)


# The write-ahead log


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database and its log as a kill leaves them: 40 commits in the log's second round."""
    folder = tmp_path_factory.mktemp("torn")
    with closing(sqlite3.connect(folder / "live.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
        db.executemany("INSERT INTO t (b) VALUES (?)", [(bytes(3000),)] * 90)
        db.execute("PRAGMA wal_checkpoint(RESTART)")  # the next round overwrites this one, frame by frame
        for _ in range(40):
            db.execute("INSERT INTO t (b) VALUES (randomblob(900))")
        for suffix in ("", "-wal"):
            shutil.copy(folder / f"live.db{suffix}", folder / f"torn.db{suffix}")
    return folder / "torn.db"


def damaged_copy(torn: Path, folder: Path, *, cut: int | None = None, flip: int | None = None) -> Path:
    log = bytearray(torn.with_name("torn.db-wal").read_bytes())
    if flip is not None:
        log[flip] ^= 0x40
    copy = folder / "torn.db"
    shutil.copy(torn, copy)
    copy.with_name("torn.db-wal").write_bytes(log[:cut])
    return copy


def frames_sqlite_uses(path: Path) -> int:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("SELECT * FROM t").fetchone()
        row = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return int(row[1])


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def frame_at(number: int) -> int:
    return HEADER.size + number * (FRAME.size + PAGE)


def cuts() -> Iterator[int]:
    yield from (0, 1, 31, 32, 33, HEADER.size + FRAME.size, frame_at(1) - 1, frame_at(1), frame_at(40) + 7)


@pytest.mark.parametrize("cut", list(cuts()))
def test_a_log_cut_short_is_read_as_far_as_sqlite_reads_it(torn: Path, tmp_path: Path, cut: int) -> None:
    copy = damaged_copy(torn, tmp_path, cut=cut)
    read = read_log(log_of(copy), PAGE)
    assert not read.damaged and len(read.salvageable()) == read.replayed
    assert frames_sqlite_uses(copy) == read.replayed


@pytest.mark.parametrize(
    "flip",
    [0, 9, 17, 25, frame_at(0) + 1, frame_at(0) + 500, frame_at(9) + 2, frame_at(9) + 18, frame_at(20) + 99],
)
def test_a_flipped_bit_is_noticed_where_sqlite_stops_and_hides_nothing_behind_it(
    torn: Path, tmp_path: Path, flip: int
) -> None:
    copy = damaged_copy(torn, tmp_path, flip=flip)
    whole, read = read_log(log_of(torn), PAGE), read_log(log_of(copy), PAGE)
    assert frames_sqlite_uses(damaged_copy(torn, tmp_path, flip=flip)) == read.replayed < whole.replayed
    assert read.damaged
    assert len(whole.salvageable()) - len(read.salvageable()) <= 2


def test_what_an_earlier_round_left_behind_is_no_damage(torn: Path) -> None:
    read = read_log(log_of(torn), PAGE)
    assert log_of(torn).stat().st_size > frame_at(len(read.frames))  # frames of the round before are there
    assert read.replayed == len(read.frames) and not read.damaged


def test_the_last_commit_torn_by_a_power_cut_is_no_damage(torn: Path, tmp_path: Path) -> None:
    whole = read_log(log_of(torn), PAGE)
    ends = [number for number, frame in enumerate(whole.frames) if frame.pages_after_commit]
    first_of_last = ends[-2] + 1
    read = read_log(log_of(damaged_copy(torn, tmp_path, flip=frame_at(first_of_last) + 100)), PAGE)
    assert read.unreadable_commits == 1 and not read.damaged
    assert len(read.salvageable()) == read.replayed == first_of_last


def test_no_log_is_an_empty_log(tmp_path: Path) -> None:
    read = read_log(tmp_path / "nothing-wal", PAGE)
    assert (read.frames, read.replayed, read.damaged, read.salvageable()) == ((), 0, False, ())
