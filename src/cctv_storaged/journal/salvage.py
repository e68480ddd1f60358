"""A new journal from what a damaged one still says.

1. The pages of the file and of its write-ahead log are put together into one image; the damaged files stay
   as they are, for people.
2. If SQLite finds nothing wrong with the image (the damage was in the log only, or in the file's header),
   the image is the new journal.
3. Otherwise every table is read row by row into an empty one: from its start until damage, from its end
   until damage, and what lies between from the bare pages. Rows the new journal's rules refuse stay out.

What came from bare pages may be out of date. That is safe: a source is unlinked only after its copies were
verified once more (prune.py), and the start-up scan finds what is missing.
"""

import logging
import os
import shutil
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

from cctv_storaged.journal import clocks
from cctv_storaged.journal.connection import PAGE_BYTES, log_path
from cctv_storaged.journal.gaps import KNOWN_SINCE
from cctv_storaged.journal.ledgerlines import LASTING as LASTING_OF_LEDGER
from cctv_storaged.journal.outbox import TOLD
from cctv_storaged.journal.pages import Record, Value, records
from cctv_storaged.journal.schema import (
    EARLIEST_VERSION,
    SCHEMA_VERSION,
    create,
    damage_in,
    make_file,
    remove,
    say_closed,
    upgrade,
)
from cctv_storaged.journal.wal import read_log

log = logging.getLogger(__name__)

TABLES = {
    "token": "id",
    "ledger": "no",
    "camera": "no",
    "folder": "no",
    "segment": "no",
    "copy": "segment_no, backend",
    "set_aside": "folder_no, name",
    "uncatalogue": "segment_id",
    "export": "no",
    "idempotency": "route, key",
    "meta": "key",
    "hold": "no",
    "hold_camera": "camera_no, hold_no",
    "place": "kind, location",
    "watched": "root, start_us",
    "clock_step": "no",
    "retention_day": "day, camera_id",
    "retrieval": "identifier",
    "vms_mark": "id",
}
"""Each with its key, in an order in which a row finds what it refers to."""
ADDED = {"segment": (1, 3), "camera": (1,), "copy": (1,), "set_aside": (2,), "ledger": (1,), "token": (4,)}
"""How many columns at the end of a table rows of earlier versions lack."""
LASTING = ("host_id", KNOWN_SINCE, clocks.KEY, *LASTING_OF_LEDGER)
"""Keys of `meta` that are carried over; the others are about the file that was, or better found out anew."""
Note = Callable[[sqlite3.Connection, int], None]
"""Says in a new journal where it comes from, and how many rows it has."""

MAGIC = b"SQLite format 3\0"
HEADER = struct.Struct(">16sH6B12I20x2I")  # https://www.sqlite.org/fileformat2.html#the_database_header
HEADER_BYTES = 100
FORMAT_VERSIONS = slice(18, 20)  # 1: rollback journal, 2: write-ahead log


def recover(damaged: Path, draft: Path, note: Note | None = None) -> int:
    """Leaves a sound journal at `draft`, on the disk; the number of rows in it. `damaged` is only read."""
    image = draft.with_name(draft.name + ".image")
    remove(draft)
    remove(image)
    _assemble(damaged, image)
    if _is_sound(image):
        image.rename(draft)
        rows = _adopt(draft, note)
    else:
        create(draft)
        rows = _carry_over(image, draft, note)
        remove(image)
    _sync(draft)
    return rows


# The image


def _assemble(damaged: Path, image: Path) -> None:
    """The database as it was after its last readable commit, in one file that needs no log."""
    make_file(image)  # a copy would leave its rights to the umask
    shutil.copyfile(damaged, image)
    frames = read_log(log_path(damaged), PAGE_BYTES).salvageable()
    with image.open("r+b") as file:
        for frame in frames:
            os.pwrite(file.fileno(), frame.data, (frame.page - 1) * PAGE_BYTES)
        sizes = [frame.pages_after_commit for frame in frames if frame.pages_after_commit]
        if sizes:
            file.truncate(sizes[-1] * PAGE_BYTES)
        _mend_header(file.fileno())


def _mend_header(descriptor: int) -> None:
    """The first 100 bytes say nothing that we would not know."""
    header = bytearray(os.pread(descriptor, HEADER_BYTES, 0).ljust(HEADER_BYTES, b"\0"))
    if not header.startswith(MAGIC) or int.from_bytes(header[16:18], "big") != PAGE_BYTES:
        pages = os.fstat(descriptor).st_size // PAGE_BYTES
        header[:] = HEADER.pack(
            *(MAGIC, PAGE_BYTES, 1, 1, 0, 64, 32, 32),
            *(1, pages, 0, 0),  # change counter, size, and a free list we do not know
            *(1, 4, 0, 0, 1, SCHEMA_VERSION, 0, 0),  # cookie, format, -, -, UTF-8, user_version, -, -
            *(1, sqlite3.sqlite_version_info[0] * 1_000_000),  # the change counter again: the size is right
        )
    header[FORMAT_VERSIONS] = b"\1\1"
    os.pwrite(descriptor, header, 0)


def _says_its_version(connection: sqlite3.Connection) -> None:
    """A header that was mended claims today's schema; the tables know better."""
    columns = {name for _, name, *_ in connection.execute("PRAGMA table_info(segment)")}
    if not columns:
        return
    since = (
        (4, _has_table(connection, "vms_mark")),
        (3, "deletion_cause" in columns),
        (2, "stream_ticks" in columns),
    )
    version = next((version for version, is_so in since if is_so), EARLIEST_VERSION)
    if version < SCHEMA_VERSION:
        connection.execute(f"PRAGMA user_version = {version}")


def _has_table(connection: sqlite3.Connection, name: str) -> bool:
    query = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?"
    return connection.execute(query, (name,)).fetchone() is not None


def _is_sound(image: Path) -> bool:
    """Stricter than at start: pages of different ages may fit together and contradict each other."""
    try:
        with closing(sqlite3.connect(image, isolation_level=None)) as connection:
            return (
                damage_in(connection, whole=False) is None
                and connection.execute("PRAGMA integrity_check(1)").fetchone()[0] == "ok"
                and connection.execute("PRAGMA foreign_key_check").fetchone() is None
            )
    except sqlite3.DatabaseError:
        return False


def _adopt(path: Path, note: Note | None) -> int:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        _says_its_version(connection)
        upgrade(connection)
        _recount(connection)
        rows = sum(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES)
        _say(connection, note, rows)
        say_closed(connection)
        return int(rows)


def _say(connection: sqlite3.Connection, note: Note | None, rows: int) -> None:
    if note is not None:
        connection.execute("BEGIN IMMEDIATE")
        note(connection, rows)
        connection.execute("COMMIT")


# Row by row


def _carry_over(image: Path, draft: Path, note: Note | None) -> int:
    with (
        closing(sqlite3.connect(image, isolation_level=None)) as old,
        closing(sqlite3.connect(draft, isolation_level=None)) as fresh,
    ):
        # Nobody sees the draft before it is whole, so nothing needs to be durable until the end.
        fresh.execute("PRAGMA journal_mode = MEMORY")
        fresh.execute("PRAGMA synchronous = OFF")
        fresh.execute("PRAGMA foreign_keys = ON")
        rows = sum(_carry_table(table, old, image, fresh) for table in TABLES)
        _keep_lasting(fresh)
        _forget_deleted(fresh)
        _owe_missing_copies(fresh)
        _recount(fresh)
        fresh.execute("UPDATE hold SET marked = 0")  # a segment's mark may be older than its hold
        _say(fresh, note, rows)
        fresh.execute("PRAGMA journal_mode = WAL")
    return rows


def _carry_table(table: str, old: sqlite3.Connection, image: Path, fresh: sqlite3.Connection) -> int:
    columns = [
        (str(name), bool(key)) for _, name, _, _, _, key in fresh.execute(f"PRAGMA table_info({table})")
    ]
    insert = f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(columns))})"
    kept = 0
    fresh.execute("BEGIN")
    for row in _rows(table, [name for name, _ in columns], old, image):
        try:
            kept += fresh.execute(insert, row).rowcount
        except sqlite3.IntegrityError as exc:
            log.debug("row of %s left out: %s", table, exc)
    fresh.execute("COMMIT")
    return kept


def _rows(
    table: str, columns: list[str], old: sqlite3.Connection, image: Path
) -> Iterator[tuple[Value, ...]]:
    """Whatever can be had of a table, best evidence first; the same row may come more than once."""
    keys = TABLES[table].split(", ")
    wanted = f"SELECT {', '.join(_asked_for(table, columns, old))} FROM {table} ORDER BY"
    try:
        yield from old.execute(f"{wanted} {', '.join(keys)}")
    except sqlite3.DatabaseError as exc:
        log.warning("table %s is damaged (%s): reading it from behind, and from its bare pages", table, exc)
    else:
        return
    yield from _until_damage(old, f"{wanted} {', '.join(f'{key} DESC' for key in keys)}")
    if table == "hold_camera":  # bare pages of other indexes are two numbers too, and name other cameras
        by_hold = "SELECT camera_no, hold_no FROM hold_camera INDEXED BY hold_camera_by_hold ORDER BY hold_no"
        try:
            yield from old.execute(by_hold).fetchall()
        except sqlite3.DatabaseError:
            log.warning("the index of table %s is damaged as well", table)
        else:
            return
    if table == "folder":
        by_name = "SELECT no, root, path FROM folder INDEXED BY sqlite_autoindex_folder_1"
        yield from _until_damage(old, by_name)
    has_rowid = keys == ["no"]
    yield from _from_bare_pages(image, len(columns), has_rowid=has_rowid)
    for missing in ADDED.get(table, ()):
        earlier = _from_bare_pages(image, len(columns) - missing, has_rowid=has_rowid)
        yield from ((*row, *(None,) * missing) for row in earlier)
    if table == "camera":
        yield from _nameless_cameras(old)
    if table == "folder":
        yield from _folders_of_the_index(image)


def _asked_for(table: str, columns: list[str], old: sqlite3.Connection) -> list[str]:
    """The columns by name, NULL for those that the damaged journal is too old to have."""
    try:
        there = {name for _, name, *_ in old.execute(f"PRAGMA table_info({table})")}
    except sqlite3.DatabaseError:
        return columns
    return [name if name in there or not there else "NULL" for name in columns]


def _until_damage(old: sqlite3.Connection, query: str) -> Iterator[tuple[Value, ...]]:
    try:
        yield from old.execute(query)
    except sqlite3.DatabaseError:
        return


def _nameless_cameras(old: sqlite3.Connection) -> Iterator[tuple[Value, ...]]:
    """Cameras that only their index still knows; name and folder come back with the next segment."""
    for number, id_ in _until_damage(old, "SELECT no, id FROM camera INDEXED BY sqlite_autoindex_camera_1"):
        if isinstance(id_, bytes) and len(id_) == 16:
            yield (number, id_, str(UUID(bytes=id_)), b"", 0, 0, 0, None)


def _folders_of_the_index(image: Path) -> Iterator[tuple[Value, ...]]:
    """Without its folder no segment is carried over. No other index has two blobs, and then a number."""
    for root, path, number in _from_bare_pages(image, 3, has_rowid=False):
        if isinstance(root, bytes) and isinstance(path, bytes) and isinstance(number, int):
            yield (number, root, path)


def _from_bare_pages(image: Path, columns: int, *, has_rowid: bool) -> Iterator[tuple[Value, ...]]:
    """Records with as many columns as the table has; the insert judges the rest."""
    with image.open("rb") as file:
        for record in records(file.fileno(), PAGE_BYTES, columns, of_table=has_rowid):
            yield _with_rowid(record)


def _with_rowid(record: Record) -> tuple[Value, ...]:
    """A column that is the rowid is stored as NULL."""
    return record.values if record.rowid is None else (record.rowid, *record.values[1:])


# Putting right


def _keep_lasting(fresh: sqlite3.Connection) -> None:
    marks = ", ".join("?" * len(LASTING))
    fresh.execute(f"DELETE FROM meta WHERE key NOT IN ({marks})", LASTING)
    # No catalog has this name: whichever there is, it is told everything, and of deletions until then.
    fresh.execute("INSERT INTO meta VALUES (?, '')", (TOLD,))
    say_closed(fresh)


def _forget_deleted(fresh: sqlite3.Connection) -> None:
    """Bare pages still hold rows that were deleted; the ledger says which, and which came back since."""
    fresh.execute(
        """WITH gone AS MATERIALIZED (
               SELECT segment_id, max(no) AS no FROM ledger
                WHERE kind IN ('deleted', 'replaced') AND segment_id IN (SELECT id FROM segment)
                GROUP BY segment_id)
           DELETE FROM segment WHERE id IN (
               SELECT segment_id FROM gone EXCEPT
               SELECT line.segment_id FROM ledger line JOIN gone USING (segment_id)
                WHERE line.no > gone.no AND line.kind IN ('registered', 'adopted', 'found'))"""
    )


def _owe_missing_copies(fresh: sqlite3.Connection) -> None:
    """A segment whose copies were lost would wait for ever: those the newest segment has are owed to all.

    Putting what a backend has already is harmless. Without a source there is nothing to put.
    """
    fresh.execute(
        """INSERT OR IGNORE INTO copy (segment_no, backend, start_us, size_bytes)
           SELECT no, backend, segment.start_us, segment.size_bytes FROM segment JOIN (
               SELECT backend FROM copy WHERE segment_no = (SELECT max(segment_no) FROM copy))
            WHERE source_state = 'present'"""
    )


def _recount(fresh: sqlite3.Connection) -> None:
    """The triggers counted what was carried over on top of what the rows had counted before."""
    fresh.execute("BEGIN IMMEDIATE")
    fresh.execute(
        """UPDATE camera SET
             segments = (SELECT count(*) FROM segment WHERE camera_no = camera.no),
             bytes = (SELECT coalesce(sum(size_bytes), 0) FROM segment WHERE camera_no = camera.no)"""
    )
    fresh.execute("DELETE FROM tally")
    fresh.execute(
        "INSERT INTO tally SELECT backend, state, count(*), sum(size_bytes) FROM copy GROUP BY backend, state"
    )
    fresh.execute("COMMIT")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
