"""Exports in the catalog: rows of this host for the fleet to see.

A host changes and removes only rows with its own `host_id`, and such as an earlier version wrote without one:
an export's id is random (UUIDv4), so that it is nobody else's.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from cctv_storaged.catalog.connections import Connection
from cctv_storaged.catalog.escaping import escaped

# Arrays of arrays must be even, hence the cameras as JSON.
_UPSERT = """
INSERT INTO exports (id, host_id, camera_ids, start_time, end_time, format, reason, status, file_path,
                     file_size, expires_at, created_by, created_at, completed_at)
SELECT id, $14, ARRAY(SELECT jsonb_array_elements_text(camera_ids::jsonb)::uuid), start_time, end_time,
       format, reason, status, file_path, file_size, expires_at, created_by, created_at, completed_at
  FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::text[],
              $7::text[], $8::text[], $9::bigint[], $10::timestamptz[], $11::text[], $12::timestamptz[],
              $13::timestamptz[])
    AS g (id, camera_ids, start_time, end_time, format, reason, status, file_path, file_size, expires_at,
          created_by, created_at, completed_at)
    ON CONFLICT (id) DO UPDATE SET
       host_id = excluded.host_id,
       camera_ids = excluded.camera_ids,
       start_time = excluded.start_time,
       end_time = excluded.end_time,
       format = excluded.format,
       reason = excluded.reason,
       status = excluded.status,
       file_path = excluded.file_path,
       file_size = excluded.file_size,
       expires_at = excluded.expires_at,
       created_by = excluded.created_by,
       created_at = excluded.created_at,
       completed_at = excluded.completed_at
 WHERE exports.host_id IN ('', excluded.host_id)
"""
_REMOVE = "DELETE FROM exports WHERE id = ANY ($1::uuid[]) AND host_id IN ('', $2)"


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogExport:
    """An export as the fleet sees it. `download_url` stays empty there: a signed one runs out in minutes."""

    id: UUID
    camera_ids: tuple[UUID, ...]
    start_time: datetime
    end_time: datetime
    format: str
    reason: str
    status: str
    file_path: str | None  # its key in the exports store, while it is there
    file_size: int | None
    expires_at: datetime | None
    created_by: str | None
    created_at: datetime
    completed_at: datetime | None


async def upsert(connection: Connection, host_id: str, rows: Sequence[CatalogExport]) -> None:
    """Makes the table say what the rows say, each id once. `host_id` is escaped."""
    await connection.execute(
        _UPSERT,
        [row.id for row in rows],
        [json.dumps([str(each) for each in row.camera_ids]) for row in rows],
        [row.start_time for row in rows],
        [row.end_time for row in rows],
        [row.format for row in rows],
        [row.reason for row in rows],
        [row.status for row in rows],
        [None if row.file_path is None else escaped(row.file_path) for row in rows],
        [row.file_size for row in rows],
        [row.expires_at for row in rows],
        [row.created_by for row in rows],
        [row.created_at for row in rows],
        [row.completed_at for row in rows],
        host_id,
    )


async def remove(connection: Connection, host_id: str, ids: Sequence[UUID]) -> None:
    """The rows of these ids are gone, where they are of this host."""
    await connection.execute(_REMOVE, ids, host_id)
