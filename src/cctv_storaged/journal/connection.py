"""The journal's only SQLite connection: aiosqlite's thread, used for whole pieces of work at a time.

aiosqlite costs two thread hops a call, so a batch of a hundred statements goes over as one function.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import aiosqlite

T = TypeVar("T")

PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # a state that permits deleting footage must survive a power cut
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -16384",  # 16 MiB, of the 120 MB the daemon may take
    "PRAGMA wal_autocheckpoint = 1000",
    f"PRAGMA journal_size_limit = {64 * 2**20}",
)


class Connection(aiosqlite.Connection):
    """An aiosqlite connection that also runs a function on its thread, with the sqlite3 connection."""

    def __init__(self, path: Path) -> None:
        super().__init__(lambda: connect(path), iter_chunk_size=64)
        self._thread.name = "journal"

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work` runs alone on the connection's thread; its result or exception comes back."""
        result: T = await self._execute(work, self._conn)  # type: ignore[no-untyped-call]  # unannotated there
        return result


def connect(path: Path) -> sqlite3.Connection:
    """A plain connection with the journal's pragmas, transactions begun and ended by us alone."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    try:
        for pragma in PRAGMAS:
            connection.execute(pragma)
    except BaseException:
        connection.close()
        raise
    return connection
