"""What the watch over cameras, backends and losses asks the journal, each in a slice of its own."""

import os
import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from cctv_storaged.clock import MICROSECOND, from_us, to_us
from cctv_storaged.journal.store import Store
from cctv_storaged.model import TimeSpan

STARTS = 301
"""So many of a camera's newest segments tell how often one comes."""
NEWEST = 3
"""And so many how long one is now: a recorder may be set to another length."""
PAGE = 200
"""Losses read in one go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """When a camera's newest segments began, oldest first."""

    starts: tuple[datetime, ...]
    longest: timedelta  # of the last few
    root: str | None  # that the last lies under


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The segment that has waited longest for its copy at a backend."""

    start: datetime
    registered: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A line of the ledger: footage that was lost."""

    line: int
    at: datetime
    camera_id: UUID
    span: TimeSpan
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Losses in the ledger's order, and the line to read on behind."""

    found: tuple[Loss, ...]
    after: int
    more: bool


class WatchRows:
    """Reads only."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def cadence(self, camera_id: UUID, now: datetime) -> Cadence:
        """Of a camera as it is `now`; what is named to begin later does not count."""
        return await self._store.read(lambda db: _cadence(db, camera_id, now))

    async def waiting(self, backend: str) -> Waiting | None:
        """What was registered first of all that is undelivered there; None with nothing undelivered."""
        return await self._store.read(lambda db: _waiting(db, backend))

    async def line_at(self, moment: datetime) -> int:
        """The number of the ledger's last line that was written before the moment; 0 where there is none."""
        return await self._store.read(lambda db: _line_at(db, to_us(moment)))

    async def losses(self, after: int) -> Losses:
        """Losses behind a line, a page of them."""
        return await self._store.read(lambda db: _losses(db, after))


def _cadence(db: sqlite3.Connection, camera_id: UUID, now: datetime) -> Cadence:
    rows = db.execute(
        """SELECT s.start_us, s.end_us, s.no FROM camera c CROSS JOIN segment s ON s.camera_no = c.no
            WHERE c.id = ? AND s.start_us <= ? ORDER BY s.start_us DESC LIMIT ?""",
        (camera_id.bytes, to_us(now), STARTS),
    ).fetchall()
    if not rows:
        return Cadence(starts=(), longest=timedelta(0), root=None)
    root = db.execute(
        "SELECT f.root FROM segment s CROSS JOIN folder f ON f.no = s.folder_no WHERE s.no = ?", (rows[0][2],)
    ).fetchone()[0]
    return Cadence(
        starts=tuple(from_us(start) for start, _, _ in reversed(rows)),
        longest=max(end - start for start, end, _ in rows[:NEWEST]) * MICROSECOND,
        root=os.fsdecode(root),
    )


def _waiting(db: sqlite3.Connection, backend: str) -> Waiting | None:
    """By the number, which is given as they come: what begins first may have been brought in just now."""
    first = db.execute(
        "SELECT min(segment_no) FROM copy WHERE backend = ? AND (state = 'pending' OR state = 'stored')",
        (backend,),
    ).fetchone()[0]
    if first is None:
        return None
    start, created = db.execute("SELECT start_us, created_us FROM segment WHERE no = ?", (first,)).fetchone()
    return Waiting(start=from_us(start), registered=from_us(created))


def _line_at(db: sqlite3.Connection, moment_us: int) -> int:
    """By halving: lines are in order of time, but for steps of the clock."""
    first, last = db.execute("SELECT (SELECT min(no) FROM ledger), (SELECT max(no) FROM ledger)").fetchone()
    if first is None:
        return 0
    before, at_or_after = first - 1, last + 1
    while at_or_after - before > 1:
        middle = (before + at_or_after) // 2
        no, at_us = db.execute(
            "SELECT no, at_us FROM ledger WHERE no >= ? ORDER BY no LIMIT 1", (middle,)
        ).fetchone()
        if at_us < moment_us:
            before = no
        else:
            at_or_after = middle
    return int(before)


def _losses(db: sqlite3.Connection, after: int) -> Losses:
    rows: list[tuple[int, int, bytes, int, int, str]] = []
    cause = ""
    while True:  # from one cause to the next by the index: losses may be many, and their causes are few
        row = db.execute(
            "SELECT cause FROM ledger WHERE kind = 'lost' AND cause > ? ORDER BY cause LIMIT 1", (cause,)
        ).fetchone()
        if row is None:
            break
        cause = row[0]
        rows += db.execute(
            """SELECT no, at_us, camera_id, start_us, end_us, cause FROM ledger INDEXED BY ledger_losses
                WHERE kind = 'lost' AND cause = ? AND no > ? ORDER BY no LIMIT ?""",
            (cause, after, PAGE),
        ).fetchall()
    page = sorted(rows)[:PAGE]
    return Losses(
        found=tuple(
            Loss(
                line=no,
                at=from_us(at_us),
                camera_id=UUID(bytes=camera_id),
                span=TimeSpan(from_us(start_us), from_us(end_us)),
                cause=cause,
            )
            for no, at_us, camera_id, start_us, end_us, cause in page
        ),
        after=page[-1][0] if page else after,
        more=len(page) == PAGE,
    )
