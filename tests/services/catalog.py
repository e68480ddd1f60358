"""What tests of the catalog share: rows to store, and a catalog that is closed afterwards."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import asyncpg

from cctv_storaged.catalog.base import CatalogCopy, CatalogQuery, CatalogRow
from cctv_storaged.catalog.connections import PostgresTarget, SslMode
from cctv_storaged.catalog.postgres import PostgresCatalog
from cctv_storaged.model import TimeSpan
from tests.services.postgres import PostgresDatabase

HOST = "nvr-01"
NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
CAMERA = UUID("123e4567-e89b-12d3-a456-426614174000")


def target_of(database: PostgresDatabase, **changes: Any) -> PostgresTarget:
    """The way to a test's database; time limits that tests can wait for, and that a busy machine keeps."""
    target = PostgresTarget(
        host=database.host,
        port=database.port,
        database=database.name,
        user=database.user,
        password=database.password,
        ssl=SslMode.DISABLE,
        lock_timeout_s=4.0,
        statement_timeout_s=20.0,
    )
    return replace(target, **changes)


@contextlib.asynccontextmanager
async def open_catalog(
    database: PostgresDatabase, host_id: str = HOST, **changes: Any
) -> AsyncIterator[PostgresCatalog]:
    catalog = PostgresCatalog(target_of(database, **changes), host_id)
    await catalog.open()
    try:
        yield catalog
    finally:
        await catalog.close()


@contextlib.asynccontextmanager
async def raw_connection(database: PostgresDatabase, **changes: Any) -> AsyncIterator[Any]:
    """A session of somebody else on the same database."""
    facts = {"user": database.user, "password": database.password, **changes}
    connection = await asyncpg.connect(
        host=database.host, port=database.port, database=database.name, ssl=False, **facts
    )
    try:
        yield connection
    finally:
        connection.terminate()


def row(number: int = 0, **changes: Any) -> CatalogRow:
    """The row of one ten-second segment, the `number`th after noon, with one verified copy."""
    start = NOON + timedelta(seconds=10 * number)
    host_id = changes.get("host_id", HOST)
    path = f"{CAMERA}/{start:%Y/%m/%d/%H}/{number}.ts"
    usual = CatalogRow(
        id=uuid5(CAMERA, f"{host_id!r}/{number}"),
        host_id=host_id,
        camera_id=CAMERA,
        start_time=start,
        end_time=start + timedelta(seconds=10),
        duration_seconds=10,
        size_bytes=5_000_000 + number,
        storage_backend="S3",
        storage_path=path,
        checksum=f"{number:064x}",
        created_at=start + timedelta(seconds=11, microseconds=7),
        flags=("partial",),
        copies=(verified(path, start + timedelta(seconds=12)),),
    )
    return replace(usual, **changes)


def verified(path: str, at: datetime, backend: str = "S3") -> CatalogCopy:
    return CatalogCopy(backend=backend, path=path, state="verified", stored_at=at, verified_at=at)


def query(
    start: datetime = NOON - timedelta(days=1), end: datetime = NOON + timedelta(days=1), **changes: Any
) -> CatalogQuery:
    usual = CatalogQuery(camera_id=CAMERA, span=TimeSpan(start, end), limit=1000)
    return replace(usual, **changes)


async def everything(catalog: PostgresCatalog, asked: CatalogQuery | None = None) -> list[CatalogRow]:
    """All pages of an answer, one after the other."""
    asked = asked or query()
    rows: list[CatalogRow] = []
    while True:
        page = await catalog.find(asked)
        rows += page.rows
        if page.next is None:
            return rows
        asked = replace(asked, after=page.next)
