"""Segments of a camera by time: pages of them, and when there is footage; no more rows than are asked for."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from cctv_storaged.clock import MICROSECOND, from_us, to_us
from cctv_storaged.journal import ledger
from cctv_storaged.journal.gaps import Absence, cause_of, joined
from cctv_storaged.journal.rows import SEGMENT_COLUMNS, SEGMENT_TABLES, Row, segments_from
from cctv_storaged.model import CopyState, Segment, SourceState, TimeSpan

HAS_BYTES = f"""(s.source_state = '{SourceState.PRESENT}' OR EXISTS (
    SELECT 1 FROM copy WHERE copy.segment_no = s.no
       AND state IN ('{CopyState.STORED}', '{CopyState.VERIFIED}')))"""
"""Of a segment `s`: its bytes are somewhere."""
ONLY_COPY = f"""c.state IN ('{CopyState.STORED}', '{CopyState.VERIFIED}')
    AND s.source_state <> '{SourceState.PRESENT}' AND NOT EXISTS (
    SELECT 1 FROM copy other WHERE other.segment_no = s.no AND other.backend <> c.backend
       AND other.state IN ('{CopyState.STORED}', '{CopyState.VERIFIED}'))"""
"""Of a segment `s` and its copy `c`: there are bytes of it, and nowhere else."""
LAST_NO = 2**62
"""Behind every row number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Segments oldest first, and where the next page begins (None: there is none)."""

    segments: tuple[Segment, ...]
    next: tuple[datetime, UUID] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Footage:
    """When there is footage, in order of time, and where to ask on (None: that was all)."""

    spans: tuple[TimeSpan, ...]
    going: tuple[Absence, ...]  # segments on their way out: their bytes do not count any more
    next: datetime | None


def page(
    db: sqlite3.Connection, camera_id: UUID, span: TimeSpan, limit: int, after: tuple[datetime, UUID] | None
) -> Page:
    rows = overlapping(db, f"{SEGMENT_COLUMNS} FROM {SEGMENT_TABLES}", camera_id, span, limit + 1, after)
    segments = segments_from(db, rows[:limit])
    following = (segments[-1].span.start, segments[-1].id) if len(rows) > limit else None
    return Page(segments=tuple(segments), next=following)


def overlapping(
    db: sqlite3.Connection,
    columns_from: str,  # what stands between SELECT and WHERE; the table segment is `s` there
    camera_id: UUID,
    span: TimeSpan,
    limit: int,
    after: tuple[datetime, UUID] | None,
) -> list[Row]:
    """Rows of a camera's segments that overlap the span and have bytes somewhere, oldest first."""
    camera = db.execute("SELECT no, longest_us FROM camera WHERE id = ?", (camera_id.bytes,)).fetchone()
    if camera is None:
        return []
    lowest = (to_us(span.start) - camera[1], LAST_NO)  # what starts there is over when the span begins
    start, no = lowest if after is None else max(lowest, _keyset(db, after))
    return db.execute(
        f"""SELECT {columns_from}
             WHERE s.camera_no = ? AND (s.start_us, s.no) > (?, ?) AND s.start_us < ? AND s.end_us > ?
               AND {HAS_BYTES}
             ORDER BY s.start_us, s.no LIMIT ?""",
        (camera[0], start, no, to_us(span.end), to_us(span.start), limit),
    ).fetchall()


def _keyset(db: sqlite3.Connection, after: tuple[datetime, UUID]) -> tuple[int, int]:
    """Where to go on: behind the row of the id.

    Should the row be gone, then with all that start when it did: one may come twice, none is passed over.
    """
    row = db.execute("SELECT no FROM segment WHERE id = ?", (after[1].bytes,)).fetchone()
    return to_us(after[0]), row[0] if row else 0


def footage(
    db: sqlite3.Connection,
    camera_id: UUID,
    span: TimeSpan,
    tolerance: timedelta,
    limit: int,
    after: datetime | None,
) -> Footage:
    camera = db.execute("SELECT no, longest_us FROM camera WHERE id = ?", (camera_id.bytes,)).fetchone()
    if camera is None:
        return Footage(spans=(), going=(), next=None)
    lowest = to_us(span.start) - camera[1]
    rows = db.execute(
        f"""SELECT s.start_us, s.end_us, s.no, {HAS_BYTES} FROM segment s
             WHERE s.camera_no = ? AND s.start_us > ? AND s.start_us < ? AND s.end_us > ?
             ORDER BY s.start_us LIMIT ?""",
        (
            camera[0],
            lowest if after is None else max(lowest, to_us(after) - 1),
            to_us(span.end),
            to_us(span.start),
            limit,
        ),
    ).fetchall()
    last = rows[-1][0] if len(rows) == limit else None
    if last is not None and last == rows[0][0]:
        last += 1  # thousands with one start: the next call would be the same again
    there = [(start, end) for start, end, _, has_bytes in rows if has_bytes]
    return Footage(
        spans=tuple(TimeSpan(from_us(start), from_us(end)) for start, end in _joined(there, tolerance)),
        going=_going(db, [no for _, _, no, has_bytes in rows if not has_bytes], tolerance),
        next=None if last is None else from_us(last),
    )


def _going(db: sqlite3.Connection, numbers: Sequence[int], tolerance: timedelta) -> tuple[Absence, ...]:
    """Those of the segments that are being deleted: the ledger hears of it when the last byte is gone."""
    if not numbers:
        return ()
    rows = db.execute(
        """SELECT start_us, end_us, coalesce(deletion_cause, '') FROM json_each(?) asked
             CROSS JOIN segment s ON s.no = asked.value
            WHERE s.deletion_due_us IS NOT NULL""",
        (json.dumps(numbers),),
    )
    going = [(start, end, cause_of(ledger.Kind.DELETED, cause)) for start, end, cause in rows]
    return joined(going, tolerance)


def _joined(rows: Sequence[tuple[int, int]], tolerance: timedelta) -> list[tuple[int, int]]:
    """Spans in order of their start, in microseconds, as few as they can be."""
    slack_us = tolerance // MICROSECOND
    joined: list[tuple[int, int]] = []
    for start, end in rows:
        if joined and start <= joined[-1][1] + slack_us:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined
