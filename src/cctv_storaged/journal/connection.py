"""The journal's only SQLite connection: aiosqlite's thread, used for whole pieces of work at a time.

aiosqlite costs two thread hops a call, so a batch of a hundred statements goes over as one function.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import aiosqlite

T = TypeVar("T")

PAGE_BYTES = 4096
"""Page size of every journal; salvage relies on it where the file no longer says so itself."""

PRAGMAS = (
    # Nobody else may open the file: SQLite before 3.51.3 can lose a commit to a checkpoint by a second
    # connection. It also keeps the WAL's index in memory, where a full disk cannot hurt it.
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # a state that permits deleting footage must survive a power cut
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -16384",  # 16 MiB, of the 120 MB the daemon may take
    "PRAGMA wal_autocheckpoint = 0",  # it would keep its I/O errors to itself: store.py folds the log in
)


class Connection(aiosqlite.Connection):
    """An aiosqlite connection over one that is open already, which also runs a function on its thread."""

    def __init__(self, opened: sqlite3.Connection) -> None:
        super().__init__(lambda: opened, iter_chunk_size=64)
        self._thread.name = "journal"

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work` runs alone on the connection's thread; its result or exception comes back."""
        result: T = await self._execute(work, self._conn)  # type: ignore[no-untyped-call]  # unannotated there
        return result


def connect(path: Path) -> sqlite3.Connection:
    """A plain connection that has not touched the file yet; transactions are begun and ended by us alone."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)


def configure(connection: sqlite3.Connection) -> None:
    """Sets the journal's pragmas, and so reads the file for the first time."""
    for pragma in PRAGMAS:
        connection.execute(pragma)


def log_path(path: Path) -> Path:
    """The write-ahead log that belongs to the database file `path`."""
    return path.with_name(path.name + "-wal")


async def to_the_end(work: Awaitable[T]) -> T:
    """Waits for `work` even when cancelled, and is cancelled only then: nothing is left half done."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # seen: whoever cancelled does not ask for it any more
        raise
