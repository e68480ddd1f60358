"""What can still be read from a damaged journal, row by row, into a new one.

A damaged page hides its rows, not the table: reading goes on behind it. Rows that the new journal's
rules refuse are left out. What matters most comes first: tokens and the ledger exist nowhere else.
"""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

log = logging.getLogger(__name__)

TABLES = ("token", "ledger", "camera", "folder", "segment", "copy", "set_aside", "uncatalogue")
WITHOUT_ROWID = frozenset({"token", "copy", "set_aside", "uncatalogue"})
STEP = 500

Row = tuple[object, ...]


def salvage(damaged: Path, fresh: sqlite3.Connection) -> int:
    """Copies what is readable; the number of rows now in `fresh`. Never raises for damage in `damaged`."""
    rows = 0
    try:
        with closing(sqlite3.connect(damaged, isolation_level=None)) as old:
            for table in TABLES:
                rows += _salvage_table(table, old, fresh)
    except sqlite3.DatabaseError as exc:
        log.warning("the damaged journal cannot be read any further: %s", exc)
    _recount(fresh)
    return rows


def _salvage_table(table: str, old: sqlite3.Connection, fresh: sqlite3.Connection) -> int:
    columns = [row[1] for row in fresh.execute(f"PRAGMA table_info({table})")]
    insert = f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(columns))})"
    wanted = ", ".join(columns)
    kept = 0
    fresh.execute("BEGIN IMMEDIATE")
    for row in _readable(table, wanted, old):
        try:
            kept += fresh.execute(insert, row).rowcount
        except sqlite3.IntegrityError as exc:
            log.debug("row of %s left out: %s", table, exc)
    fresh.execute("COMMIT")
    return kept


def _readable(table: str, wanted: str, old: sqlite3.Connection) -> Iterator[Row]:
    if table in WITHOUT_ROWID:
        yield from _until_damage(old, f"SELECT {wanted} FROM {table}", (), table)
        return
    last = next(_until_damage(old, f"SELECT coalesce(max(rowid), 0) FROM {table}", (), table), (0,))[0]
    for low in range(0, int(str(last)) + 1, STEP):
        span = f"SELECT {wanted} FROM {table} WHERE rowid > ? AND rowid <= ?"
        yield from _until_damage(old, span, (low, low + STEP), table)


def _until_damage(
    old: sqlite3.Connection, query: str, parameters: tuple[int, ...], table: str
) -> Iterator[Row]:
    try:
        yield from old.execute(query, parameters)
    except sqlite3.DatabaseError as exc:
        log.warning("some rows of %s are lost: %s", table, exc)


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
