"""What an export is made of: a camera's segments in a span, as narrow as they can be."""

import sqlite3
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from cctv_storaged.clock import from_us, to_us
from cctv_storaged.journal.finding import HAS_BYTES, ONLY_COPY
from cctv_storaged.journal.store import Store
from cctv_storaged.model import TimeSpan

_WHERE = f"s.camera_no = ? AND s.start_us > ? AND s.start_us < ? AND s.end_us > ? AND {HAS_BYTES}"

_NOWHERE_ELSE = f"EXISTS (SELECT 1 FROM copy c WHERE c.segment_no = s.no AND c.backend = ? AND {ONLY_COPY})"


@dataclass(frozen=True, slots=True)
class Weight:
    """How much footage there is."""

    segments: int
    bytes: int


class MaterialRow(NamedTuple):
    """A segment to be exported; moments are microseconds since 1970-01-01T00:00Z."""

    id: bytes
    start_us: int
    end_us: int
    size_bytes: int
    sha256: bytes | None
    flags: str
    ticks: int | None
    fingerprint: bytes | None
    apart: int = 0  # 1: it has bytes nowhere but at the backend that was asked about

    @property
    def segment_id(self) -> UUID:
        return UUID(bytes=self.id)

    @property
    def span(self) -> TimeSpan:
        return TimeSpan(from_us(self.start_us), from_us(self.end_us))


class Material:
    """Segments that overlap a span and have bytes somewhere."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def weight(self, camera_id: UUID, span: TimeSpan) -> Weight:
        """How much of it there is."""
        return await self._store.read(lambda db: _weight(db, camera_id, span))

    async def rows(self, camera_id: UUID, span: TimeSpan, backend: str | None = None) -> list[MaterialRow]:
        """All of it, by its start; `backend`: which of it is nowhere else is told."""
        return await self._store.read(lambda db: _rows(db, camera_id, span, backend))


def _weight(db: sqlite3.Connection, camera_id: UUID, span: TimeSpan) -> Weight:
    query = f"SELECT count(*), coalesce(sum(s.size_bytes), 0) FROM segment s WHERE {_WHERE}"
    bounds = _bounds(db, camera_id, span)
    return Weight(0, 0) if bounds is None else Weight(*db.execute(query, bounds).fetchone())


def _rows(db: sqlite3.Connection, camera_id: UUID, span: TimeSpan, backend: str | None) -> list[MaterialRow]:
    query = f"""SELECT s.id, s.start_us, s.end_us, s.size_bytes, s.sha256, s.flags, s.stream_ticks,
                       s.stream_print, {_NOWHERE_ELSE if backend is not None else "?"}
                  FROM segment s WHERE {_WHERE} ORDER BY s.start_us, s.no"""
    bounds = _bounds(db, camera_id, span)
    return [] if bounds is None else list(map(MaterialRow._make, db.execute(query, (backend or 0, *bounds))))


def _bounds(db: sqlite3.Connection, camera_id: UUID, span: TimeSpan) -> tuple[int, int, int, int] | None:
    camera = db.execute("SELECT no, longest_us FROM camera WHERE id = ?", (camera_id.bytes,)).fetchone()
    if camera is None:
        return None
    start_us = to_us(span.start)
    return camera[0], start_us - camera[1], to_us(span.end), start_us
