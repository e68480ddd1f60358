"""Fills a closed journal with rows by SQL: for what only shows once there are many.

Tables, indexes and triggers are the daemon's own. Indexes are dropped and made anew from their own
statements, and what triggers count is counted once at the end, since row by row it would take hours.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

_QUICKLY = (
    "PRAGMA journal_mode = MEMORY",
    "PRAGMA synchronous = OFF",
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA cache_size = -2000000",
    "PRAGMA temp_store = MEMORY",
)
_COUNTS = (
    """UPDATE camera SET (segments, bytes, longest_us) = (
           SELECT count(*), coalesce(sum(size_bytes), 0), coalesce(max(end_us - start_us), 0)
             FROM segment WHERE camera_no = camera.no)""",
    "DELETE FROM tally",
    "INSERT INTO tally SELECT backend, state, count(*), sum(size_bytes) FROM copy GROUP BY backend, state",
)


@contextlib.contextmanager
def filling(journal: Path) -> Iterator[sqlite3.Connection]:
    """A connection to insert rows with; when the block is left, everything is as the daemon keeps it."""
    with contextlib.closing(sqlite3.connect(journal, isolation_level=None)) as connection:
        for pragma in _QUICKLY:
            connection.execute(pragma)
        laid_aside = _lay_aside(connection)
        connection.execute("BEGIN")
        yield connection
        connection.execute("COMMIT")
        for statement in (*laid_aside["index"], *_COUNTS, *laid_aside["trigger"]):
            connection.execute(statement)
        connection.execute("PRAGMA journal_mode = WAL")


def _lay_aside(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """Drops indexes and triggers; the statements that make them again."""
    laid_aside: dict[str, list[str]] = {}
    for kind in ("index", "trigger"):
        query = "SELECT name, sql FROM sqlite_schema WHERE type = ? AND sql IS NOT NULL"
        found = connection.execute(query, (kind,)).fetchall()
        for name, _ in found:
            connection.execute(f"DROP {kind} {name}")
        laid_aside[kind] = [sql for _, sql in found]
    return laid_aside
