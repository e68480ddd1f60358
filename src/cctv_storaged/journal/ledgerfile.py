"""The ledger of a journal that no daemon has open: only read, whatever state it is in. Blocking.

SQLite would take the write-ahead log into the file, and `opening` would recover a damaged one: here the file
and its log stay byte for byte what they are.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from cctv_storaged.errors import LedgerError
from cctv_storaged.journal.chain import BoundLine
from cctv_storaged.journal.connection import PAGE_BYTES, log_path
from cctv_storaged.journal.ledgerlines import HEAD, KEPT_SQL, LINE_COLUMNS, archived_to, bound_from, recalled
from cctv_storaged.journal.schema import SCHEMA_VERSION
from cctv_storaged.journal.wal import read_log

_OUT_OF_REACH = ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_BUSY", "SQLITE_PERM")
CHAINED_SINCE = 3
"""Journals of an earlier schema have no chain yet."""


class JournalInUse(LedgerError):
    """A daemon is at work on it: only that one can be asked."""


class OtherVersion(LedgerError):
    """Another version's journal: nothing is wrong with it, and this one cannot prove it."""


class ClosedLedger:
    """What a journal's file says of the ledger. Raises LedgerError where it is damaged."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db = db
        self._path = path

    @property
    def archived(self) -> int:
        """Up to this number archives have every line."""
        return archived_to(self._db)[0]

    @property
    def head(self) -> str | None:
        """What was remembered of the newest head."""
        return recalled(self._db, HEAD)

    def lines(self, after: int) -> Iterator[BoundLine]:
        """Lines with numbers above `after`."""
        query = f"SELECT {LINE_COLUMNS} FROM ledger WHERE no > ? ORDER BY no"
        return self._lines(query, after)

    def kept(self, up_to: int) -> Iterator[BoundLine]:
        """Lines that stay though archives have them."""
        query = f"SELECT {LINE_COLUMNS} FROM ledger WHERE no <= ? AND kind IN {KEPT_SQL} ORDER BY no"
        return self._lines(query, up_to)

    def _lines(self, query: str, *parameters: object) -> Iterator[BoundLine]:
        try:
            for row in self._db.execute(query, parameters):
                yield bound_from(row)
        except sqlite3.DatabaseError as exc:
            raise LedgerError(f"the journal {self._path} is damaged: {exc}") from exc


@contextmanager
def closed_ledger(path: Path) -> Iterator[ClosedLedger]:
    """The ledger in the journal file `path`; no daemon can start meanwhile.

    Raises JournalInUse, LedgerError for what is damaged or of another version, OSError.
    """
    with _locked(path.parent), _opened(path) as db:
        try:
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            if version > SCHEMA_VERSION:
                raise OtherVersion(f"the journal {path} has schema {version}: a newer version wrote it")
            if version < CHAINED_SINCE:
                raise OtherVersion(f"the journal {path} has no chain yet: start this version once")
            yield ClosedLedger(db, path)
        except sqlite3.DatabaseError as exc:
            if exc.sqlite_errorname.startswith(_OUT_OF_REACH):
                raise OSError(
                    f"the journal {path}: {exc}; may this user read it, and write to its folder?"
                ) from exc
            raise LedgerError(f"the journal {path} is damaged: {exc}") from exc


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Others may read as well; a daemon takes the lock for itself (journal.py)."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # no daemon ever ran here
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    except BlockingIOError as exc:
        raise JournalInUse(f"a daemon is at work in {folder}") from exc
    finally:
        os.close(descriptor)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    apart = path.with_name(path.name + ".damaged")
    if apart.exists():
        raise LedgerError(f"the journal was found damaged and is {apart} now: the next start recovers it")
    size_bytes = path.stat().st_size  # tells a missing file from one that SQLite cannot open
    if size_bytes < PAGE_BYTES:
        raise LedgerError(f"the journal {path} is damaged: it is shorter than one page")
    log, index = log_path(path), path.with_name(path.name + "-shm")
    has_log = log.exists() and log.stat().st_size > 0
    if has_log and read_log(log, PAGE_BYTES).damaged:
        raise LedgerError(f"the journal {path} is damaged: commits in its log stand behind damage")
    had_index = index.exists()
    how = "mode=ro" if has_log else "mode=ro&immutable=1"  # without a log there is nothing but the file
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)) as db:
            yield db
    finally:
        if has_log and not had_index:
            index.unlink(missing_ok=True)  # SQLite's own, to read the log by
