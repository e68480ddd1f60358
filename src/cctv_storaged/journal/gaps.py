"""What the journal knows of time without footage: who deleted it, what was lost, what came instead.

Everything is read in slices; coverage.py puts them together.
"""

import json
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from cctv_storaged.clock import MICROSECOND, from_us, to_us
from cctv_storaged.journal.ledger import TOLD, Kind
from cctv_storaged.journal.store import Store
from cctv_storaged.model import GapCause, TimeSpan

RECENT = 200
"""So many of a camera's newest segments tell how long its segments are: a recorder that restarts again and
again leaves many short ones, and is not silent while it writes a long one then."""
USUAL = timedelta(seconds=60)
"""How long they are taken to be where none is known."""
CLOCKS_SET_US = to_us(datetime(2001, 1, 1, tzinfo=UTC))
"""What is dated earlier was named by a clock that nobody had set: those begin in 1970, 1980 or 2000."""
STEPS = 2000
"""Steps of the clock looked at, the newest: a host with more has other troubles."""
KNOWN_SINCE = "known_since"
"""Key of `meta`: microseconds. The journal was begun then beside older footage, and knows of nothing that was
deleted or lost before."""
RETENTION, CAPACITY, GIVEN_UP = "retention_at_most", "capacity_", "disk_full"
VMS_RETENTION = "vms_retention"
"""Causes of a deletion (deletions.py); capacity has several, and what was given up was the only copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """When footage is not there, and why."""

    span: TimeSpan
    cause: GapCause


@dataclass(frozen=True, slots=True, kw_only=True)
class Absences:
    """Absences in order of their start, and where to ask on (None: that was all)."""

    parts: tuple[Absence, ...]
    next: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraTimes:
    """What a camera's segments are like."""

    first: datetime | None  # start of the first footage that this journal ever had of it, since CLOCKS_SET_US
    usual: timedelta  # how long a segment is; three quarters of the newest footage are in none longer
    known_since: datetime | None = None  # of older times nobody can tell why nothing is there; None: of none

    @property
    def forgotten(self) -> bool:
        """Whether there may have been footage before the first, in a journal that was lost."""
        return self.known_since is not None and (self.first is None or self.first < self.known_since)

    @property
    def installed(self) -> datetime | None:
        """When the first footage ever was, where that is known."""
        return None if self.forgotten else self.first


@dataclass(frozen=True, slots=True)
class ClockStep:
    """The wall clock jumped: forward if `by` is above zero. `at` is by the clock after it."""

    at: datetime
    by: timedelta


class Gaps:
    """Reads what is known of gaps."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def times(self, camera_id: UUID, now: datetime) -> CameraTimes:
        """Of a camera as it is `now`; footage from the future does not count."""
        return await self._store.read(lambda db: _times(db, camera_id, now))

    async def absences(
        self,
        camera_id: UUID,
        span: TimeSpan,
        tolerance: timedelta,
        limit: int,
        after: tuple[int, int] | None,
    ) -> Absences:
        """What is lost and deleted of a camera within the span: `limit` lines' worth, from `after` on.

        What was told last of a segment counts. Lines of one cause are joined where less than `tolerance`
        lies between them: retention writes one for each segment, three million in a year.
        """
        return await self._store.read(lambda db: _absences(db, camera_id, span, tolerance, limit, after))

    async def steps(self, span: TimeSpan) -> list[ClockStep]:
        """Forward steps that passed over time of the span, newest first."""
        return await self._store.read(lambda db: _steps(db, span))

    async def roots(self) -> list[str]:
        """Every folder that sources were ever registered below."""
        return await self._store.read(_roots)

    async def roots_around(self, camera_id: UUID, spans: Sequence[TimeSpan]) -> list[frozenset[str]]:
        """For each span the roots that the segments before and after it were registered below."""
        return await self._store.read(lambda db: _roots_around(db, camera_id, spans))


def cause_of(kind: str, cause: str) -> GapCause:
    """What the gap is called that a line of the ledger, or a tombstone, explains."""
    if kind == Kind.LOST or cause == GIVEN_UP:
        return GapCause.LOST
    if cause in (RETENTION, VMS_RETENTION):
        return GapCause.RETENTION
    return GapCause.CAPACITY if cause.startswith(CAPACITY) else GapCause.DELETED


def _times(db: sqlite3.Connection, camera_id: UUID, now: datetime) -> CameraTimes:
    camera = db.execute("SELECT no, first_us FROM camera WHERE id = ?", (camera_id.bytes,)).fetchone()
    since = db.execute("SELECT value FROM meta WHERE key = ?", (KNOWN_SINCE,)).fetchone()
    known_since = None if since is None else from_us(int(since[0]))
    if camera is None:
        return CameraTimes(first=None, usual=USUAL, known_since=known_since)
    rows = db.execute(
        """SELECT end_us - start_us FROM segment WHERE camera_no = ? AND start_us <= ?
            ORDER BY start_us DESC LIMIT ?""",
        (camera[0], to_us(now), RECENT),
    )
    first_us = camera[1]
    if first_us is not None and first_us < CLOCKS_SET_US:
        dated = "SELECT min(start_us) FROM segment WHERE camera_no = ? AND start_us >= ?"
        first_us = db.execute(dated, (camera[0], CLOCKS_SET_US)).fetchone()[0]
    return CameraTimes(
        first=None if first_us is None else from_us(first_us),
        usual=usual_of([length for (length,) in rows]),
        known_since=known_since,
    )


def usual_of(lengths: Sequence[int]) -> timedelta:
    """Three quarters of the time of segments of these lengths (microseconds) are in none longer. Pure."""
    left = sum(lengths)
    for length in sorted(lengths, reverse=True):
        left -= length
        if left * 4 < sum(lengths) * 3:
            return length * MICROSECOND
    return USUAL


def _absences(
    db: sqlite3.Connection,
    camera_id: UUID,
    span: TimeSpan,
    tolerance: timedelta,
    limit: int,
    after: tuple[int, int] | None,
) -> Absences:
    longest = db.execute("SELECT longest_us FROM camera WHERE id = ?", (camera_id.bytes,)).fetchone()
    start_us, end_us = to_us(span.start), to_us(span.end)
    lowest = (start_us - (longest[0] if longest else 0), 0)
    rows = db.execute(
        f"""SELECT start_us, no, end_us, kind, cause FROM ledger line
             WHERE camera_id = ? AND {TOLD} AND (start_us, no) > (?, ?) AND start_us < ? AND end_us > ?
               AND NOT EXISTS (
                   SELECT 1 FROM ledger later
                    WHERE later.camera_id = line.camera_id AND later.start_us = line.start_us
                      AND later.segment_id = line.segment_id AND later.no > line.no
                      AND later.{TOLD})
             ORDER BY start_us, no LIMIT ?""",
        (camera_id.bytes, *(lowest if after is None else after), end_us, start_us, limit),
    ).fetchall()
    told = [(start, end, cause_of(kind, cause)) for start, _, end, kind, cause in rows if kind != Kind.FOUND]
    return Absences(parts=joined(told, tolerance), next=rows[-1][:2] if len(rows) == limit else None)


def joined(rows: Sequence[tuple[int, int, GapCause]], tolerance: timedelta) -> tuple[Absence, ...]:
    """Starts, ends (microseconds) and causes in order, as few as they can be."""
    slack_us = tolerance // MICROSECOND
    parts: list[tuple[int, int, GapCause]] = []
    for start, end, cause in rows:
        if parts and parts[-1][2] is cause and start <= parts[-1][1] + slack_us:
            parts[-1] = (parts[-1][0], max(parts[-1][1], end), cause)
        else:
            parts.append((start, end, cause))
    return tuple(
        Absence(span=TimeSpan(from_us(start), from_us(end)), cause=cause) for start, end, cause in parts
    )


def _steps(db: sqlite3.Connection, span: TimeSpan) -> list[ClockStep]:
    rows = db.execute("SELECT at_us, by_us FROM clock_step ORDER BY no DESC LIMIT ?", (STEPS,))
    start_us, end_us = to_us(span.start), to_us(span.end)
    return [
        ClockStep(at=from_us(at), by=by * MICROSECOND)
        for at, by in rows
        if by > 0 and at - by < end_us and at > start_us
    ]


def _roots(db: sqlite3.Connection) -> list[str]:
    """One look into the index for each: there is a folder a camera and day."""
    rows = db.execute(
        """WITH RECURSIVE known (root) AS (
               SELECT min(root) FROM folder
               UNION ALL
               SELECT (SELECT min(root) FROM folder WHERE root > known.root) FROM known
                WHERE known.root IS NOT NULL)
           SELECT root FROM known WHERE root IS NOT NULL"""
    )
    return [os.fsdecode(root) for (root,) in rows]


def _roots_around(db: sqlite3.Connection, camera_id: UUID, spans: Sequence[TimeSpan]) -> list[frozenset[str]]:
    moments = [(to_us(span.start), to_us(span.end)) for span in spans]
    rows = db.execute(
        """SELECT (SELECT f.root FROM segment s CROSS JOIN folder f ON f.no = s.folder_no
                    WHERE s.camera_no = c.no AND s.start_us < json_extract(asked.value, '$[0]')
                    ORDER BY s.start_us DESC LIMIT 1),
                  (SELECT f.root FROM segment s CROSS JOIN folder f ON f.no = s.folder_no
                    WHERE s.camera_no = c.no AND s.start_us >= json_extract(asked.value, '$[1]')
                    ORDER BY s.start_us LIMIT 1)
             FROM json_each(?) asked CROSS JOIN camera c ON c.id = ?
            ORDER BY asked.key""",
        (json.dumps(moments), camera_id.bytes),
    ).fetchall()
    found = [frozenset(os.fsdecode(root) for root in row if root is not None) for row in rows]
    return found or [frozenset() for _ in spans]
