"""What a page of the fleet's footage costs the server, in buffers: those do not depend on the machine.

Ten cameras of 20,000 ten-second segments each, arrived interleaved, as a fleet writes them; also ten years
of hour-long segments of one camera, and one segment of sixty days, from a clock gone wrong.
"""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from cctv_storaged.catalog.postgres import _FIND
from tests.services.catalog import open_catalog, query, raw_connection
from tests.services.postgres import PostgresCluster, PostgresDatabase

SEGMENTS = 20_000
BEGIN = datetime.fromisoformat("2026-03-01T00:00:00+00:00")
LENGTH = timedelta(seconds=10 * SEGMENTS)
END = BEGIN + LENGTH
HOUR = timedelta(hours=1)
PAGE = 100
POSITIONS = (0.0, 0.25, 0.5, 0.75, 0.999)

SHORT, HOURLY = UUID(int=1), UUID(int=100)
CLOCK_GONE_WRONG = UUID(int=0xDEAD)

FILL = f"""
INSERT INTO segments (camera_id, start_time, end_time, duration_seconds, size_bytes,
                      storage_backend, storage_path, checksum, host_id)
SELECT ('00000000-0000-0000-0000-' || lpad(c::text, 12, '0'))::uuid,
       timestamptz '{BEGIN}' + n * interval '10 seconds',
       timestamptz '{BEGIN}' + (n + 1) * interval '10 seconds',
       10, 5000000, 'S3', c || '/' || n || '.ts', repeat('f', 64), 'nvr-' || c % 4
  FROM generate_series(0, {SEGMENTS - 1}) n, generate_series(1, 10) c
 ORDER BY n, c;
INSERT INTO segments (camera_id, start_time, end_time, duration_seconds, size_bytes,
                      storage_backend, storage_path)
SELECT '{HOURLY}', t, t + interval '1 hour', 3600, 157286400, 'S3', t::text
  FROM generate_series(timestamptz '{BEGIN}' - interval '10 years', timestamptz '{END}', interval '1 hour') t;
INSERT INTO segments (id, camera_id, start_time, end_time, duration_seconds, size_bytes,
                      storage_backend, storage_path)
VALUES ('{CLOCK_GONE_WRONG}', '{SHORT}', timestamptz '{BEGIN}' - interval '30 days',
        timestamptz '{BEGIN}' + interval '30 days', 5184000, 1, 'S3', 'clock gone wrong');
INSERT INTO segment_copies (segment_id, backend, path, state, stored_at, verified_at)
SELECT id, 'S3', storage_path, 'verified', end_time, end_time FROM segments WHERE camera_id = '{SHORT}'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one page: rows, the table's pages these lie on, buffers touched to find them and their copies."""

    rows: tuple[UUID, ...]
    pages: int
    buffers: int
    copy_buffers: int


@pytest.fixture(scope="module")
def large(_cluster_of_the_session: PostgresCluster) -> Iterator[PostgresDatabase]:
    _cluster_of_the_session.ensure_running()
    database = _cluster_of_the_session.create_database()
    yield database
    _cluster_of_the_session.drop_database(database.name)


@pytest_asyncio.fixture
async def server(large: PostgresDatabase) -> AsyncIterator[Any]:
    """A session on the filled database; filled by whoever comes first."""
    async with open_catalog(large) as catalog:
        await catalog.find(query())
    if large.sql("SELECT EXISTS (SELECT FROM segments)") == [["f"]]:
        large.sql(FILL)
        large.sql("VACUUM ANALYZE")
    async with raw_connection(large) as connection:
        yield connection


@pytest.mark.parametrize("plan", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("position", POSITIONS)
async def test_an_hour_costs_the_same_wherever_it_lies(server: Any, plan: str, position: float) -> None:
    await server.execute(f"SET plan_cache_mode = {plan}")
    start = BEGIN + position * (LENGTH - HOUR)
    cost = await cost_of(server, SHORT, start, start + HOUR)
    assert len(cost.rows) == PAGE + 1
    assert cost.rows[0] == CLOCK_GONE_WRONG
    assert cost.buffers <= 20 + cost.pages, cost
    assert cost.copy_buffers <= 5 * len(cost.rows), cost


@pytest.mark.parametrize("plan", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("position", POSITIONS)
async def test_a_page_costs_the_same_however_far_one_has_paged(
    server: Any, plan: str, position: float
) -> None:
    await server.execute(f"SET plan_cache_mode = {plan}")
    after = BEGIN + position * (LENGTH - HOUR)
    cost = await cost_of(server, SHORT, BEGIN, END, after=(after, UUID(int=0)))
    assert len(cost.rows) == PAGE + 1
    assert cost.buffers <= 20 + cost.pages, cost


@pytest.mark.parametrize("plan", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("years_ago", [0, 1, 3, 6, 9])
async def test_hour_long_segments_cost_the_same_in_any_year(server: Any, plan: str, years_ago: int) -> None:
    await server.execute(f"SET plan_cache_mode = {plan}")
    start = BEGIN - timedelta(days=365 * years_ago) + timedelta(minutes=30)
    cost = await cost_of(server, HOURLY, start, start + HOUR)
    assert len(cost.rows) == 2
    assert cost.buffers <= 20 + cost.pages, cost


async def test_the_obvious_query_would_cost_more_with_every_day(server: Any) -> None:
    """Why the query is not the obvious one; and that this measure can tell the difference."""
    obvious = """SELECT * FROM segments WHERE camera_id = $1 AND start_time < $3 AND end_time > $2
                    AND $4::timestamptz IS NULL AND $5::uuid IS NULL
                  ORDER BY start_time, id LIMIT $6"""
    cost = await cost_of(server, SHORT, END - HOUR, END, sql=obvious)
    assert cost.buffers > 60 + cost.pages


async def cost_of(
    server: Any,
    camera_id: UUID,
    start: datetime,
    end: datetime,
    *,
    after: tuple[datetime, UUID] | None = None,
    sql: str = _FIND,
) -> Cost:
    arguments = (camera_id, start, end, *(after or (None, None)), PAGE + 1)
    rows = tuple(record["id"] for record in await server.fetch(sql, *arguments))
    name = f"asked_{abs(hash(sql))}"
    await server.execute(
        f"PREPARE {name} (uuid, timestamptz, timestamptz, timestamptz, uuid, bigint) AS {sql}"
    )
    given = ", ".join("NULL" if value is None else f"'{value}'" for value in arguments)
    explained = await server.fetchval(
        f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE {name} ({given})"
    )
    plan = json.loads(explained)[0]["Plan"]
    copies = sum(buffers_of(node) for node in nodes_of(plan) if node.get("Relation Name") == "segment_copies")
    pages = "SELECT count(DISTINCT (ctid::text::point)[0]) FROM segments WHERE id = ANY ($1::uuid[])"
    return Cost(
        rows=rows,
        pages=await server.fetchval(pages, rows),
        buffers=buffers_of(plan) - copies,
        copy_buffers=copies,
    )


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for node in plan.get("Plans", ()):
        yield from nodes_of(node)


def buffers_of(node: dict[str, Any]) -> int:
    """Of the node and all below it."""
    return int(node["Shared Hit Blocks"]) + int(node["Shared Read Blocks"])
