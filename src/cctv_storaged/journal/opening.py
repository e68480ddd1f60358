"""Opening the journal file: made, checked, or put aside and started anew from what can be read of it.

1. No file: a new journal, made under another name and renamed when it is whole.
2. A file is checked. One that was not closed by its last process is read whole, a large one that was is
   not. Its write-ahead log is looked at before SQLite does, which would cut it off at the first damage.
3. A damaged file is renamed to journal.db.damaged together with its log, a new journal is made from it
   under another name (salvage.py), that one is renamed to journal.db, and the damaged files to
   journal.db.corrupt-TIME. A kill at any point of this is noticed by the next start, which goes on.

A journal that passes may still have forgotten commits (a log cut off at its end shows nothing), which is
why the scan follows every start, not only a bad one.
"""

import errno
import logging
import os
import sqlite3
import stat
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cctv_storaged.errors import JournalBroken, JournalFull
from cctv_storaged.journal.connection import PAGE_BYTES, configure, connect, log_path
from cctv_storaged.journal.faults import concerns_the_journal, is_damage, translated
from cctv_storaged.journal.ledgerlines import note_recovery
from cctv_storaged.journal.salvage import recover
from cctv_storaged.journal.schema import (
    SCHEMA_VERSION,
    closed_cleanly,
    create,
    damage_in,
    sync_folder,
    upgrade,
)
from cctv_storaged.journal.swapping import finish_swap
from cctv_storaged.journal.wal import read_log

log = logging.getLogger(__name__)

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

FULL_CHECK_BYTES = 256 * 2**20
"""A journal closed cleanly and larger than this is not read whole at start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How the journal came to be open."""

    created: bool = False
    unclean: bool = False  # the last process did not close it
    damage: str | None = None  # what was found wrong with it
    recovered_from: Path | None = None  # the damaged file, kept for people
    salvaged_rows: int = 0


def prepare(path: Path, now: datetime) -> tuple[sqlite3.Connection, Opening]:
    """A connection to a sound journal of today's schema at `path`; blocking.

    Raises JournalBroken, and JournalFull where room is needed for a new file.
    """
    try:
        return _prepare(path, now)
    except sqlite3.Error as exc:
        error = translated(exc)
        raise type(error)(f"{path}: {error}") from exc
    except OSError as exc:
        if exc.errno in _NO_ROOM:
            raise JournalFull(f"journal {path}: {exc}; free some room there") from exc
        raise JournalBroken(f"journal {path}: {exc}; check data_dir and its permissions") from exc


def _prepare(path: Path, now: datetime) -> tuple[sqlite3.Connection, Opening]:
    if _set_apart(path).exists():
        if not os.path.lexists(path):
            return _start_anew(path, now, "an earlier recovery was interrupted")
        _keep_aside(_set_apart(path), path, now)  # all but this was done
    finish_swap(path)
    if not os.path.lexists(path):
        _keep_aside(path, path, now)  # a log without its database would be replayed into the new one
        _make(path)
        return _opened(path), Opening(created=True)
    _require_writable_file(path)
    return _checked(path, now)


def _checked(path: Path, now: datetime) -> tuple[sqlite3.Connection, Opening]:
    has_log = log_path(path).exists()
    connection = connect(path)
    try:
        damage = _damage_outside_sqlite(path) or _damage_to_sqlite(connection, path)
        if damage is None:
            unclean = not closed_cleanly(connection)
            if upgrade(connection):
                log.info("journal %s: brought to schema %d", path, SCHEMA_VERSION)
            forgot = "it was not closed and its write-ahead log is gone" if unclean and not has_log else None
            if forgot:
                log.warning("journal %s: %s; what it forgot the scan finds", path, forgot)
            return connection, Opening(unclean=unclean, damage=forgot)
        _put_apart(path)  # before closing: SQLite leaves a file alone that was moved, and so its log as well
    except BaseException:
        connection.close()
        raise
    connection.close()
    return _start_anew(path, now, damage)


def _start_anew(path: Path, now: datetime, damage: str) -> tuple[sqlite3.Connection, Opening]:
    log.error("journal %s is damaged (%s): starting anew from what can be read of it", path, damage)
    _put_apart(path)  # where a kill left the log behind
    draft = path.with_name(path.name + ".new")
    rows = recover(_set_apart(path), draft, lambda db, rows: note_recovery(db, damage, rows, now))
    draft.rename(path)
    sync_folder(path.parent)
    aside = _keep_aside(_set_apart(path), path, now)
    log.warning("%d rows carried over; the damaged journal is kept as %s", rows, aside)
    return _opened(path), Opening(damage=damage, recovered_from=aside, salvaged_rows=rows, unclean=True)


def _make(path: Path) -> None:
    draft = path.with_name(path.name + ".new")
    create(draft)
    draft.rename(path)  # a kill before this line leaves no half-made journal
    sync_folder(path.parent)


def _opened(path: Path) -> sqlite3.Connection:
    connection = connect(path)
    try:
        configure(connection)
    except BaseException:
        connection.close()
        raise
    return connection


# Checking


def _require_writable_file(path: Path) -> None:
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise JournalBroken(f"journal {path} is not a regular file; move it away and start again")
    os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))  # SQLite would quietly read a file it may not write


def _damage_outside_sqlite(path: Path) -> str | None:
    """What SQLite would answer by throwing away the log."""
    if path.stat().st_size < PAGE_BYTES:
        return "the file is shorter than one page"
    log_read = read_log(log_path(path), PAGE_BYTES)
    if log_read.damaged:
        return f"{log_read.unreadable_commits} commits in its log stand behind damage"
    return None


def _damage_to_sqlite(connection: sqlite3.Connection, path: Path) -> str | None:
    """Both a bad answer and an error count."""
    try:
        configure(connection)
        size_bytes = path.stat().st_size
        whole = not closed_cleanly(connection) or size_bytes <= FULL_CHECK_BYTES
        if whole and size_bytes > FULL_CHECK_BYTES:
            log.warning("journal %s was not closed: all %d MB are read first", path, size_bytes // 10**6)
        return damage_in(connection, whole=whole)
    except sqlite3.DatabaseError as exc:
        if is_damage(exc) or not concerns_the_journal(exc):
            return str(exc)
        raise


# Moving


def _set_apart(path: Path) -> Path:
    """Where a damaged file stands until a new journal has been made from it."""
    return path.with_name(path.name + ".damaged")


def _put_apart(path: Path) -> None:
    """The database first: a log that stayed behind is found again, a database would be taken for sound."""
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(path.with_name(f"{path.name}.damaged{suffix}"))
    sync_folder(path.parent)


def _keep_aside(stem: Path, path: Path, now: datetime) -> Path:
    """Gives `stem` and its log names nothing looks for; the database last, as a start notices that."""
    aside = path.with_name(f"{path.name}.corrupt-{now:%Y%m%dT%H%M%S.%fZ}")
    for suffix in ("-wal", "-shm", ""):
        part = stem.with_name(stem.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    sync_folder(path.parent)
    return aside
