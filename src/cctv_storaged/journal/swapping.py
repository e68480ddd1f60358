"""One journal file in the place of another: a rebuilt one takes over, and the other is kept aside.

1. The new journal, closed and whole, gets the name journal.db.rebuilt in the folder it is for.
2. What is there is renamed to journal.db.replaced-TIME, the database before its log.
3. journal.db.rebuilt is renamed to journal.db.
A kill between 2 and 3 is noticed by the next start, which does 3. Nothing is deleted. The caller holds the
folder's lock.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

from cctv_storaged.journal import clocks
from cctv_storaged.journal.connection import PAGE_BYTES, connect, log_path
from cctv_storaged.journal.faults import translated
from cctv_storaged.journal.salvage import recover
from cctv_storaged.journal.schema import (
    EARLIEST_VERSION,
    SCHEMA_VERSION,
    damage_in,
    make_file,
    remove,
    sync_folder,
    upgrade,
)
from cctv_storaged.journal.wal import read_log

CARRIED = (
    *("token", "export", "idempotency", "place", "watched", "clock_step", "retention_day", "hold"),
    "vms_mark",
)
"""Tables that nothing outside a journal tells of; `hold` comes with its cameras."""
CARRIED_KEYS = (clocks.KEY,)
"""Of `meta`, likewise: which clock named what is there, and whether it is trusted."""
_SUFFIXES = ("", "-wal", "-shm")


def is_there(path: Path) -> bool:
    """Whether there is a journal, or part of one."""
    return any(path.with_name(path.name + suffix).exists() for suffix in _SUFFIXES)


def damage_of(path: Path) -> str | None:
    """What is wrong with the journal at `path`; None where it is sound. Blocking: reads it whole.

    Its log is folded in, as any start would do; not so one that is damaged, which SQLite would cut off.
    Raises JournalBroken for a later version.
    """
    if read_log(log_path(path), PAGE_BYTES).damaged:
        return "its log is damaged"
    try:
        with closing(connect(path)) as connection:
            return damage_in(connection, whole=True)
    except sqlite3.Error as exc:
        return str(exc)


def host_of(path: Path) -> str | None:
    """The host id that a journal was begun with."""
    try:
        with closing(connect(path)) as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = 'host_id'").fetchone()
    except sqlite3.Error:
        return None
    return None if row is None else str(row[0])


@contextmanager
def readable(path: Path, scratch: Path, *, damaged: bool) -> Iterator[Path]:
    """The journal at `path`, or for a damaged one what can be read of it, at `scratch` as long as the block
    lasts: a damaged one is only read. Blocking.
    """
    if not damaged:
        yield path
        return
    recover(path, scratch)
    try:
        yield scratch
    finally:
        remove(scratch)


def carry_over(old: Path, draft: Path) -> dict[str, int]:
    """Copies the tables CARRIED from the journal `old` into a closed one; twice is once. Blocking.

    The rows taken, by table. What cannot be read stays out. Raises JournalError where a journal of an earlier
    version, of which a copy is brought up to date for this, cannot be.
    """
    version = _version_of(old)
    if version == SCHEMA_VERSION:
        return _carried(old, draft)
    if not EARLIEST_VERSION <= version < SCHEMA_VERSION:
        return {}
    scratch = draft.with_name(draft.name + ".upgraded")
    try:
        _copy_upgraded(old, scratch)
        return _carried(scratch, draft)
    finally:
        remove(scratch)


def _version_of(path: Path) -> int:
    """Of its tables; 0 where it cannot be read."""
    try:
        with closing(connect(path)) as connection:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error:
        return 0


def _copy_upgraded(old: Path, scratch: Path) -> None:
    remove(scratch)
    make_file(scratch)
    try:
        with closing(connect(old)) as source, closing(connect(scratch)) as copy:
            source.backup(copy)
            upgrade(copy)
    except sqlite3.Error as exc:
        raise translated(exc) from exc


def _carried(old: Path, draft: Path) -> dict[str, int]:
    with closing(connect(draft)) as fresh, closing(connect(old)) as source:
        fresh.execute("PRAGMA foreign_keys = ON")
        taken = {table: _carry(source, fresh, table) for table in CARRIED}
        for key in CARRIED_KEYS:
            for row in _rows(source, "SELECT key, value FROM meta WHERE key = ?", key):
                fresh.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", row)
        return taken


def swap(draft: Path, path: Path, now: datetime) -> Path | None:
    """Puts the closed journal `draft` in the place of `path`; where the other is now, if there was one."""
    rebuilt = _rebuilt(path)
    draft.rename(rebuilt)
    sync_folder(path.parent)
    aside = path.with_name(f"{path.name}.replaced-{now:%Y%m%dT%H%M%S.%fZ}")
    moved = False
    for suffix in _SUFFIXES:
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
            moved = True
    sync_folder(path.parent)
    finish_swap(path)
    return aside if moved else None


def finish_swap(path: Path) -> None:
    """Does the last step of a swap that was cut short there."""
    rebuilt = _rebuilt(path)
    if rebuilt.exists() and not os.path.lexists(path):
        rebuilt.rename(path)
        sync_folder(path.parent)


def _rebuilt(path: Path) -> Path:
    return path.with_name(path.name + ".rebuilt")


def _carry(source: sqlite3.Connection, fresh: sqlite3.Connection, table: str) -> int:
    taken = 0
    fresh.execute("BEGIN")
    for row in _rows(source, f"SELECT * FROM {table}"):
        taken += _insert(fresh, table, row)
    if table == "hold":
        _carry_held_cameras(source, fresh)
    fresh.execute("COMMIT")
    return taken


def _rows(source: sqlite3.Connection, query: str, *parameters: object) -> Iterator[tuple[object, ...]]:
    try:
        yield from source.execute(query, parameters)
    except sqlite3.Error:
        return  # damaged from here on


def _insert(fresh: sqlite3.Connection, table: str, row: tuple[object, ...]) -> int:
    """A hold is another row in the new journal, and known by its id."""
    columns = [each[1] for each in fresh.execute(f"PRAGMA table_info({table})")]
    if table == "hold":
        columns, row = columns[1:], row[1:]
    marks = ", ".join("?" * len(row))
    query = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})"
    return fresh.execute(query, row).rowcount


def _carry_held_cameras(source: sqlite3.Connection, fresh: sqlite3.Connection) -> None:
    query = """SELECT h.id, c.id, c.name, c.folder FROM hold_camera
                JOIN hold h ON h.no = hold_no JOIN camera c ON c.no = camera_no"""
    for hold, camera, name, folder in _rows(source, query):
        fresh.execute(
            "INSERT OR IGNORE INTO camera (id, name, folder) VALUES (?, ?, ?)", (camera, name, folder)
        )
        fresh.execute(
            """INSERT OR IGNORE INTO hold_camera (camera_no, hold_no)
               SELECT c.no, h.no FROM camera c, hold h WHERE c.id = ? AND h.id = ?""",
            (camera, hold),
        )
    fresh.execute("UPDATE hold SET marked = 0")
