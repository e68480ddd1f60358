"""What the retention report asks: a few looks into an index for each camera, however much there is of it."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from cctv_storaged.clock import from_us, to_us
from cctv_storaged.journal.finding import HAS_BYTES, LAST_NO
from cctv_storaged.journal.gaps import CLOCKS_SET_US
from cctv_storaged.journal.ledger import TOLD
from cctv_storaged.journal.store import Store
from cctv_storaged.model import Camera, TimeSpan

SLICE = 1000
"""Segments looked at in one go."""
PRUNED = 1000
"""Rows of history forgotten in one commit."""
DAY_US = 86_400_000_000
_BEGIN = (CLOCKS_SET_US, -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class OldestPage:
    """The oldest footage, None where none was met yet; and where to look on (None: that was all)."""

    start: datetime | None
    next: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class DayRow:
    """A camera's day: how far it was looked at, and its summary."""

    day: int  # since 1970-01-01, UTC
    until: datetime
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PastDay:
    """What was kept of a camera on a day, as it was noted then."""

    camera_id: UUID
    required_us: int | None
    achieved_us: int
    longest_gap_us: int


class Reports:
    """Reads what the report is made of, and keeps its history."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def cameras(self) -> list[Camera]:
        """Every camera that the journal knows, by name."""
        return await self._store.read(_cameras)

    async def oldest(
        self, camera_id: UUID, held_from: datetime | None, after: tuple[int, int] | None = None
    ) -> OldestPage:
        """Start of the oldest footage with bytes; what a hold keeps counts if it begins at `held_from` or
        later (None: all of it)."""
        return await self._store.read(lambda db: _oldest(db, camera_id, held_from, after or _BEGIN))

    async def taken_within(self, camera_id: UUID, span: TimeSpan) -> str | None:
        """Cause of the newest footage that began within the span and was deleted or lost; None of none."""
        return await self._store.read(lambda db: _taken_within(db, camera_id, span))

    async def days(self, camera_id: UUID, first: int, last: int) -> list[DayRow]:
        """A camera's days that were looked at, `last` among them, in order."""
        return await self._store.read(lambda db: _days(db, camera_id, first, last))

    async def last_line(self) -> int:
        """Number of the ledger's last line."""
        query = "SELECT coalesce(max(no), 0) FROM ledger"
        return await self._store.read(lambda db: int(db.execute(query).fetchone()[0]))

    async def put_day(self, camera_id: UUID, row: DayRow, seen: int) -> bool:
        """The day is so now; False, and nothing is written, where a line after `seen` changes it."""
        return await self._store.write(lambda db: _put_day(db, camera_id, row, seen))

    async def forget_days(self, camera_id: UUID, before: int) -> None:
        """Days of which nothing is asked any more."""
        await self._store.write(lambda db: _forget_days(db, camera_id, before))

    async def note(self, day: str, rows: Sequence[PastDay]) -> None:
        """What was kept on the day (YYYY-MM-DD); what was noted of it before stays. Give 200 at most."""
        await self._store.write(lambda db: _note(db, day, rows))

    async def noted(self, day: str) -> bool:
        """Whether anything was noted of the day."""
        query = "SELECT 1 FROM retention_day WHERE day = ? LIMIT 1"
        return await self._store.read(lambda db: db.execute(query, (day,)).fetchone() is not None)

    async def of_day(self, day: str) -> list[PastDay]:
        """What was kept on the day."""
        return await self._store.read(lambda db: _of_day(db, day))

    async def forget_history(self, before: str) -> int:
        """Rows of days before that one, at most PRUNED; how many went."""
        query = """DELETE FROM retention_day WHERE (day, camera_id) IN (
                       SELECT day, camera_id FROM retention_day WHERE day < ? LIMIT ?)"""
        return await self._store.write(lambda db: db.execute(query, (before, PRUNED)).rowcount)


def _cameras(db: sqlite3.Connection) -> list[Camera]:
    rows = db.execute("SELECT id, name, folder FROM camera ORDER BY name, id")
    return [
        Camera(id=UUID(bytes=id_), name=name, folder=folder.decode(errors="surrogateescape"))
        for id_, name, folder in rows
    ]


def _oldest(
    db: sqlite3.Connection, camera_id: UUID, held_from: datetime | None, after: tuple[int, int]
) -> OldestPage:
    camera = db.execute("SELECT no FROM camera WHERE id = ?", (camera_id.bytes,)).fetchone()
    if camera is None:
        return OldestPage(start=None, next=None)
    holds = [] if held_from is None else _holds(db, camera[0])
    rows = db.execute(
        f"""SELECT s.start_us, s.no, s.end_us, {HAS_BYTES} FROM segment s
             WHERE s.camera_no = ? AND (s.start_us, s.no) > (?, ?) ORDER BY s.start_us, s.no LIMIT ?""",
        (camera[0], *after, SLICE),
    )
    seen, last = 0, after
    for start, no, end, has_bytes in rows:
        seen, last = seen + 1, (start, no)
        if not has_bytes:
            continue
        until = None if held_from is None or start >= to_us(held_from) else _held_until(holds, start, end)
        if until is None:
            return OldestPage(start=from_us(start), next=None)
        last = max(last, (min(until, to_us(held_from) if held_from is not None else until) - 1, LAST_NO))
        return OldestPage(start=None, next=last)  # all that begins before that is held
    return OldestPage(start=None, next=last if seen == SLICE else None)


def _holds(db: sqlite3.Connection, camera_no: int) -> list[tuple[int, int]]:
    return db.execute(
        """SELECT h.start_us, h.end_us FROM hold_camera c CROSS JOIN hold h ON h.no = c.hold_no
            WHERE c.camera_no = ? AND h.released_us IS NULL""",
        (camera_no,),
    ).fetchall()


def _held_until(holds: Sequence[tuple[int, int]], start: int, end: int) -> int | None:
    """When the longest hold over a segment ends; None: none is."""
    return max((until for begin, until in holds if begin < end and until > start), default=None)


def _taken_within(db: sqlite3.Connection, camera_id: UUID, span: TimeSpan) -> str | None:
    row = db.execute(
        f"""SELECT cause FROM ledger WHERE camera_id = ? AND {TOLD} AND kind <> 'found'
               AND start_us >= ? AND start_us < ? ORDER BY start_us DESC LIMIT 1""",
        (camera_id.bytes, to_us(span.start), to_us(span.end)),
    ).fetchone()
    return None if row is None else str(row[0])


def _days(db: sqlite3.Connection, camera_id: UUID, first: int, last: int) -> list[DayRow]:
    rows = db.execute(
        """SELECT day, until_us, summary FROM covered_day
            WHERE camera_no = (SELECT no FROM camera WHERE id = ?) AND day BETWEEN ? AND ? ORDER BY day""",
        (camera_id.bytes, first, last),
    )
    return [DayRow(day, from_us(until), summary) for day, until, summary in rows]


def _put_day(db: sqlite3.Connection, camera_id: UUID, row: DayRow, seen: int) -> bool:
    """As the trigger covered_day_changed, for what happened while the day was looked at."""
    changed = db.execute(
        """SELECT 1 FROM ledger WHERE no > ? AND camera_id = ? AND start_us < ? AND end_us >= ?
              AND kind IN ('registered', 'adopted', 'lost', 'found', 'deleted') LIMIT 1""",
        (seen, camera_id.bytes, to_us(row.until), row.day * DAY_US),
    ).fetchone()
    if changed is None:
        db.execute(
            """INSERT OR REPLACE INTO covered_day (camera_no, day, until_us, summary)
               SELECT no, ?, ?, ? FROM camera WHERE id = ?""",
            (row.day, to_us(row.until), row.summary, camera_id.bytes),
        )
    return changed is None


def _forget_days(db: sqlite3.Connection, camera_id: UUID, before: int) -> None:
    db.execute(
        "DELETE FROM covered_day WHERE camera_no = (SELECT no FROM camera WHERE id = ?) AND day < ?",
        (camera_id.bytes, before),
    )


def _note(db: sqlite3.Connection, day: str, rows: Sequence[PastDay]) -> None:
    db.executemany(
        "INSERT OR IGNORE INTO retention_day VALUES (?, ?, ?, ?, ?)",
        [(day, row.camera_id.bytes, row.required_us, row.achieved_us, row.longest_gap_us) for row in rows],
    )


def _of_day(db: sqlite3.Connection, day: str) -> list[PastDay]:
    rows = db.execute(
        "SELECT camera_id, required_us, achieved_us, longest_gap_us FROM retention_day WHERE day = ?", (day,)
    )
    return [
        PastDay(camera_id=UUID(bytes=camera), required_us=required, achieved_us=achieved, longest_gap_us=gap)
        for camera, required, achieved, gap in rows
    ]
