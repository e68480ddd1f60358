"""The ledger: append-only lines on what became of footage that had been registered."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from cctv_storaged.clock import from_us, to_us
from cctv_storaged.journal.store import Store
from cctv_storaged.model import Segment, TimeSpan


class Kind(StrEnum):
    """What happened to a segment's footage."""

    LOST = "lost"  # gone without being allowed to
    REPLACED = "replaced"  # superseded by a longer version of the same file
    DELETED = "deleted"  # on request
    PRUNED = "pruned"  # the source only; every copy was verified


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the ledger."""

    at: datetime
    kind: Kind
    segment_id: UUID
    camera_id: UUID
    span: TimeSpan
    cause: str
    detail: str


class Ledger:
    """Reads the ledger; it is written to inside the commits that make its lines true."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def of_camera(self, camera_id: UUID, span: TimeSpan) -> list[Entry]:
        """Lost and deleted footage of a camera that overlaps the span, oldest first; at most 10,000."""
        return await self._store.read(lambda db: _of_camera(db, camera_id, span))

    async def losses(self) -> dict[str, int]:
        """Segments lost so far, by cause."""
        query = "SELECT cause, count(*) FROM ledger WHERE kind = 'lost' GROUP BY cause"
        return await self._store.read(lambda db: dict(db.execute(query).fetchall()))


def append(
    db: sqlite3.Connection, kind: Kind, segment: Segment, cause: str, now: datetime, detail: str = ""
) -> None:
    """Adds a line, inside the transaction of whoever does what it says."""
    start_us, end_us = to_us(segment.span.start), to_us(segment.span.end)
    db.execute(
        """INSERT INTO ledger (at_us, kind, segment_id, camera_id, start_us, end_us, cause, detail)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
        (to_us(now), kind, segment.id.bytes, segment.camera_id.bytes, start_us, end_us, cause, detail),
    )


def _of_camera(db: sqlite3.Connection, camera_id: UUID, span: TimeSpan) -> list[Entry]:
    rows = db.execute(
        """SELECT at_us, kind, segment_id, camera_id, start_us, end_us, cause, detail FROM ledger
            WHERE camera_id = ? AND kind IN ('lost', 'deleted') AND start_us < ? AND end_us > ?
            ORDER BY start_us LIMIT 10000""",
        (camera_id.bytes, to_us(span.end), to_us(span.start)),
    )
    return [
        Entry(
            at=from_us(at),
            kind=Kind(kind),
            segment_id=UUID(bytes=segment),
            camera_id=UUID(bytes=camera),
            span=TimeSpan(from_us(start), from_us(end)),
            cause=cause,
            detail=detail,
        )
        for at, kind, segment, camera, start, end, cause, detail in rows
    ]
