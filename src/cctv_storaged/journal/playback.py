"""Segments for playing, as close to their rows as can be: a day of them in one query.

A playlist of 24 h names thousands of segments and must be there at once; whoever acts on segments takes them
from segments.py.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from cctv_storaged.clock import from_us, to_us
from cctv_storaged.journal.finding import HAS_BYTES, ONLY_COPY
from cctv_storaged.journal.store import Store
from cctv_storaged.model import CopyState, TimeSpan

PlaybackRow = tuple[int, int, str, int | None, bytes | None, bytes]
"""Start and end (microseconds since 1970-01-01T00:00Z), flags (words with spaces between them), ticks and
fingerprint of the `StreamStart` (None where there is none), id."""

LOOKED_AT = 10_000
"""So many segments on either side of a span are looked at for one that has bytes."""

_IN_SPAN = "s.camera_no = ? AND s.start_us > ? AND s.start_us < ? AND s.end_us > ?"
_ROWS = f"""SELECT s.start_us, s.end_us, s.flags, s.stream_ticks, s.stream_print, s.id FROM segment s
    WHERE {_IN_SPAN} AND {HAS_BYTES} ORDER BY s.start_us, s.no"""
_PATHS = f"""SELECT s.id, c.path FROM segment s CROSS JOIN copy c ON c.segment_no = s.no AND c.backend = ?
    WHERE {_IN_SPAN} AND c.state = '{CopyState.VERIFIED}'"""  # CROSS: by the segments, not by the copies
_APART = f"""SELECT s.id FROM segment s CROSS JOIN copy c ON c.segment_no = s.no AND c.backend = ?
    WHERE {_IN_SPAN} AND {ONLY_COPY}"""
_BEFORE = f"""SELECT s.end_us, {HAS_BYTES} FROM segment s WHERE s.camera_no = ? AND s.start_us < ?
    ORDER BY s.start_us DESC LIMIT ?"""
_AFTER = f"""SELECT s.start_us, {HAS_BYTES} FROM segment s WHERE s.camera_no = ? AND s.start_us >= ?
    ORDER BY s.start_us LIMIT ?"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearby:
    """Where footage is found around a span without any; None: nowhere near."""

    before: datetime | None  # the end of the last before it
    after: datetime | None  # the start of the first after it


class Playback:
    """This host's segments as players need them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def rows(self, camera_id: UUID, span: TimeSpan) -> list[PlaybackRow]:
        """All of a camera's segments that overlap the span and have bytes somewhere, by start."""
        return await self._store.read(lambda db: _rows(db, camera_id, span))

    async def paths(self, camera_id: UUID, span: TimeSpan, backend: str) -> dict[bytes, str]:
        """Of those the ones with a verified copy at the backend: its path there, by the segment's id."""
        return await self._store.read(lambda db: _paths(db, camera_id, span, backend))

    async def apart(self, camera_id: UUID, span: TimeSpan, backend: str) -> frozenset[bytes]:
        """Ids of those that have bytes nowhere but at the backend."""
        return await self._store.read(lambda db: _apart(db, camera_id, span, backend))

    async def nearby(self, camera_id: UUID, span: TimeSpan) -> Nearby:
        """Footage before and after a span that has none."""
        return await self._store.read(lambda db: _nearby(db, camera_id, span))


def _rows(db: sqlite3.Connection, camera_id: UUID, span: TimeSpan) -> list[PlaybackRow]:
    within = _within(db, camera_id, span)
    return [] if within is None else db.execute(_ROWS, within).fetchall()


def _paths(db: sqlite3.Connection, camera_id: UUID, span: TimeSpan, backend: str) -> dict[bytes, str]:
    within = _within(db, camera_id, span)
    return {} if within is None else dict(db.execute(_PATHS, (backend, *within)).fetchall())


def _apart(db: sqlite3.Connection, camera_id: UUID, span: TimeSpan, backend: str) -> frozenset[bytes]:
    within = _within(db, camera_id, span)
    found = [] if within is None else db.execute(_APART, (backend, *within))
    return frozenset(id_ for (id_,) in found)


def _within(db: sqlite3.Connection, camera_id: UUID, span: TimeSpan) -> tuple[int, int, int, int] | None:
    """The parameters of _IN_SPAN, None without such a camera. What starts by the second is over in time."""
    camera = db.execute("SELECT no, longest_us FROM camera WHERE id = ?", (camera_id.bytes,)).fetchone()
    if camera is None:
        return None
    start_us = to_us(span.start)
    return camera[0], start_us - camera[1], to_us(span.end), start_us


def _nearby(db: sqlite3.Connection, camera_id: UUID, span: TimeSpan) -> Nearby:
    camera = db.execute("SELECT no FROM camera WHERE id = ?", (camera_id.bytes,)).fetchone()
    if camera is None:
        return Nearby(before=None, after=None)
    return Nearby(
        before=_first_with_bytes(db, _BEFORE, camera[0], span.start),
        after=_first_with_bytes(db, _AFTER, camera[0], span.end),
    )


def _first_with_bytes(
    db: sqlite3.Connection, query: str, camera_no: int, moment: datetime
) -> datetime | None:
    found = db.execute(query, (camera_no, to_us(moment), LOOKED_AT))
    return next((from_us(there_us) for there_us, has_bytes in found if has_bytes), None)
