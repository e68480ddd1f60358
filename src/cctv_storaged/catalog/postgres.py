"""The catalog in PostgreSQL (13 or later): rows of this host in, rows of the fleet out.

Each statement is a transaction of its own and can be given twice, so a lost answer to a COMMIT harms nobody.
The tables are in migrations/; which of them a database has is migration.py's matter.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import TypeVar
from uuid import UUID

import asyncpg

from cctv_storaged.catalog import exports, hosts, migration
from cctv_storaged.catalog.base import (
    CatalogCopy,
    CatalogPage,
    CatalogQuery,
    CatalogRow,
    RefusedRow,
    UpsertResult,
)
from cctv_storaged.catalog.connections import Connection, Connections, PostgresTarget
from cctv_storaged.catalog.escaping import escaped, unescaped
from cctv_storaged.catalog.exports import CatalogExport
from cctv_storaged.catalog.failures import RowsRefused
from cctv_storaged.catalog.hosts import Heard, HostWord, KnownHost
from cctv_storaged.errors import CatalogUnavailable

Result = TypeVar("Result")

BATCH_ROWS = 1000
"""Rows per statement: large enough that the round trip does not count, small enough to stay in memory."""

OLDEST_SERVER = 130000  # server_version_num; gen_random_uuid() and DROP DATABASE … FORCE came with 13

_NOT_OURS = "the row is another host's"
_TAKEN = "the catalog has a row of this id that another host or program wrote"

# Copies that are named no more go, the others are written over. It is one statement, so all of it happens or
# none; the foreign key is looked at when it ends, so copies may come with their segment.
_UPSERT = """
WITH given AS (
    SELECT *
      FROM unnest($2::uuid[], $3::uuid[], $4::timestamptz[], $5::timestamptz[], $6::int[], $7::bigint[],
                  $8::text[], $9::text[], $10::text[], $11::timestamptz[], $12::text[])
        AS g (id, camera_id, start_time, end_time, duration_seconds, size_bytes,
              storage_backend, storage_path, checksum, created_at, flags)
), kept AS (
    INSERT INTO segments (id, host_id, camera_id, start_time, end_time, duration_seconds, size_bytes,
                          storage_backend, storage_path, checksum, created_at, flags)
    SELECT id, $1, camera_id, start_time, end_time, duration_seconds, size_bytes,
           storage_backend, storage_path, checksum, coalesce(created_at, now()),
           ARRAY(SELECT jsonb_array_elements_text(flags::jsonb))  -- an array of arrays must be even
      FROM given
        ON CONFLICT (id) DO UPDATE SET
           camera_id = excluded.camera_id,
           start_time = excluded.start_time,
           end_time = excluded.end_time,
           duration_seconds = excluded.duration_seconds,
           size_bytes = excluded.size_bytes,
           storage_backend = excluded.storage_backend,
           storage_path = excluded.storage_path,
           checksum = excluded.checksum,
           created_at = excluded.created_at,
           flags = excluded.flags
     WHERE segments.host_id = excluded.host_id
    RETURNING id
), copies AS (
    SELECT c.*
      FROM unnest($13::uuid[], $14::text[], $15::text[], $16::text[], $17::timestamptz[], $18::timestamptz[])
        AS c (segment_id, backend, path, state, stored_at, verified_at)
      JOIN kept ON kept.id = c.segment_id
), dropped AS (
    DELETE FROM segment_copies AS old
     USING kept
     WHERE old.segment_id = kept.id
       AND NOT EXISTS (SELECT FROM copies
                        WHERE copies.segment_id = old.segment_id AND copies.backend = old.backend)
), written AS (
    INSERT INTO segment_copies (segment_id, backend, path, state, stored_at, verified_at)
    SELECT segment_id, backend, path, state, stored_at, verified_at FROM copies
        ON CONFLICT (segment_id, backend) DO UPDATE SET
           path = excluded.path,
           state = excluded.state,
           stored_at = excluded.stored_at,
           verified_at = excluded.verified_at
)
SELECT id FROM kept
"""

_REMOVE = """
WITH removed AS (
    DELETE FROM segments WHERE id = ANY ($1::uuid[]) AND host_id = $2 RETURNING 1
)
SELECT count(*) FROM removed
"""


def _overlapping(begins: str) -> str:
    """The first rows after the cursor that overlap the span and begin in one range of times."""
    return f"""(
        SELECT * FROM segments
         WHERE camera_id = $1 AND start_time < $3::timestamptz AND end_time > $2::timestamptz
           AND {begins}
           AND start_time >= coalesce($4::timestamptz, '-infinity')
           AND (start_time, id) > (coalesce($4::timestamptz, '-infinity'),
                                   coalesce($5::uuid, '00000000-0000-0000-0000-000000000000'))
         ORDER BY start_time, id
         LIMIT $6
    )"""


# Three ranges of start times that together leave nothing out and hold nothing twice: segments of any length
# that begin near the span, longer ones that begin up to a day before it, and those of more than a day. Each
# has an index that leads right to its first row (the reason is told in 0001_segments_and_exports.sql), and
# the cursor does as well, so a page costs the same wherever it lies.
_NEAR = "start_time > $2::timestamptz - INTERVAL '2 minutes'"
_EARLIER = """start_time <= $2::timestamptz - INTERVAL '2 minutes'
           AND start_time > $2::timestamptz - INTERVAL '24 hours'
           AND end_time AT TIME ZONE 'UTC' > start_time AT TIME ZONE 'UTC' + INTERVAL '2 minutes'"""
_LONG_BEFORE = """start_time <= $2::timestamptz - INTERVAL '24 hours'
           AND end_time AT TIME ZONE 'UTC' > start_time AT TIME ZONE 'UTC' + INTERVAL '24 hours'"""

# Another program may have written times that Python cannot hold (infinity): a span is shown as the nearest.
_FIND = f"""
WITH page AS (
    SELECT * FROM (
        {_overlapping(_NEAR)}
        UNION ALL
        {_overlapping(_EARLIER)}
        UNION ALL
        {_overlapping(_LONG_BEFORE)}
    ) AS found
    ORDER BY start_time, id
    LIMIT $6
)
SELECT id, coalesce(host_id, '') AS host_id, camera_id,
       greatest(start_time, '0001-01-02 00:00Z') AS start_time,
       least(end_time, '9999-12-30 00:00Z') AS end_time,
       duration_seconds, size_bytes, storage_backend, storage_path, checksum,
       CASE WHEN created_at BETWEEN '0001-01-02 00:00Z' AND '9999-12-30 00:00Z' THEN created_at END
           AS created_at,
       coalesce(flags, '{{}}') AS flags,
       ARRAY(SELECT ROW(backend, path, state, stored_at, verified_at)
               FROM segment_copies
              WHERE segment_id = page.id
              ORDER BY backend) AS copies
  FROM page
 ORDER BY page.start_time, page.id
"""


_OF_HOST = """
SELECT id, host_id, camera_id, start_time, end_time, duration_seconds, size_bytes, storage_backend,
       storage_path, checksum, created_at, coalesce(flags, '{}') AS flags,
       ARRAY(SELECT ROW(backend, path, state, stored_at, verified_at)
               FROM segment_copies
              WHERE segment_id = segments.id
              ORDER BY backend) AS copies
  FROM segments
 WHERE host_id = $1 AND id > $2
 ORDER BY id
 LIMIT $3
"""


class PostgresCatalog:
    """One host's hand on the fleet's catalog. `open` first, `close` last; connects when first needed."""

    def __init__(
        self,
        target: PostgresTarget,
        host_id: str,
        *,
        migrations: Sequence[migration.Migration] | None = None,
    ) -> None:
        if not host_id or "\0" in host_id:
            raise ValueError("the catalog needs to know which host's rows it may touch")
        self._host_id = escaped(host_id)
        self._target = target
        self._migrations = migration.shipped() if migrations is None else tuple(migrations)
        self._connections = Connections(target, application_name=f"cctv-storaged@{self._host_id}")
        self._schema_is_good = False

    async def open(self) -> None:
        """Get ready to connect; connects to nothing, so an absent server is no error here."""
        await self._connections.open()

    async def close(self) -> None:
        """Give back all connections; bounded in time even when the server hangs."""
        await self._connections.close()

    async def check(self) -> None:
        """Nothing, or CatalogUnavailable with what is wrong and what to do. Changes nothing."""
        await self._connections.run(
            "look at the schema", lambda connection: _look(connection, self._migrations)
        )

    async def healthy(self) -> bool:
        """Whether `check` finds nothing."""
        try:
            await self.check()
        except CatalogUnavailable:
            return False
        return True

    async def identity(self) -> str:
        """A word for this very database; another one answers after it was made anew, or restored."""
        return await self._ask("ask which database this is", migration.mark_of)

    async def upsert(self, rows: Sequence[CatalogRow]) -> UpsertResult:
        """Make the catalog say what `rows` say; see `base.Catalog.upsert`. Of one id, the last row counts."""
        result = UpsertResult(
            refused=tuple(_refused(row, _NOT_OURS) for row in rows if escaped(row.host_id) != self._host_id)
        )
        # In the order of ids, so that two statements never wait for each other's rows.
        ours = sorted(
            {row.id: row for row in rows if escaped(row.host_id) == self._host_id}.values(),
            key=lambda row: row.id,
        )
        for first in range(0, len(ours), BATCH_ROWS):
            result += await self._store(ours[first : first + BATCH_ROWS])
        return result

    async def remove(self, ids: Iterable[UUID]) -> int:
        """Remove this host's rows of these ids, with their copies; how many there were."""
        remaining, removed = iter(ids), 0
        while batch := list(islice(remaining, BATCH_ROWS)):
            removed += await self._remove(batch)
        return removed

    async def upsert_exports(self, rows: Sequence[CatalogExport]) -> tuple[RefusedRow, ...]:
        """Make the catalog say what `rows` say, of this host's exports; those that it will not take."""
        if not rows:
            return ()
        try:
            await self._ask(
                f"store {len(rows)} exports",
                lambda connection: exports.upsert(connection, self._host_id, rows),
            )
        except RowsRefused as exc:
            if len(rows) == 1:
                return (RefusedRow(id=rows[0].id, reason=exc.reason),)
            middle = len(rows) // 2
            return (*await self.upsert_exports(rows[:middle]), *await self.upsert_exports(rows[middle:]))
        return ()

    async def remove_exports(self, ids: Iterable[UUID]) -> None:
        """Remove the rows of these exports of this host."""
        gone = list(ids)
        await self._ask(
            f"remove {len(gone)} exports",
            lambda connection: exports.remove(connection, self._host_id, gone),
        )

    async def tell_host(self, word: HostWord) -> Heard:
        """Make the catalog say how this host is; what stood there before."""
        if escaped(word.host_id) != self._host_id:
            raise ValueError("a host tells of itself alone")
        return await self._ask("say how this host is", lambda connection: hosts.tell(connection, word))

    async def hosts(self) -> tuple[KnownHost, ...]:
        """What every host of the fleet said last."""
        return await self._ask("read the fleet's hosts", hosts.all_hosts)

    async def find(self, query: CatalogQuery) -> CatalogPage:
        """One page of what all hosts have."""
        after_start, after_id = query.after or (None, None)
        arguments = (
            query.camera_id,
            query.span.start,
            query.span.end,
            after_start,
            after_id,
            query.limit + 1,
        )
        found = await self._ask(
            f"find segments of camera {query.camera_id}",
            lambda connection: connection.fetch(_FIND, *arguments),
        )
        rows = tuple(_row_from(record) for record in found[: query.limit])
        more = len(found) > query.limit
        return CatalogPage(rows=rows, next=(rows[-1].start_time, rows[-1].id) if more else None)

    async def of_host(self, after: UUID, limit: int) -> tuple[CatalogRow, ...]:
        """This host's rows in the order of their ids, from behind one of them; an empty answer is the end."""
        found = await self._ask(
            "read this host's rows",
            lambda connection: connection.fetch(_OF_HOST, self._host_id, after, limit),
        )
        return tuple(_row_from(record) for record in found)

    async def _store(self, rows: Sequence[CatalogRow]) -> UpsertResult:
        """Store what can be stored; halving finds the rows that cannot, and spares the rest a wait."""
        try:
            kept = await self._ask(
                f"store {len(rows)} rows", lambda connection: _upsert(connection, self._host_id, rows)
            )
        except RowsRefused as exc:
            if len(rows) == 1:
                return UpsertResult(refused=(_refused(rows[0], exc.reason),))
            middle = len(rows) // 2
            return await self._store(rows[:middle]) + await self._store(rows[middle:])
        return UpsertResult(
            stored=tuple(row.id for row in rows if row.id in kept),
            refused=tuple(_refused(row, _TAKEN) for row in rows if row.id not in kept),
        )

    async def _remove(self, ids: Sequence[UUID]) -> int:
        return await self._ask(
            f"remove {len(ids)} rows", lambda connection: connection.fetchval(_REMOVE, ids, self._host_id)
        )

    async def _ask(self, doing: str, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        """The answer to `work`, on a database whose schema is known to be ours."""
        await self._see_to_the_schema()
        try:
            return await self._connections.run(doing, work)
        except RowsRefused:
            raise
        except CatalogUnavailable:
            # Whatever it was, it may come back as another database: restored, made anew, or migrated.
            self._schema_is_good = False
            raise

    async def _see_to_the_schema(self) -> None:
        # Without a lock of our own: callers of a server that hangs would be let through one by one, each
        # after the time limit of the one before. The server's lock is enough for the rare case of real work.
        if self._schema_is_good:
            return
        try:
            await self._connections.run("bring the schema up to date", self._migrate)
        except RowsRefused as exc:
            raise CatalogUnavailable(str(exc)) from exc  # no row of ours is to blame here
        self._schema_is_good = True

    async def _migrate(self, connection: Connection) -> None:
        _require_version(connection)
        await migration.bring_up_to_date(connection, self._migrations, applied_by=self._host_id)


def _refused(row: CatalogRow, reason: str) -> RefusedRow:
    return RefusedRow(id=row.id, reason=reason)


async def _look(connection: Connection, known: Sequence[migration.Migration]) -> None:
    _require_version(connection)
    await migration.look(connection, known)


def _require_version(connection: Connection) -> None:
    version = connection.get_server_version()
    if version.major * 10000 < OLDEST_SERVER:
        raise CatalogUnavailable(
            f"PostgreSQL {version.major} is too old for the catalog, it needs 13 or later"
        )


async def _upsert(connection: Connection, host_id: str, rows: Sequence[CatalogRow]) -> frozenset[UUID]:
    """Ids of the rows that are now in the table as given; the others belong to somebody else."""
    copies = [(row.id, copy) for row in rows for copy in row.copies]
    kept = await connection.fetch(
        _UPSERT,
        host_id,
        [row.id for row in rows],
        [row.camera_id for row in rows],
        [row.start_time for row in rows],
        [row.end_time for row in rows],
        [row.duration_seconds for row in rows],
        [row.size_bytes for row in rows],
        [row.storage_backend for row in rows],
        [escaped(row.storage_path) for row in rows],
        [row.checksum for row in rows],
        [row.created_at for row in rows],
        [json.dumps(row.flags) for row in rows],
        [segment_id for segment_id, _ in copies],
        [copy.backend for _, copy in copies],
        [None if copy.path is None else escaped(copy.path) for _, copy in copies],
        [copy.state for _, copy in copies],
        [copy.stored_at for _, copy in copies],
        [copy.verified_at for _, copy in copies],
    )
    return frozenset(record["id"] for record in kept)


def _row_from(record: asyncpg.Record) -> CatalogRow:
    """The only place that knows which column is what when reading."""
    return CatalogRow(
        id=record["id"],
        host_id=unescaped(record["host_id"]),
        camera_id=record["camera_id"],
        start_time=record["start_time"],
        end_time=record["end_time"],
        duration_seconds=record["duration_seconds"],
        size_bytes=record["size_bytes"],
        storage_backend=record["storage_backend"],
        storage_path=unescaped(record["storage_path"]),
        checksum=record["checksum"],
        created_at=record["created_at"],
        flags=tuple(record["flags"]),
        copies=tuple(_copy_from(copy) for copy in record["copies"]),
    )


def _copy_from(
    columns: tuple[str, str | None, str, datetime | None, datetime | None],
) -> CatalogCopy:
    backend, path, state, stored_at, verified_at = columns
    return CatalogCopy(
        backend=backend,
        path=None if path is None else unescaped(path),
        state=state,
        stored_at=stored_at,
        verified_at=verified_at,
    )
