"""A journal of an earlier version is brought up to date, whatever state it is in."""

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cctv_storaged.journal.chain import GENESIS, Line, linked
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.ledgerlines import breaks_in
from cctv_storaged.journal.schema import SCHEMA_VERSION, create
from cctv_storaged.journal.swapping import carry_over

FOLDER = Path(__file__).parent
VERSIONS = range(1, SCHEMA_VERSION)
NOW = datetime(2026, 11, 26, tzinfo=UTC)
ID, CAMERA = b"s" * 16, b"c" * 16
HEADER_BYTES = 100
CHAINED_SINCE = 3


@pytest.fixture(params=VERSIONS)
def earlier(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A journal as an earlier version left it, with one segment of one camera and two lines in the ledger."""
    schema = (FOLDER / f"schema_{request.param}.sql").read_text()
    path = tmp_path / "journal.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA page_size = 4096")
        db.executescript(f"BEGIN;{schema};PRAGMA user_version = {request.param};COMMIT;")
        db.execute("INSERT INTO meta VALUES ('closed_cleanly', '1'), ('host_id', 'nvr')")
        db.execute("INSERT INTO camera (id, name, folder) VALUES (?, 'gate', x'67')", (CAMERA,))
        db.execute("INSERT INTO folder (root, path) VALUES (?, ?)", (b"/r", b"gate"))
        db.execute(
            """INSERT INTO segment (id, camera_no, start_us, end_us, folder_no, name, device, inode,
                                    size_bytes, mtime_ns, created_us)
               VALUES (?, 1, 1000, 2000, 1, ?, 1, 1, 10, 5, 7)""",
            (ID, b"a.ts"),
        )
        db.execute("INSERT INTO copy (segment_no, backend, start_us, size_bytes) VALUES (1, 'S3', 1000, 10)")
        db.executemany(
            """INSERT INTO ledger (at_us, kind, segment_id, camera_id, start_us, end_us, cause)
               VALUES (?, 'deleted', ?, ?, 0, 1000, 'deleted_on_request')""",
            [(8, b"o" * 16, CAMERA), (9, b"p" * 16, CAMERA)],
        )
        if request.param >= CHAINED_SINCE:
            previous = GENESIS
            for line in db.execute("SELECT * FROM ledger ORDER BY no").fetchall():
                previous = linked(previous, Line(*line[:-1]))
                db.execute("UPDATE ledger SET hash = ? WHERE no = ?", (previous, line[0]))
        db.execute("PRAGMA journal_mode = WAL")
    return path


def tables(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every table with its columns, and every index and trigger."""
    with closing(sqlite3.connect(path)) as db:
        names = db.execute("SELECT type, name FROM sqlite_schema ORDER BY name").fetchall()
        return {
            f"{kind} {name}": db.execute(f"PRAGMA table_info({name})").fetchall() if kind == "table" else []
            for kind, name in names
        }


async def the_segment_is_there(folder: Path) -> bool:
    async with await Journal.open(folder, "nvr", NOW) as journal:
        counted = await journal.cameras.all(NOW)
        return [camera.segments for camera in counted] == [1]


async def test_an_earlier_journal_becomes_what_a_new_one_is(earlier: Path, tmp_path: Path) -> None:
    assert await the_segment_is_there(tmp_path)
    fresh = tmp_path / "fresh.db"
    create(fresh)
    assert tables(earlier) == tables(fresh)
    with closing(sqlite3.connect(earlier)) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION
        lines = db.execute("SELECT * FROM ledger ORDER BY no").fetchall()
        assert db.execute("SELECT first_us FROM camera").fetchone() == (1000,)
    first = linked(GENESIS, Line(*lines[0][:-1]))
    assert [line[-1] for line in lines] == [first, linked(first, Line(*lines[1][:-1]))]


async def test_a_damaged_header_of_an_earlier_journal_costs_nothing(earlier: Path, tmp_path: Path) -> None:
    with earlier.open("r+b") as file:
        file.write(bytes(HEADER_BYTES))
    assert await the_segment_is_there(tmp_path)


async def test_a_damaged_table_of_an_earlier_journal_is_carried_over(earlier: Path, tmp_path: Path) -> None:
    shutil.copyfile(earlier, tmp_path / "sound.db")
    with closing(sqlite3.connect(earlier)) as db:
        root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'token'").fetchone()[0]
    with earlier.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)
    assert await the_segment_is_there(tmp_path)
    with closing(sqlite3.connect(earlier)) as db:
        lines = db.execute("SELECT no, cause FROM ledger ORDER BY no").fetchall()
        assert lines == [(1, "deleted_on_request"), (2, "deleted_on_request"), (3, "journal_recovered")]
        assert list(breaks_in(db)) == [], "they had no hashes, and have them now"


def test_what_only_an_earlier_journal_can_tell_is_taken_over_into_a_rebuilt_one(
    earlier: Path, tmp_path: Path
) -> None:
    """The one that is there stays as it is, for whoever wants to go back."""
    with closing(sqlite3.connect(earlier, isolation_level=None)) as db:
        add = "INSERT INTO token (id, name, hash, scopes, created_us) VALUES (?, 'door', ?, 'read', 1)"
        db.execute(add, (b"t" * 16, b"h" * 32))
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = earlier.read_bytes()
    draft = tmp_path / "draft.db"
    create(draft)
    assert carry_over(earlier, draft)["token"] == 1
    with closing(sqlite3.connect(draft)) as db:
        assert db.execute("SELECT name, scopes FROM token").fetchall() == [("door", "read")]
    assert earlier.read_bytes() == before
    assert not list(tmp_path.glob("*.upgraded*"))
