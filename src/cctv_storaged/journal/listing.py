"""Segments for showing, as close to their rows as can be: texts and microseconds instead of objects.

A list of a hundred is asked for often and only shown; making whole `Segment`s of it costs several times the
reading. Whoever acts on segments takes them from segments.py.
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from cctv_storaged.clock import from_us, to_us
from cctv_storaged.journal.finding import overlapping
from cctv_storaged.journal.store import Store
from cctv_storaged.model import Copy, Segment, TimeSpan

_COLUMNS_FROM = """s.no, s.id, s.start_us, s.end_us, s.size_bytes, s.sha256, s.created_us, s.flags, s.held
    FROM segment s"""
_COPIES = """SELECT segment_no, backend, path, state, attempts, error, stored_us, verified_us
     FROM copy WHERE segment_no IN (SELECT value FROM json_each(?)) ORDER BY segment_no, backend"""


class ListedCopy(NamedTuple):
    """One segment at one backend."""

    backend: str
    path: str | None
    state: str
    attempts: int
    error: str | None
    stored_us: int | None
    verified_us: int | None


class ListedSegment(NamedTuple):
    """A segment; moments are microseconds since 1970-01-01T00:00Z."""

    id: str
    camera_id: str
    start_us: int
    end_us: int
    size_bytes: int
    sha256: bytes | None
    created_us: int
    flags: tuple[str, ...]  # sorted
    held: bool
    copies: tuple[ListedCopy, ...]  # by backend


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedPage:
    """Segments oldest first, and where the next page begins (None: there is none)."""

    segments: tuple[ListedSegment, ...]
    next: tuple[datetime, UUID] | None


class Listing:
    """Pages of this host's segments."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def page(
        self, camera_id: UUID, span: TimeSpan, limit: int, after: tuple[datetime, UUID] | None = None
    ) -> ListedPage:
        """Segments of a camera that overlap the span and have bytes somewhere, oldest first, by keyset."""
        return await self._store.read(lambda db: _page(db, camera_id, span, limit, after))


def listed(segment: Segment) -> ListedSegment:
    """A segment as a page shows it."""
    return ListedSegment(
        id=str(segment.id),
        camera_id=str(segment.camera_id),
        start_us=to_us(segment.span.start),
        end_us=to_us(segment.span.end),
        size_bytes=segment.size_bytes,
        sha256=segment.sha256,
        created_us=to_us(segment.created_at),
        flags=tuple(sorted(segment.flags)),
        held=segment.held,
        copies=tuple(_listed_copy(copy) for copy in segment.copies),
    )


def _listed_copy(copy: Copy) -> ListedCopy:
    return ListedCopy(
        backend=copy.backend,
        path=copy.path,
        state=copy.state,
        attempts=copy.attempts,
        error=copy.error,
        stored_us=None if copy.stored_at is None else to_us(copy.stored_at),
        verified_us=None if copy.verified_at is None else to_us(copy.verified_at),
    )


def _page(
    db: sqlite3.Connection, camera_id: UUID, span: TimeSpan, limit: int, after: tuple[datetime, UUID] | None
) -> ListedPage:
    rows: list[Any] = overlapping(db, _COLUMNS_FROM, camera_id, span, limit + 1, after)  # typed by STRICT
    shown, camera = rows[:limit], str(camera_id)
    copies = _copies(db, [row[0] for row in shown])
    segments = tuple(
        ListedSegment(
            _text(id_),
            camera,
            start,
            end,
            size,
            sha256,
            created,
            tuple(flags.split()),
            held == 1,
            tuple(copies[no]),
        )
        for no, id_, start, end, size, sha256, created, flags, held in shown
    )
    if len(rows) <= limit:
        return ListedPage(segments=segments, next=None)
    return ListedPage(segments=segments, next=(from_us(shown[-1][2]), UUID(bytes=shown[-1][1])))


def _copies(db: sqlite3.Connection, numbers: Sequence[int]) -> dict[int, list[ListedCopy]]:
    copies: dict[int, list[ListedCopy]] = {number: [] for number in numbers}
    for row in db.execute(_COPIES, (json.dumps(numbers),)):
        copies[row[0]].append(ListedCopy._make(row[1:]))
    return copies


def _text(id_: bytes) -> str:
    """The UUID's text; by way of uuid.UUID it takes four times as long."""
    digits = id_.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
