"""What a SQLite error means for the journal: one table, after trials with injected errors.

A full disk rolls back cleanly and may pass. After a failed fsync SQLite takes the next commit as if
nothing had been, so an I/O error makes the whole connection untrustworthy (docs/design/journal.md).
"""

import sqlite3

from cctv_storaged.errors import Held, JournalBroken, JournalError, JournalFull

_REMEDIES = {
    sqlite3.SQLITE_IOERR: "the disk failed, see the kernel's log; the next start checks the journal",
    sqlite3.SQLITE_CORRUPT: "the next start puts the file aside and carries over what can be read",
    sqlite3.SQLITE_NOTADB: "the next start puts the file aside and carries over what can be read",
    sqlite3.SQLITE_CANTOPEN: "check data_dir and its permissions, and the limit of open files",
    sqlite3.SQLITE_READONLY: "give this user the right to write to data_dir and to every file in it",
    sqlite3.SQLITE_PERM: "give this user the right to write to data_dir and to every file in it",
    sqlite3.SQLITE_BUSY: "another program has the journal open; close it",
    sqlite3.SQLITE_LOCKED: "another program has the journal open; close it",
    sqlite3.SQLITE_PROTOCOL: "another program has the journal open; close it",
    sqlite3.SQLITE_NOMEM: "there is no memory left for the journal",
}
"""What to do about each primary error code that breaks the journal; the others are one operation's own."""

_NO_ROOM = {
    sqlite3.SQLITE_FULL: "free some room on the disk that holds data_dir",
    sqlite3.SQLITE_IOERR_WRITE: "the disk refused a write: over a quota, a file size limit, or failing",
}
"""EFBIG and EDQUOT arrive as SQLITE_IOERR_WRITE; the transaction was rolled back and the log is whole."""


_HELD = "a hold is in force"
"""What the trigger `held_stays` says (schema.sql)."""


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is at fault, so that starting anew needs its recovery first."""
    return _primary(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def is_no_room(error: sqlite3.Error) -> bool:
    """Whether there was no room: nothing changed, and it may pass."""
    return _code(error) in _NO_ROOM


def concerns_the_journal(error: BaseException) -> bool:
    """Whether the error is the file's or the disk's, and not of one operation alone."""
    return isinstance(error, sqlite3.Error) and (is_no_room(error) or _primary(error) in _REMEDIES)


def refused(error: Exception) -> Exception:
    """What an operation's caller gets: an error of ours where a rule of the schema is in the way."""
    if isinstance(error, sqlite3.IntegrityError) and _HELD in str(error):
        return Held(f"{_HELD} over footage that should go; release it first")
    return error


def translated(error: sqlite3.Error) -> JournalError:
    """Our error for one of SQLite's, with what to do about it."""
    text = f"journal: {error} ({getattr(error, 'sqlite_errorname', 'no code')})"
    if is_no_room(error):
        return JournalFull(f"{text}; {_NO_ROOM[_code(error)]}")
    remedy = _REMEDIES.get(_primary(error))
    return JournalBroken(f"{text}; {remedy}" if remedy else text)


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0) or 0)


def _primary(error: sqlite3.Error) -> int:
    return _code(error) & 0xFF
