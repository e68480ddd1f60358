"""The schema on a real server: many hosts at once, adopted tables, newer schemas, and few rights."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import pytest

from cctv_storaged.catalog.migration import LOCK, Migration, shipped
from cctv_storaged.catalog.postgres import PostgresCatalog
from cctv_storaged.errors import CatalogUnavailable
from tests.services.catalog import CAMERA, everything, open_catalog, query, raw_connection, row, target_of
from tests.services.postgres import PASSWORD, ROLE, PostgresCluster, PostgresDatabase

# The specification's tables as somebody would make them by hand: its INDEX lines, which PostgreSQL does not
# know, are statements of their own, and the second idx_created_at got another name.
BY_HAND = """
CREATE TABLE segments (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    camera_id UUID NOT NULL,
    start_time TIMESTAMP WITH TIME ZONE NOT NULL,
    end_time TIMESTAMP WITH TIME ZONE NOT NULL,
    duration_seconds INTEGER NOT NULL,
    size_bytes BIGINT NOT NULL,
    storage_backend VARCHAR(50) NOT NULL,
    storage_path TEXT NOT NULL,
    checksum VARCHAR(64),
    created_at TIMESTAMP WITH TIME ZONE DEFAULT NOW()
);
CREATE INDEX idx_camera_time ON segments (camera_id, start_time, end_time);
CREATE INDEX idx_created_at ON segments (created_at);
CREATE TABLE exports (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    camera_ids UUID[] NOT NULL,
    start_time TIMESTAMP WITH TIME ZONE NOT NULL,
    end_time TIMESTAMP WITH TIME ZONE NOT NULL,
    format VARCHAR(10) NOT NULL,
    reason TEXT,
    status VARCHAR(20) NOT NULL,
    file_path TEXT,
    file_size BIGINT,
    download_url TEXT,
    expires_at TIMESTAMP WITH TIME ZONE,
    created_by VARCHAR(255),
    created_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    completed_at TIMESTAMP WITH TIME ZONE
);
CREATE INDEX idx_status ON exports (status);
CREATE INDEX idx_exports_created ON exports (created_at);
"""
RENAMED = {
    "idx_camera_time": "idx_segments_camera_time",
    "idx_created_at": "idx_segments_created_at",
    "idx_status": "idx_exports_status",
    "idx_exports_created": "idx_exports_created_at",
}

SPECIFIED = {
    "segments": {
        "id": "uuid NOT NULL DEFAULT gen_random_uuid()",
        "camera_id": "uuid NOT NULL",
        "start_time": "timestamp with time zone NOT NULL",
        "end_time": "timestamp with time zone NOT NULL",
        "duration_seconds": "integer NOT NULL",
        "size_bytes": "bigint NOT NULL",
        "storage_backend": "character varying(50) NOT NULL",
        "storage_path": "text NOT NULL",
        "checksum": "character varying(64)",
        "created_at": "timestamp with time zone DEFAULT now()",
        "host_id": "text NOT NULL DEFAULT ''::text",
        "flags": "text[] NOT NULL DEFAULT '{}'::text[]",
    },
    "exports": {
        "id": "uuid NOT NULL DEFAULT gen_random_uuid()",
        "camera_ids": "uuid[] NOT NULL",
        "start_time": "timestamp with time zone NOT NULL",
        "end_time": "timestamp with time zone NOT NULL",
        "format": "character varying(10) NOT NULL",
        "reason": "text",
        "status": "character varying(20) NOT NULL",
        "file_path": "text",
        "file_size": "bigint",
        "download_url": "text",
        "expires_at": "timestamp with time zone",
        "created_by": "character varying(255)",
        "created_at": "timestamp with time zone DEFAULT now()",
        "completed_at": "timestamp with time zone",
        "host_id": "text NOT NULL DEFAULT ''::text",
    },
    "segment_copies": {
        "segment_id": "uuid NOT NULL",
        "backend": "character varying(50) NOT NULL",
        "path": "text",
        "state": "character varying(20) NOT NULL",
        "stored_at": "timestamp with time zone",
        "verified_at": "timestamp with time zone",
    },
}


async def test_the_tables_are_those_of_the_specification_and_the_contract(
    postgres_database: PostgresDatabase,
) -> None:
    await make_schema(postgres_database)
    for table, wanted in SPECIFIED.items():
        assert columns_of(postgres_database, table) == wanted


async def test_the_schema_is_made_at_first_use_and_once(postgres_database: PostgresDatabase) -> None:
    await make_schema(postgres_database)
    first = (postgres_database.dump(), history_of(postgres_database))
    await make_schema(postgres_database)
    assert (postgres_database.dump(), history_of(postgres_database)) == first
    assert [entry[0] for entry in first[1]] == [str(step.version) for step in shipped()]


async def test_eight_hosts_starting_together_make_one_schema(postgres_database: PostgresDatabase) -> None:
    async with AsyncExitStack() as stack:
        hosts = [f"nvr-{number}" for number in range(8)]
        catalogs = [
            await stack.enter_async_context(open_catalog(postgres_database, host, lock_timeout_s=30))
            for host in hosts
        ]
        results = await asyncio.gather(
            *(catalog.upsert([row(1, host_id=host)]) for catalog, host in zip(catalogs, hosts, strict=True))
        )
        assert all(len(result.stored) == 1 for result in results)
        assert {entry.host_id for entry in await everything(catalogs[0])} == set(hosts)
    assert len(history_of(postgres_database)) == len(shipped())


async def test_many_starters_are_serialised_also_where_the_database_defaults_to_serializable(
    postgres_database: PostgresDatabase,
) -> None:
    """A snapshot taken before the wait for the lock would not show what the host before us has made."""
    postgres_database.sql(
        f"ALTER DATABASE {postgres_database.name} SET default_transaction_isolation = 'serializable'"
    )
    await asyncio.gather(*(make_schema(postgres_database, f"nvr-{number}") for number in range(8)))
    assert len(history_of(postgres_database)) == len(shipped())


async def test_each_migration_is_applied_whole_or_not_at_all(postgres_database: PostgresDatabase) -> None:
    broken = step(3, "CREATE TABLE half (a INT);\nSELECT 1 / 0;")
    async with catalog_knowing(postgres_database, [*shipped(), broken]) as catalog:
        with pytest.raises(CatalogUnavailable, match="division by zero"):
            await catalog.upsert([row(1)])
    assert len(history_of(postgres_database)) == len(shipped())
    assert postgres_database.sql("SELECT to_regclass('half') IS NULL") == [["t"]]

    mended = step(3, "CREATE TABLE half (a INT);")
    async with catalog_knowing(postgres_database, [*shipped(), mended]) as catalog:
        assert (await catalog.upsert([row(1)])).stored == (row(1).id,)
    assert postgres_database.sql("SELECT to_regclass('half') IS NULL") == [["f"]]


async def test_a_newer_schema_is_refused_and_left_untouched(postgres_database: PostgresDatabase) -> None:
    async with catalog_knowing(postgres_database, [*shipped(), step(3, "SELECT 1", works_with=3)]) as newer:
        await newer.upsert([row(1)])
    before = postgres_database.dump()
    async with open_catalog(postgres_database) as older:
        for attempt in (
            older.check(),
            older.upsert([row(2)]),
            older.find(query()),
            older.remove([row(1).id]),
        ):
            with pytest.raises(CatalogUnavailable, match="update cctv-storaged on this host"):
                await attempt
        assert not await older.healthy()
    assert postgres_database.dump() == before
    assert postgres_database.sql("SELECT id FROM segments") == [[str(row(1).id)]]


async def test_a_newer_schema_that_works_with_older_programs_is_used(
    postgres_database: PostgresDatabase,
) -> None:
    added = step(3, "ALTER TABLE segments ADD COLUMN codec TEXT", works_with=1)
    async with catalog_knowing(postgres_database, [*shipped(), added]) as newer:
        await newer.upsert([row(1)])
    async with open_catalog(postgres_database) as older:
        await older.upsert([row(2)])
        assert await older.healthy()
        assert await everything(older) == [row(1), row(2)]


async def test_an_upgrade_by_another_host_is_noticed_after_the_connection_breaks(
    postgres_cluster: PostgresCluster, postgres_database: PostgresDatabase
) -> None:
    async with open_catalog(postgres_database) as older:
        await older.upsert([row(1)])
        async with catalog_knowing(
            postgres_database, [*shipped(), step(3, "SELECT 1", works_with=3)]
        ) as newer:
            await newer.upsert([row(2)])
        postgres_cluster.stop()
        with pytest.raises(CatalogUnavailable):
            await older.find(query())
        postgres_cluster.start()
        with pytest.raises(CatalogUnavailable, match="update cctv-storaged"):
            await older.find(query())


async def test_tables_made_by_hand_are_adopted_with_their_rows(postgres_database: PostgresDatabase) -> None:
    old = uuid4()
    as_owner(postgres_database, BY_HAND)
    as_owner(
        postgres_database,
        f"""INSERT INTO segments (id, camera_id, start_time, end_time, duration_seconds, size_bytes,
                                  storage_backend, storage_path)
            VALUES ('{old}', '{CAMERA}', '2026-03-05 11:00Z', '2026-03-05 12:00Z', 3600, 157286400,
                    'MINIO', 'segment.ts')""",
    )
    async with open_catalog(postgres_database) as catalog:
        await catalog.upsert([row(1)])
        hour, ours = await everything(catalog)
    assert (hour.id, hour.host_id, hour.flags, hour.duration_seconds) == (old, "", (), 3600)
    assert ours == row(1)


async def test_an_adopted_database_and_a_new_one_are_the_same(postgres_cluster: PostgresCluster) -> None:
    """But for the names of the indexes that were there; none is made twice."""
    adopted, fresh = postgres_cluster.create_database(), postgres_cluster.create_database()
    try:
        as_owner(adopted, BY_HAND)
        await make_schema(adopted)
        await make_schema(fresh)
        dump = adopted.dump()
        for by_hand, ours in RENAMED.items():
            assert f"INDEX {by_hand} " in dump
            dump = dump.replace(f"INDEX {by_hand} ", f"INDEX {ours} ")
        assert sorted(dump.splitlines()) == sorted(fresh.dump().splitlines())
    finally:
        postgres_cluster.drop_database(adopted.name)
        postgres_cluster.drop_database(fresh.name)


async def test_adopted_rows_with_infinite_times_do_not_stop_the_migration(
    postgres_database: PostgresDatabase,
) -> None:
    as_owner(postgres_database, BY_HAND)
    as_owner(
        postgres_database,
        f"""INSERT INTO segments (camera_id, start_time, end_time, duration_seconds, size_bytes,
                                  storage_backend, storage_path)
            VALUES ('{CAMERA}', '2026-03-05 11:00Z', 'infinity', 0, 0, 'MINIO', 'still recording')""",
    )
    async with open_catalog(postgres_database) as catalog:
        assert [entry.storage_path for entry in await everything(catalog)] == ["still recording"]


async def test_a_table_that_only_shares_the_name_is_not_touched(postgres_database: PostgresDatabase) -> None:
    as_owner(postgres_database, "CREATE TABLE segments (id TEXT PRIMARY KEY, start_time TIMESTAMP)")
    before = postgres_database.dump()
    async with open_catalog(postgres_database) as catalog:
        with pytest.raises(CatalogUnavailable) as caught:
            await catalog.upsert([row(1)])
    assert "segments.id is text and must be uuid" in str(caught.value)
    assert "segments.camera_id is missing" in str(caught.value)
    assert postgres_database.dump() == before


async def test_a_role_that_may_not_change_tables_can_use_a_database_made_ready(
    postgres_cluster: PostgresCluster, postgres_database: PostgresDatabase
) -> None:
    await make_schema(postgres_database)
    limited = f"limited_{postgres_database.name}"
    postgres_database.sql(
        f"""CREATE ROLE {limited} LOGIN PASSWORD '{PASSWORD}';
            REVOKE CREATE ON SCHEMA public FROM PUBLIC;
            GRANT SELECT, INSERT, UPDATE, DELETE ON segments, segment_copies TO {limited};
            GRANT SELECT ON cctv_storaged_migrations TO {limited}"""
    )
    try:
        database = postgres_cluster.database(postgres_database.name, user=limited)
        async with open_catalog(database) as catalog:
            await catalog.upsert([row(1)])
            assert await everything(catalog) == [row(1)]
            assert await catalog.remove([row(1).id]) == 1
    finally:
        postgres_database.sql(f"DROP OWNED BY {limited}; DROP ROLE {limited}")


async def test_a_role_without_the_rights_to_make_tables_is_told_what_it_needs(
    postgres_cluster: PostgresCluster,
) -> None:
    database = postgres_cluster.create_database(owner="postgres")
    try:
        database.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        async with open_catalog(database) as catalog:
            with pytest.raises(CatalogUnavailable, match=r"permission denied.*docs/reference/postgres\.md"):
                await catalog.upsert([row(1)])
    finally:
        postgres_cluster.drop_database(database.name)


async def test_a_migration_elsewhere_is_waited_for_only_so_long(postgres_database: PostgresDatabase) -> None:
    async with open_catalog(postgres_database) as catalog:
        async with raw_connection(postgres_database) as other, other.transaction():
            await other.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
            with pytest.raises(CatalogUnavailable, match="lock timeout"):
                await catalog.upsert([row(1)])
        assert (await catalog.upsert([row(1)])).stored == (row(1).id,)


async def test_a_database_made_anew_is_another_one(postgres_database: PostgresDatabase) -> None:
    async with open_catalog(postgres_database) as catalog, open_catalog(postgres_database, "nvr-02") as other:
        first = await catalog.identity()
        assert await catalog.identity() == await other.identity() == first
        as_owner(
            postgres_database,
            "DROP TABLE segments, segment_copies, exports, storage_hosts, cctv_storaged_migrations CASCADE",
        )
        with pytest.raises(CatalogUnavailable):
            await catalog.find(query())
        # Having met trouble, it looks at the schema again, and finds that it has to be made.
        assert await catalog.find(query())
        assert await catalog.identity() != first


async def test_a_backup_that_was_restored_is_another_database(
    postgres_cluster: PostgresCluster, postgres_database: PostgresDatabase
) -> None:
    """It lacks what was told after the backup, and has the mark of the one that was told."""
    async with open_catalog(postgres_database) as catalog:
        told = await catalog.identity()
    restored = postgres_cluster.create_database(template=postgres_database.name)
    try:
        async with open_catalog(restored) as catalog:
            assert await catalog.identity() != told
    finally:
        postgres_cluster.drop_database(restored.name)


async def test_a_standby_that_took_over_is_another_database(
    postgres_cluster: PostgresCluster, postgres_database: PostgresDatabase
) -> None:
    """Recovery ends on a new timeline, as for a standby: what had not reached it is not there."""
    async with open_catalog(postgres_database) as catalog:
        told = await catalog.identity()
        postgres_cluster.restart()
        assert await catalog.identity() == told
        postgres_cluster.take_over()
        assert await catalog.identity() != told


async def test_a_server_that_tells_nothing_of_itself_is_known_by_its_mark(
    postgres_cluster: PostgresCluster, postgres_database: PostgresDatabase
) -> None:
    postgres_database.sql("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    async with open_catalog(postgres_database) as catalog:
        mark = await catalog.identity()
    assert [[mark]] == postgres_database.sql("SELECT mark FROM cctv_storaged_migrations WHERE version = 1")


async def make_schema(database: PostgresDatabase, host_id: str = "nvr-01") -> None:
    async with open_catalog(database, host_id, lock_timeout_s=30) as catalog:
        await catalog.find(query())


@asynccontextmanager
async def catalog_knowing(
    database: PostgresDatabase, migrations: Sequence[Migration]
) -> AsyncIterator[PostgresCatalog]:
    """A catalog of another release: one that ships these migrations."""
    catalog = PostgresCatalog(target_of(database), "nvr-01", migrations=migrations)
    await catalog.open()
    try:
        yield catalog
    finally:
        await catalog.close()


def step(version: int, sql: str, works_with: int = 1) -> Migration:
    return Migration(version=version, name=f"step_{version}", works_with=works_with, sql=sql)


def as_owner(database: PostgresDatabase, sql: str) -> None:
    database.sql(f"SET ROLE {ROLE}; {sql}")


def history_of(database: PostgresDatabase) -> list[list[str]]:
    return database.sql("SELECT * FROM cctv_storaged_migrations ORDER BY version")


def columns_of(database: PostgresDatabase, table: str) -> dict[str, str]:
    described = database.sql(
        f"""SELECT a.attname,
                   format_type(a.atttypid, a.atttypmod)
                   || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
                   || coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '')
              FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
             WHERE a.attrelid = '{table}'::regclass AND a.attnum > 0 AND NOT a.attisdropped
             ORDER BY a.attnum"""
    )
    return {name: words for name, words in described}  # noqa: C416 (dict() wants pairs, these are lists)
