"""The journal's tables: made in a new file, recognised and checked in one that is there."""

import os
import sqlite3
from contextlib import closing
from importlib.resources import files
from pathlib import Path

from cctv_storaged.errors import JournalBroken
from cctv_storaged.journal.chain import Chain
from cctv_storaged.journal.connection import PAGE_BYTES

SCHEMA_VERSION = 4
FILE_MODE = 0o640
"""At most, whatever the umask: where there is footage, and who asked for it, is not for everybody."""
EARLIEST_VERSION = 1
"""Journals since this one are brought up to date at start, by upgrade_N.sql for each version N on the way."""


def create(path: Path) -> None:
    """An empty journal at `path`, in WAL mode, on the disk when this returns; whatever was there is gone."""
    remove(path)
    make_file(path)
    schema = files("cctv_storaged.journal").joinpath("schema.sql").read_text(encoding="utf-8")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.executescript(f"BEGIN;\n{schema}\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;")
        say_closed(connection)
        connection.execute("PRAGMA journal_mode = WAL")


def make_file(path: Path) -> None:
    """An empty file for SQLite, whose logs get the same rights."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, FILE_MODE))


def upgrade(connection: sqlite3.Connection) -> bool:
    """Brings a sound journal of an earlier version up to date, in one transaction; whether it was earlier."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version >= SCHEMA_VERSION:
        return False
    scripts = [
        files("cctv_storaged.journal").joinpath(f"upgrade_{step}.sql").read_text(encoding="utf-8")
        for step in range(version + 1, SCHEMA_VERSION + 1)
    ]
    connection.create_function("chained", 9, Chain())
    try:
        connection.executescript(
            "\n".join(["BEGIN IMMEDIATE;", *scripts, f"PRAGMA user_version = {SCHEMA_VERSION};", "COMMIT;"])
        )
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return True


def say_open(connection: sqlite3.Connection) -> None:
    """The file says that a process is at work on it, so that its unclean end is noticed."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('closed_cleanly', '0')")


def say_closed(connection: sqlite3.Connection) -> None:
    """The file says that whoever worked on it had finished."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('closed_cleanly', '1')")


def closed_cleanly(connection: sqlite3.Connection) -> bool:
    """What the file says of its last process."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'closed_cleanly'").fetchone()
    return row is not None and row[0] == "1"


def remove(path: Path) -> None:
    """A database file with all that SQLite may have put beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """A rename is on the disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def damage_in(connection: sqlite3.Connection, *, whole: bool) -> str | None:
    """What is wrong with the tables, None when nothing is; `whole` reads every page.

    Raises sqlite3.DatabaseError, and JournalBroken for a later schema, which is not damage at all.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise JournalBroken(
            f"the journal has schema {version} and this cctv-storaged knows {SCHEMA_VERSION}: "
            "it was written by a newer version; install that one again"
        )
    row = connection.execute(
        "SELECT count(*) FROM sqlite_schema WHERE name IN ('segment', 'copy')"
    ).fetchone()
    if version == 0 or row[0] != 2:
        return "its tables are gone"
    if whole:
        answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        return None if answer == "ok" else str(answer)
    return None
