"""What a SQLite error means for the journal: one table, after trials with injected errors.

A full disk rolls back cleanly and may pass. After a failed fsync SQLite takes the next commit as if
nothing had been, so an I/O error makes the whole connection untrustworthy (docs/design/journal.md).
"""

import sqlite3

from cctv_storaged.errors import JournalBroken, JournalError, JournalFull

_NO_ROOM = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR_WRITE,  # EFBIG and EDQUOT arrive as this; the transaction was rolled back
    }
)
_BROKEN_PRIMARY = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOMEM,
    }
)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is at fault, so that starting anew needs its recovery first."""
    return _primary(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def concerns_the_journal(error: BaseException) -> bool:
    """Whether the error is the file's or the disk's, and not of one operation alone."""
    return isinstance(error, sqlite3.Error) and (
        _code(error) in _NO_ROOM or _primary(error) in _BROKEN_PRIMARY
    )


def translated(error: sqlite3.Error) -> JournalError:
    """Our error for one of SQLite's."""
    text = f"journal: {error} ({getattr(error, 'sqlite_errorname', 'no code')})"
    if _code(error) in _NO_ROOM:
        return JournalFull(f"{text}; free some room on the disk that holds data_dir")
    return JournalBroken(text)


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0) or 0)


def _primary(error: sqlite3.Error) -> int:
    return _code(error) & 0xFF
