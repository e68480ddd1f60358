"""Brings a database to the schema this program knows, by numbered files, each applied once and whole.

Many hosts may start at the same moment: an advisory lock lets one at a time through, and who comes second
finds the work done. A database that is already up to date is only read, so a role without the right to
change tables is enough then.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import asyncpg

from cctv_storaged.catalog.connections import Connection
from cctv_storaged.errors import CatalogUnavailable

TABLE = "cctv_storaged_migrations"  # "schema_migrations" is what other programs call theirs

LOCK = int.from_bytes(hashlib.sha256(TABLE.encode()).digest()[:8], signed=True)
"""Key of the advisory lock: a number nobody else is likely to use."""

MIGRATION_TIMEOUT_S = 3600.0
"""Building an index over a hundred million adopted rows takes its time."""

_FILE_NAME = re.compile(r"(\d{4})_(\w+)\.sql")
_WORKS_WITH = re.compile(r"\A-- works-with: (\d+)\n")

_CREATE_TABLE = f"""
    CREATE TABLE IF NOT EXISTS {TABLE} (
        version    INTEGER PRIMARY KEY,
        name       TEXT NOT NULL,
        checksum   VARCHAR(64) NOT NULL,                     -- SHA-256 of the file, hex
        works_with INTEGER NOT NULL,                         -- the oldest version a program must know
        mark       UUID NOT NULL DEFAULT gen_random_uuid(),  -- the first row's names this very database
        applied_by TEXT NOT NULL,                            -- host
        applied_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT now()
    )"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One numbered file."""

    version: int
    name: str
    works_with: int  # programs that know the schema of this version, or a later one, can use what it makes
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What a database says was done to it."""

    version: int
    name: str
    checksum: str
    works_with: int


def shipped() -> tuple[Migration, ...]:
    """The migrations that came with this program, in order."""
    folder = resources.files("cctv_storaged.catalog") / "migrations"
    texts = {
        entry.name: entry.read_text("utf-8") for entry in folder.iterdir() if entry.name.endswith(".sql")
    }
    return tuple(parsed(name, text) for name, text in sorted(texts.items()))


def parsed(file_name: str, text: str) -> Migration:
    """A migration from its file; ValueError where the name or the first line is not as it must be."""
    named = _FILE_NAME.fullmatch(file_name)
    works_with = _WORKS_WITH.match(text)
    if named is None or works_with is None:
        raise ValueError(f"{file_name}: needs a name like 0001_words.sql and a first line `-- works-with: N`")
    return Migration(version=int(named[1]), name=named[2], works_with=int(works_with[1]), sql=text)


def outstanding(known: Sequence[Migration], applied: Sequence[Applied]) -> tuple[Migration, ...]:
    """What is still to be applied, in order; CatalogUnavailable where this program must not touch it."""
    newest_known = known[-1].version
    done = {entry.version: entry for entry in applied}
    for entry in applied:
        if entry.works_with > newest_known:
            raise CatalogUnavailable(_too_new(entry, newest_known))
    for migration in known:
        twin = done.get(migration.version)
        if twin is not None and twin.checksum != migration.checksum:
            raise CatalogUnavailable(_different(migration, twin))
    missing = tuple(migration for migration in known if migration.version not in done)
    if missing and done and missing[0].version < max(done):
        raise CatalogUnavailable(_hole(missing[0], max(done)))
    return missing


async def look(connection: Connection, known: Sequence[Migration]) -> tuple[Migration, ...]:
    """What is still to be applied to this database, changing nothing."""
    return outstanding(known, await _applied(connection))


async def bring_up_to_date(
    connection: Connection, known: Sequence[Migration], *, applied_by: str
) -> tuple[Migration, ...]:
    """Apply what is missing, each file in a transaction of its own; which ones these were."""
    done: list[Migration] = []
    while await look(connection, known):
        migration = await _apply_next(connection, known, applied_by)
        if migration is not None:
            done.append(migration)
    return tuple(done)


async def mark_of(connection: Connection) -> str:
    """What distinguishes this database from every other, also from one made anew under the same name.

    A backup that was restored and a standby that took over carry the mark of the database they come from, and
    may lack what was told to it last; hence its place and the timeline of its server as well.
    """
    mark = await connection.fetchval(f"SELECT mark FROM {TABLE} ORDER BY version LIMIT 1")
    return f"{mark} {await _place_of(connection)}".rstrip()


async def _place_of(connection: Connection) -> str:
    """Cluster, database and timeline; nothing where the server keeps that to itself."""
    try:
        return str(
            await connection.fetchval(
                """SELECT concat_ws('/', system_identifier, oid, timeline_id)
                     FROM pg_control_system(), pg_control_checkpoint(), pg_database
                    WHERE datname = current_database()"""
            )
        )
    except (asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedFunctionError):
        return ""


async def _apply_next(
    connection: Connection, known: Sequence[Migration], applied_by: str
) -> Migration | None:
    """Apply the first missing file; None if another host was quicker."""
    # Read committed, whatever the database's default: after the wait, what the host before us did must show.
    async with connection.transaction(isolation="read_committed"):
        await _lock(connection)
        # Creating comes before looking. Waiting for an advisory lock does not renew what a session remembers
        # of table names, and one that looked before the wait would still think the table missing.
        await connection.execute(_CREATE_TABLE)
        missing = await look(connection, known)
        if not missing:
            return None
        await connection.execute("SET LOCAL statement_timeout = 0")
        await connection.execute(missing[0].sql, timeout=MIGRATION_TIMEOUT_S)
        await _note(connection, missing[0], applied_by)
        return missing[0]


async def _lock(connection: Connection) -> None:
    """Wait for our turn, as long as the session's lock_timeout allows; held until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)


async def _note(connection: Connection, migration: Migration, applied_by: str) -> None:
    await connection.execute(
        f"INSERT INTO {TABLE} (version, name, checksum, works_with, applied_by) VALUES ($1, $2, $3, $4, $5)",
        migration.version,
        migration.name,
        migration.checksum,
        migration.works_with,
        applied_by,
    )


async def _applied(connection: Connection) -> tuple[Applied, ...]:
    if await connection.fetchval("SELECT to_regclass($1) IS NULL", TABLE):
        return ()
    rows = await connection.fetch(f"SELECT version, name, checksum, works_with FROM {TABLE} ORDER BY version")
    return tuple(Applied(**row) for row in rows)


def _too_new(entry: Applied, newest_known: int) -> str:
    return (
        f"the catalog's schema has version {entry.version} ({entry.name}) and this program knows only "
        f"version {newest_known}: update cctv-storaged on this host"
    )


def _different(migration: Migration, entry: Applied) -> str:
    return (
        f"the catalog's schema version {entry.version} ({entry.name}) was made by another text than this "
        f"program's {migration.version:04}_{migration.name}.sql: two builds differ, use one on all hosts"
    )


def _hole(missing: Migration, newest: int) -> str:
    return (
        f"the catalog's schema has version {newest} but never got version {missing.version} "
        f"({missing.name}): restore the database, or apply the missing file by hand"
    )
