"""Opening the journal file: made, checked, brought to today's schema, or put aside and started anew.

1. No file: a new journal.
2. A file that does not pass its check is moved aside together with its -wal and -shm, and what can still
   be read from it is carried over into a new one (salvage.py). The start-up scan then finds the rest:
   a file that passes may still have forgotten commits (a damaged WAL ends early without an error), which
   is why the scan follows every start, not only a bad one.
"""

import logging
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path

from cctv_storaged.errors import JournalBroken
from cctv_storaged.journal.connection import connect
from cctv_storaged.journal.faults import concerns_the_journal, is_damage, translated
from cctv_storaged.journal.salvage import salvage

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
FULL_CHECK_BYTES = 256 * 2**20
"""A journal closed cleanly and larger than this is not read whole at start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How the journal came to be open."""

    created: bool = False
    recovered_from: Path | None = None  # the damaged file, kept for people
    salvaged_rows: int = 0
    unclean: bool = False  # the last process did not close it


def prepare(path: Path, now: datetime) -> Opening:
    """Leaves a sound journal of today's schema at `path`; blocking. Raises JournalBroken where it cannot."""
    try:
        if not path.exists():
            _put_aside_strays(path, now)
            _create(path)
            return Opening(created=True)
        unclean = not _closed_cleanly(path)
        if (damage := _damage(path, whole=unclean or path.stat().st_size <= FULL_CHECK_BYTES)) is None:
            _open_for_business(path)
            return Opening(unclean=unclean)
        return _start_anew(path, now, damage)
    except sqlite3.Error as exc:
        raise translated(exc) from exc
    except OSError as exc:
        raise JournalBroken(f"journal {path}: {exc}; check data_dir and its permissions") from exc


def _start_anew(path: Path, now: datetime, damage: str) -> Opening:
    aside = _put_aside(path, now)
    log.error(
        "journal damaged (%s): kept as %s, starting a new one; the scan finds what it forgot", damage, aside
    )
    _create(path)
    with closing(connect(path)) as fresh:
        rows = salvage(aside, fresh)
    log.warning("carried %d rows over from the damaged journal", rows)
    return Opening(recovered_from=aside, salvaged_rows=rows, unclean=True)


def _create(path: Path) -> None:
    schema = files("cctv_storaged.journal").joinpath("schema.sql").read_text(encoding="utf-8")
    draft = path.with_name(path.name + ".new")
    _remove(draft)
    with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.executescript(f"BEGIN;\n{schema}\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;")
    draft.rename(path)  # a kill before this line leaves no half-made journal


def _damage(path: Path, *, whole: bool) -> str | None:
    """What is wrong with the file; None when it is sound. Both a bad answer and an error count."""
    try:
        with closing(connect(path)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                raise JournalBroken(
                    f"journal {path} has schema {version}, this version knows {SCHEMA_VERSION}: "
                    "it was written by a newer cctv-storaged; install that one again"
                )
            tables = connection.execute(
                "SELECT count(*) FROM sqlite_schema WHERE name = 'segment'"
            ).fetchone()[0]
            if version == 0 or not tables:
                return "the schema is gone"
            if whole:
                answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                return None if answer == "ok" else str(answer)
    except sqlite3.DatabaseError as exc:
        if is_damage(exc) or not concerns_the_journal(exc):
            return str(exc)
        raise
    return None


def _closed_cleanly(path: Path) -> bool:
    try:
        with closing(connect(path)) as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = 'closed_cleanly'").fetchone()
    except sqlite3.DatabaseError:
        return False  # the check that follows says what is wrong
    return row is not None and row[0] == "1"


def _open_for_business(path: Path) -> None:
    with closing(connect(path)) as connection:
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('closed_cleanly', '0')")


def _put_aside(path: Path, now: datetime) -> Path:
    aside = path.with_name(f"{path.name}.corrupt-{now:%Y%m%dT%H%M%S.%fZ}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def _put_aside_strays(path: Path, now: datetime) -> None:
    """A -wal without its database would be replayed into the new one."""
    if any(path.with_name(path.name + suffix).exists() for suffix in ("-wal", "-shm")):
        _put_aside(path, now)


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
