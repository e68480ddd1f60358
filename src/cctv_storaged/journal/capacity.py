"""What capacity asks: how much is recorded, what may go for room; and giving up what is undelivered.

Everything comes in slices: a call looks at a bounded number of rows, whether they qualify or not.
"""

import json
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from cctv_storaged.clock import MICROSECOND, from_us, to_us
from cctv_storaged.journal import ledger
from cctv_storaged.journal.copies import give_up_pending
from cctv_storaged.journal.exportneeds import under_export
from cctv_storaged.journal.rows import (
    AGE_FROM,
    SEGMENT_COLUMNS,
    SEGMENT_TABLES,
    one_segment,
    segments_from,
    unsigned,
)
from cctv_storaged.journal.store import Store
from cctv_storaged.model import Camera, Segment, SourceState

BUCKET = timedelta(minutes=10)
SLICE = 2000
"""Rows looked at in one call: some milliseconds."""
DISK_FULL = "disk_full"
"""Cause of a loss, and mark of its tombstone."""
_FIRST = (-(2**62), -1)
"""Before every row."""
_TO_PRUNE = "s.source_state = 'present' AND s.settled_us IS NOT NULL"
"""As the condition of the partial index segment_to_prune, or SQLite will not use it."""
_GIVING_UP = f"s.source_state = 'pruning' AND s.deletion_due_us IS NULL AND s.deletion_cause = '{DISK_FULL}'"
_MAY_BE_GIVEN_UP = """s.source_state = 'present' AND s.deletion_due_us IS NULL AND s.held = 0
    AND NOT EXISTS (SELECT 1 FROM copy
                     WHERE segment_no = s.no AND state IN ('stored', 'verified', 'deleting'))"""
"""No backend is known to hold anything of it; what was put and not proven yet may well be there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Footage of a camera below a root whose end lies in one bucket of time (counted from 1970)."""

    camera_id: UUID
    root: str
    bucket: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedPage:
    """A slice of what was registered."""

    recorded: tuple[Recorded, ...]
    last: int  # row number to go on after
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A segment that may go for room, as far as a glance tells."""

    id: UUID
    start: datetime
    end: datetime
    size_bytes: int
    linked: bool = False  # its source and its copy share an inode: the one frees nothing without the other
    registered: datetime | None = None  # where its name is in doubt: then, and it is no older

    @property
    def aged_from(self) -> datetime:
        """When its age begins: as `Segment.aged_from`."""
        return self.end if self.registered is None else max(self.end, self.registered)


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidatePage:
    """Candidates in order, among the rows looked at."""

    candidates: tuple[Candidate, ...]
    last: tuple[int, int] | None  # where to go on, also for what comes later; None: no row was looked at
    more: bool


class CapacityRows:
    """The journal's view of room."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def cameras(self) -> list[tuple[int, Camera]]:
        """Every camera with its row number."""
        return await self._store.read(_cameras)

    async def registered_before(self, moment: datetime) -> int:
        """The row number after which segments were registered since then."""
        return await self._store.read(lambda db: _registered_before(db, to_us(moment)))

    async def recorded(self, after: int) -> RecordedPage:
        """Bytes of the segments registered after a row number, by camera, root and bucket."""
        return await self._store.read(lambda db: _recorded(db, after))

    async def verified_sources(
        self, roots: frozenset[str], after: tuple[int, int] | None, now: datetime
    ) -> CandidatePage:
        """Sources below these roots whose copies are all verified, verified longest ago first."""
        return await self._store.read(lambda db: _verified_sources(db, roots, after, to_us(now)))

    async def delivered(
        self, camera_no: int, backend: str, before: datetime, after: tuple[int, int] | None, limit: int
    ) -> CandidatePage:
        """Segments of a camera whose age begins by `before`, the backend's copy verified and none on its way.

        Oldest first; a held one is none, nor one that an export waits for, nor one on its way out. A gap in
        XProtect keeps nothing that is elsewhere. About `limit` at most.
        """
        return await self._store.read(
            lambda db: _delivered(db, camera_no, backend, to_us(before), after, limit)
        )

    async def undelivered(
        self, backend: str, roots: frozenset[str], after: tuple[int, int] | None
    ) -> CandidatePage:
        """Sources below these roots of which the backend holds nothing, as far as is known; oldest first."""
        return await self._store.read(lambda db: _undelivered(db, backend, roots, after))

    async def begin_giving_up(self, segment_ids: Sequence[UUID]) -> list[Segment]:
        """Tombstones for those of them that are still here, at no backend and held by nothing; those."""
        return await self._store.write(lambda db: _begin_giving_up(db, segment_ids))

    async def given_up(self, segment_id: UUID, now: datetime) -> Segment | None:
        """The unlink of such a tombstone is done: the ledger tells the loss. Returns the segment lost."""
        return await self._store.write(lambda db: _given_up(db, segment_id, now))

    async def keep(self, segment_id: UUID) -> None:
        """The unlink was not done: the source is present again."""
        await self._store.write(
            lambda db: db.execute(
                f"""UPDATE segment AS s SET source_state = 'present', deletion_cause = NULL
                     WHERE id = ? AND {_GIVING_UP}""",
                (segment_id.bytes,),
            )
        )

    async def unfinished(self) -> list[Segment]:
        """Tombstones of giving up that the last process left behind."""
        query = f"SELECT {SEGMENT_COLUMNS} FROM {SEGMENT_TABLES} WHERE {_GIVING_UP}"
        return await self._store.read(lambda db: segments_from(db, db.execute(query).fetchall()))

    async def oldest_source(self, backends: Sequence[str]) -> datetime | None:
        """About when the oldest footage begins whose source is here; None without any."""
        return await self._store.read(lambda db: _oldest_source(db, backends))


def _cameras(db: sqlite3.Connection) -> list[tuple[int, Camera]]:
    return [
        (no, Camera(id=UUID(bytes=id_), name=name, folder=os.fsdecode(folder)))
        for no, id_, name, folder in db.execute("SELECT no, id, name, folder FROM camera ORDER BY name, id")
    ]


def _registered_before(db: sqlite3.Connection, moment_us: int) -> int:
    """Row numbers and times of registration grow together, but for a clock that was set."""
    low, high = 0, db.execute("SELECT coalesce(max(no), 0) FROM segment").fetchone()[0]
    while low < high:
        middle = (low + high) // 2
        query = "SELECT created_us FROM segment WHERE no > ? ORDER BY no LIMIT 1"
        if db.execute(query, (middle,)).fetchone()[0] < moment_us:
            low = middle + 1
        else:
            high = middle
    return low


def _recorded(db: sqlite3.Connection, after: int) -> RecordedPage:
    last = db.execute("SELECT max(no) FROM segment").fetchone()[0] or 0
    until = min(last, after + SLICE)
    rows = db.execute(
        """SELECT c.id, f.root, s.end_us / ?, sum(s.size_bytes) FROM segment s
            CROSS JOIN camera c ON c.no = s.camera_no CROSS JOIN folder f ON f.no = s.folder_no
            WHERE s.no > ? AND s.no <= ? GROUP BY 1, 2, 3""",
        (BUCKET // MICROSECOND, after, until),
    ).fetchall()
    recorded = [
        Recorded(camera_id=UUID(bytes=camera), root=os.fsdecode(root), bucket=bucket, bytes=size)
        for camera, root, bucket, size in rows
    ]
    return RecordedPage(recorded=tuple(recorded), last=max(until, after), more=until < last)


def _verified_sources(
    db: sqlite3.Connection, roots: frozenset[str], after: tuple[int, int] | None, until_us: int
) -> CandidatePage:
    rows = db.execute(
        f"""SELECT s.settled_us, s.no, s.id, s.start_us, s.end_us, s.size_bytes, s.inode, f.root, s.held,
                   (SELECT group_concat(etag, char(10)) FROM copy WHERE segment_no = s.no)
              FROM segment s CROSS JOIN folder f ON f.no = s.folder_no
             WHERE {_TO_PRUNE} AND (s.settled_us, s.no) > (?, ?) AND s.settled_us <= ?
             ORDER BY s.settled_us, s.no LIMIT ?""",
        (*(after or _FIRST), until_us, SLICE),
    ).fetchall()
    known = {os.fsencode(root) for root in roots}
    candidates = [
        _candidate(id_, start, end, size, linked=_is_linked(etags, unsigned(inode)))
        for _, _, id_, start, end, size, inode, root, held, etags in rows
        if root in known and not held
    ]
    return _page(candidates, rows, SLICE)


def _is_linked(etags: str | None, inode: int) -> bool:
    """Whether a copy of a FILESYSTEM backend is the source's own inode (backends/filesystem.py: `_mark`)."""
    marks = [etag.split(":") for etag in (etags or "").split("\n")]
    return any(mark[0] in ("linked", "file") and mark[2:3] == [str(inode)] for mark in marks)


def _delivered(
    db: sqlite3.Connection,
    camera_no: int,
    backend: str,
    before_us: int,
    after: tuple[int, int] | None,
    limit: int,
) -> CandidatePage:
    rows = db.execute(
        f"""SELECT s.start_us, s.no, s.id, s.end_us, s.size_bytes, {AGE_FROM},
                  s.held = 0 AND s.deletion_due_us IS NULL AND NOT {under_export(db, camera_no)}
                  AND (SELECT max(backend = ? AND state = 'verified')
                              AND min(state IN ('verified', 'gone', 'gap'))
                         FROM copy WHERE segment_no = s.no)
             FROM segment s
            WHERE s.camera_no = ? AND (s.start_us, s.no) > (?, ?) AND s.start_us < ?
            ORDER BY s.start_us, s.no LIMIT ?""",
        (backend, camera_no, *(after or _FIRST), before_us, limit),
    ).fetchall()
    candidates = [
        _candidate(id_, start, end, size, aged_from=aged_from)
        for start, _, id_, end, size, aged_from, may_go in rows
        if may_go and aged_from <= before_us
    ]
    return _page(candidates, rows, limit)


def _undelivered(
    db: sqlite3.Connection, backend: str, roots: frozenset[str], after: tuple[int, int] | None
) -> CandidatePage:
    """`after`: the start of the last one looked at (due, or a gap), and the row of the last failed one."""
    start_us, no = after or _FIRST
    pending = db.execute(
        """SELECT start_us, segment_no FROM copy WHERE backend = ? AND state IN ('pending', 'stored')
              AND start_us > ?
           UNION ALL SELECT start_us, segment_no FROM copy WHERE backend = ? AND state = 'gap'
              AND start_us > ? ORDER BY start_us, segment_no LIMIT ?""",
        (backend, start_us, backend, start_us, SLICE),
    ).fetchall()
    failed = db.execute(
        """SELECT segment_no FROM copy WHERE backend = ? AND state = 'failed' AND segment_no > ?
            ORDER BY segment_no LIMIT ?""",
        (backend, no, SLICE),
    ).fetchall()
    numbers = [row[1] for row in pending] + [row[0] for row in failed]
    rows = db.execute(
        f"""SELECT s.id, s.start_us, s.end_us, s.size_bytes, f.root
              FROM json_each(?) number CROSS JOIN segment s ON s.no = number.value
              CROSS JOIN folder f ON f.no = s.folder_no
             WHERE {_MAY_BE_GIVEN_UP} ORDER BY s.start_us, s.no""",
        (json.dumps(numbers),),
    ).fetchall()
    known = {os.fsencode(root) for root in roots}
    candidates = [_candidate(*row[:4]) for row in rows if row[4] in known]
    last = (pending[-1][0] if pending else start_us, failed[-1][0] if failed else no)
    return CandidatePage(candidates=tuple(candidates), last=last, more=SLICE in (len(pending), len(failed)))


def _page(candidates: Sequence[Candidate], rows: Sequence[Sequence[Any]], limit: int) -> CandidatePage:
    """Of rows that begin with their position; typed by STRICT."""
    last = (rows[-1][0], rows[-1][1]) if rows else None
    return CandidatePage(candidates=tuple(candidates), last=last, more=len(rows) == limit)


def _candidate(
    id_: bytes, start: int, end: int, size: int, *, linked: bool = False, aged_from: int | None = None
) -> Candidate:
    return Candidate(
        id=UUID(bytes=id_),
        start=from_us(start),
        end=from_us(end),
        size_bytes=size,
        linked=linked,
        registered=None if aged_from in (None, end) else from_us(aged_from),
    )


def _begin_giving_up(db: sqlite3.Connection, segment_ids: Sequence[UUID]) -> list[Segment]:
    begun = []
    for segment_id in segment_ids:
        found = one_segment(db, f"s.id = ? AND {_MAY_BE_GIVEN_UP}", segment_id.bytes)
        if found is not None and _tombstone(db, found[0]):
            begun.append(found[1])
    return begun


def _tombstone(db: sqlite3.Connection, no: int) -> bool:
    query = "UPDATE segment SET source_state = 'pruning', deletion_cause = ? WHERE no = ?"
    try:
        db.execute(query, (DISK_FULL, no))
    except sqlite3.IntegrityError:  # a hold that has not been marked yet: its trigger says no
        return False
    return True


def _given_up(db: sqlite3.Connection, segment_id: UUID, now: datetime) -> Segment | None:
    found = one_segment(db, f"s.id = ? AND {_GIVING_UP}", segment_id.bytes)
    if found is None:
        return None
    db.execute(
        "UPDATE segment SET source_state = ?, deletion_cause = NULL WHERE no = ?",
        (SourceState.MISSING, found[0]),
    )
    give_up_pending(db, found[0], DISK_FULL)
    return ledger.tell_if_lost(db, found[0], DISK_FULL, now)


def _oldest_source(db: sqlite3.Connection, backends: Sequence[str]) -> datetime | None:
    query = f"SELECT s.start_us FROM segment s WHERE {_TO_PRUNE} ORDER BY s.settled_us LIMIT 1"
    found = [row[0] for row in db.execute(query)]
    for backend in backends:
        query = "SELECT min(start_us) FROM copy WHERE backend = ? AND state IN ('pending', 'stored')"
        found.append(db.execute(query, (backend,)).fetchone()[0])
    known = [start_us for start_us in found if start_us is not None]
    return from_us(min(known)) if known else None
