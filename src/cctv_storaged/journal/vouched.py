"""Copies that a backend vouches for by a camera's span, many at a time: no bytes of ours are put there.

Every operation takes a bounded number of rows. What is looked at now and then (gaps, failures) is kept in
its order by `due_us`, which such copies have no other use for.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from cctv_storaged.clock import from_us, to_us
from cctv_storaged.journal import ledger
from cctv_storaged.journal.copies import UNDELIVERED, flag_if_twin, waiting_us
from cctv_storaged.journal.deletions import UNDER_HOLD
from cctv_storaged.journal.gaps import VMS_RETENTION
from cctv_storaged.journal.rows import SEGMENT_COLUMNS, SEGMENT_TABLES, segment_by_no, segments_from, text
from cctv_storaged.journal.store import Store
from cctv_storaged.model import CopyState, Segment, SourceState, TimeSpan

AT_MOST = 50
"""Segments to change in one operation: some milliseconds."""
PAGE = 500
"""Rows to read in one operation."""
GAP = "vms_gap"
"""Cause of the ledger's line on a gap; VMS_RETENTION is that of what went there, and is no loss."""
LONGEST_LOOK = timedelta(days=2)
"""No gap waits as long: what is due later was put off by a clock that was set back since."""
_FIRST, _LAST = (-(2**62), -1), (2**62, 2**62)


class Which(StrEnum):
    """Which copies to read, each in the order of its index."""

    URGENT = "copy.urgent = 1 AND copy.state IN ('pending', 'stored')"
    UNDELIVERED = UNDELIVERED
    GAP = "copy.state = 'gap'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A segment's copy that is to be vouched for, with what decides about it."""

    no: int
    id: UUID
    camera_id: UUID
    span: TimeSpan
    state: CopyState
    attempts: int  # retrievals that came to nothing
    urgent: bool
    hashed: bool  # its SHA-256 is known
    others_pending: bool  # another backend is to get it too, and will hash it
    source: SourceState
    created_at: datetime
    due: bool
    when_in_doubt: bool = False  # it may have been recorded at another time than its name says


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingPage:
    """Rows in their order; `after` is where to go on, None at the end."""

    rows: tuple[Waiting, ...]
    after: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A segment that a camera's span is shown to cover."""

    id: UUID
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """What a backend was shown not to hold.

    `gaps`: a source is left, and the copy is wanted: state `gap`. `elsewhere`: another copy is left, or a
    source is and the copy is not wanted, or no longer: `gone`. `lost`: neither, and the ledger was not told
    of it before; `failed`.
    """

    gaps: tuple[UUID, ...] = ()
    elsewhere: tuple[UUID, ...] = ()
    lost: tuple[Segment, ...] = ()

    @property
    def count(self) -> int:
        return len(self.gaps) + len(self.elsewhere) + len(self.lost)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """What decides what a copy is that is not held."""

    wanted: bool
    expired_us: int | None


class Vouched:
    """The journal's copies at backends that record by themselves."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # Reading

    async def page(
        self,
        backend: str,
        which: Which,
        now: datetime,
        *,
        after: tuple[int, int] | None = None,
        newest_first: bool = False,
        limit: int = PAGE,
    ) -> WaitingPage:
        """The next copies by start time, due or not."""
        return await self._store.read(lambda db: _page(db, backend, which, now, after, newest_first, limit))

    async def failed(self, backend: str, now: datetime, after: int, limit: int = PAGE) -> WaitingPage:
        """Copies given up on, by segment number: what vanished unhashed may be held all the same."""
        return await self._store.read(lambda db: _failed(db, backend, now, after, limit))

    async def within(self, backend: str, camera_id: UUID, span: TimeSpan, now: datetime) -> list[Waiting]:
        """A camera's undelivered copies that overlap the span, at most PAGE."""
        return await self._store.read(lambda db: _within(db, backend, camera_id, span, now))

    async def segments(self, ids: Sequence[UUID]) -> list[Segment]:
        """Those of them that there are, whole. Give AT_MOST."""
        return await self._store.read(lambda db: _segments(db, ids))

    # Changing

    async def hashed(self, backend: str, segment_id: UUID, sha256: bytes) -> None:
        """The SHA-256, where none was known. Failures of finding it out count no longer."""
        await self._store.write(lambda db: _hashed(db, backend, segment_id, sha256))

    async def verified(self, backend: str, held: Sequence[Held], now: datetime) -> list[UUID]:
        """All of them are held: one commit. Returns those that were not verified before. Give AT_MOST.

        What was given up or called a gap counts as well; a segment that had been told lost is found. Where
        there is a source to hash, its SHA-256 has to be known first: else nothing is changed.
        """
        return await self._store.write(lambda db: _verified(db, backend, held, now))

    async def moved(self, backend: str, held: Sequence[Held], now: datetime) -> list[UUID]:
        """Verified copies that are shown to be held elsewhere: their path is another one. Give AT_MOST."""
        return await self._store.write(lambda db: _moved(db, backend, held, now))

    async def gap(
        self, backend: str, ids: Sequence[UUID], error: str, cause: str, now: datetime, *, wanted: bool = True
    ) -> Missed:
        """Undelivered copies that are not held, with a line in the ledger each; see `Missed`.

        `wanted`: new segments need a copy there. `cause`: of a loss. Give AT_MOST.
        """
        rules = _Rules(wanted=wanted, expired_us=None)
        return await self._store.write(lambda db: _gap(db, backend, ids, error, cause, now, rules))

    async def put_off(
        self, backend: str, ids: Sequence[UUID], error: str, due: datetime, *, tried: bool = False
    ) -> None:
        """Not held yet: look again at `due`. `tried`: a retrieval came to nothing."""
        await self._store.write(lambda db: _put_off(db, backend, ids, error, due, tried))

    async def looked(self, backend: str, ids: Sequence[UUID], error: str | None, due: datetime) -> None:
        """Gaps and failures that are what they were: look again at `due`."""
        await self._store.write(lambda db: _looked(db, backend, ids, error, due))

    async def no_longer_held(
        self,
        backend: str,
        ids: Sequence[UUID],
        error: str,
        cause: str,
        due: datetime,
        now: datetime,
        *,
        wanted: bool = True,
        expired_before: datetime | None = None,
    ) -> Missed:
        """The same of verified copies that are gone there; gaps are looked at again at `due`.

        Not of one whose source is being pruned: whoever does it has just asked, and once the source is gone
        a gap would be a loss that nobody tells. It is looked at again with the others.

        What ended before `expired_before` went by that backend's own retention: it is no loss.
        """
        rules = _Rules(wanted=wanted, expired_us=None if expired_before is None else to_us(expired_before))
        return await self._store.write(
            lambda db: _no_longer_held(db, backend, ids, error, cause, due, now, rules)
        )


# Reading

COLUMNS = """s.no, s.id, c.id, s.start_us, s.end_us, copy.state, copy.attempts, copy.urgent,
    s.sha256 IS NOT NULL, s.sha256 IS NULL AND EXISTS (
        SELECT 1 FROM copy o WHERE o.segment_no = s.no AND o.backend <> copy.backend AND o.state = 'pending'),
    s.source_state, s.created_us, copy.due_us,
    s.flags LIKE '%time_suspect%', s.deletion_due_us"""
TABLES = "CROSS JOIN segment s ON s.no = copy.segment_no CROSS JOIN camera c ON c.no = s.camera_no"


def _page(
    db: sqlite3.Connection,
    backend: str,
    which: Which,
    now: datetime,
    after: tuple[int, int] | None,
    newest_first: bool,
    limit: int,
) -> WaitingPage:
    order, beyond = ("DESC", "<") if newest_first else ("ASC", ">")
    start = after or (_LAST if newest_first else _FIRST)
    rows = db.execute(
        f"""SELECT {COLUMNS} FROM copy {TABLES}
             WHERE copy.backend = ? AND {which.value} AND (copy.start_us, copy.segment_no) {beyond} (?, ?)
             ORDER BY copy.start_us {order}, copy.segment_no {order} LIMIT ?""",
        (backend, *start, limit),
    ).fetchall()
    longest = LONGEST_LOOK if which is Which.GAP else None
    last = (int(rows[-1][3]), int(rows[-1][0])) if len(rows) == limit else None
    return WaitingPage(rows=waiting_rows(rows, now, longest), after=last)


def _failed(db: sqlite3.Connection, backend: str, now: datetime, after: int, limit: int) -> WaitingPage:
    rows = db.execute(
        f"""SELECT {COLUMNS} FROM copy {TABLES}
             WHERE copy.backend = ? AND copy.state = 'failed' AND copy.segment_no > ?
             ORDER BY copy.segment_no LIMIT ?""",
        (backend, after, limit),
    ).fetchall()
    last = (0, int(rows[-1][0])) if len(rows) == limit else None
    return WaitingPage(rows=waiting_rows(rows, now, LONGEST_LOOK), after=last)


def _within(
    db: sqlite3.Connection, backend: str, camera_id: UUID, span: TimeSpan, now: datetime
) -> list[Waiting]:
    camera = db.execute("SELECT no, longest_us FROM camera WHERE id = ?", (camera_id.bytes,)).fetchone()
    if camera is None:
        return []
    rows = db.execute(
        f"""SELECT {COLUMNS} FROM segment s
             CROSS JOIN copy ON copy.segment_no = s.no AND copy.backend = ?
             CROSS JOIN camera c ON c.no = s.camera_no
             WHERE s.camera_no = ? AND s.start_us > ? AND s.start_us < ? AND s.end_us > ? AND {UNDELIVERED}
             ORDER BY s.start_us, s.no LIMIT ?""",
        (backend, camera[0], to_us(span.start) - camera[1], to_us(span.end), to_us(span.start), PAGE),
    ).fetchall()
    return list(waiting_rows(rows, now, None))


def _segments(db: sqlite3.Connection, ids: Sequence[UUID]) -> list[Segment]:
    marks = ", ".join("?" * len(ids))
    rows = db.execute(
        f"SELECT {SEGMENT_COLUMNS} FROM {SEGMENT_TABLES} WHERE s.id IN ({marks}) ORDER BY s.start_us",
        [each.bytes for each in ids],
    ).fetchall()
    return segments_from(db, rows)


def waiting_rows(
    rows: Sequence[tuple[object, ...]], now: datetime, longest: timedelta | None
) -> tuple[Waiting, ...]:
    """Of COLUMNS, but for what is on its way out; due is what was put off for longer than `longest`, too."""
    first, last = waiting_us(now)
    if longest is not None:
        last = to_us(now + longest)
    return tuple(_one(row, first, last) for row in rows if row[-1] is None)


def _one(row: Sequence[object], first_us: int, last_us: int) -> Waiting:
    """Of COLUMNS; their types are those of a STRICT table."""
    no, id_, camera, start, end, state, attempts, urgent, hashed, others, source, created, due = row[:13]
    assert isinstance(no, int) and isinstance(id_, bytes) and isinstance(camera, bytes)
    assert isinstance(start, int) and isinstance(end, int) and isinstance(attempts, int)
    assert isinstance(created, int) and isinstance(due, int)
    return Waiting(
        no=no,
        id=UUID(bytes=id_),
        camera_id=UUID(bytes=camera),
        span=TimeSpan(from_us(start), from_us(end)),
        state=CopyState(str(state)),
        attempts=attempts,
        urgent=bool(urgent),
        hashed=bool(hashed),
        others_pending=bool(others),
        source=SourceState(str(source)),
        created_at=from_us(created),
        due=not first_us <= due <= last_us,
        when_in_doubt=bool(row[13]),
    )


# Changing


def _hashed(db: sqlite3.Connection, backend: str, segment_id: UUID, sha256: bytes) -> None:
    no = _number(db, segment_id)
    changed = db.execute("UPDATE segment SET sha256 = ? WHERE no = ? AND sha256 IS NULL", (sha256, no))
    if changed.rowcount:
        flag_if_twin(db, no)
    db.execute(
        f"UPDATE copy SET attempts = 0, error = NULL WHERE segment_no = ? AND backend = ? AND {UNDELIVERED}",
        (no, backend),
    )


def _verified(db: sqlite3.Connection, backend: str, held: Sequence[Held], now: datetime) -> list[UUID]:
    now_us, proven = to_us(now), []
    for each in held:
        row = db.execute(
            """SELECT s.no, copy.state, c.id, s.start_us, s.end_us, s.sha256 FROM segment s
                 CROSS JOIN copy ON copy.segment_no = s.no AND copy.backend = ?
                 CROSS JOIN camera c ON c.no = s.camera_no
                WHERE s.id = ? AND s.deletion_due_us IS NULL
                  AND (s.sha256 IS NOT NULL OR s.source_state NOT IN ('present', 'pruning'))
                  AND copy.state IN ('pending', 'stored', 'failed', 'gap')""",
            (backend, each.id.bytes),
        ).fetchone()
        if row is None:
            continue  # deleted, given to others, or verified meanwhile
        db.execute(
            """UPDATE copy SET state = 'verified', path = ?1, stored_us = coalesce(stored_us, ?2),
                               verified_us = ?2, error = NULL, due_us = 0, urgent = 0, attempts = 0
                WHERE segment_no = ?3 AND backend = ?4""",
            (each.path, now_us, row[0], backend),
        )
        span = TimeSpan(from_us(row[3]), from_us(row[4]))
        known = "" if row[5] is None else f"sha256 {row[5].hex()} "
        camera, detail = UUID(bytes=row[2]), f"{known}at {each.path}"
        ledger.add(db, ledger.Kind.VERIFIED, each.id, camera, span, backend, now, detail)
        if row[1] != CopyState.PENDING:
            ledger.tell_if_found(db, segment_by_no(db, row[0]), now)
        proven.append(each.id)
    return proven


def _gap(
    db: sqlite3.Connection,
    backend: str,
    ids: Sequence[UUID],
    error: str,
    cause: str,
    now: datetime,
    rules: _Rules,
) -> Missed:
    numbers = {segment_id: _number(db, segment_id) for segment_id in ids}
    concerned = [
        (segment_id, no)
        for segment_id, no in numbers.items()
        if db.execute(
            f"SELECT 1 FROM copy WHERE segment_no = ? AND backend = ? AND {UNDELIVERED}", (no, backend)
        ).fetchone()
    ]
    return _missed(db, backend, concerned, error, (GAP, GAP, cause), now, now, rules)


def _missed(
    db: sqlite3.Connection,
    backend: str,
    concerned: Sequence[tuple[UUID, int]],
    error: str,
    causes: tuple[str, str, str],  # of a gap, of what is elsewhere, of a loss
    due: datetime,
    now: datetime,
    rules: _Rules,
) -> Missed:
    gaps: list[UUID] = []
    elsewhere: list[UUID] = []
    lost: list[Segment] = []
    for segment_id, no in concerned:
        state, had_its_time, is_left = _state_without(db, no, backend, rules)
        db.execute(
            """UPDATE copy SET state = ?1, error = ?2, due_us = ?3, urgent = 0, stored_us = NULL,
                               verified_us = iif(?6, verified_us, NULL), path = iif(?1 = 'failed', NULL, path)
                WHERE segment_no = ?4 AND backend = ?5""",
            (state, text(error), to_us(due), no, backend, had_its_time),
        )
        if state is CopyState.FAILED:
            told = ledger.tell_if_lost(db, no, causes[2], now)
            lost += [] if told is None else [told]
            continue
        (gaps if state is CopyState.GAP else elsewhere).append(segment_id)
        why = causes[0] if state is CopyState.GAP else causes[1]
        kind = ledger.Kind.NOTED if is_left else ledger.Kind.DELETED
        ledger.append(db, kind, segment_by_no(db, no), why, now, f"{backend}: {error}")
    return Missed(gaps=tuple(gaps), elsewhere=tuple(elsewhere), lost=tuple(lost))


class _Without(NamedTuple):
    """What a copy is that the backend does not hold."""

    state: CopyState
    had_its_time: bool  # it is gone, and by the backend's own retention
    is_left: bool  # the segment, somewhere else


def _state_without(db: sqlite3.Connection, no: int, backend: str, rules: _Rules) -> _Without:
    """By what is left of the segment. The last of it may go by the backend's retention, if it is neither held
    nor should be elsewhere."""
    source, proven, others, end_us, needed = db.execute(
        f"""SELECT s.source_state IN ('present', 'pruning'),
                   EXISTS (SELECT 1 FROM copy c WHERE c.segment_no = s.no AND c.backend <> ?1
                                                  AND c.state = 'verified'),
                   EXISTS (SELECT 1 FROM copy c WHERE c.segment_no = s.no AND c.backend <> ?1
                                                  AND c.state IN ('stored', 'verified')),
                   s.end_us,
                   s.held OR {UNDER_HOLD}
                   OR EXISTS (SELECT 1 FROM copy c WHERE c.segment_no = s.no AND c.backend <> ?1
                                                     AND c.state = 'failed')
              FROM segment s WHERE s.no = ?2""",
        (backend, no),
    ).fetchone()
    expired = rules.expired_us is not None and end_us <= rules.expired_us
    if source and rules.wanted and not (expired and proven):  # else the source could never go
        return _Without(CopyState.GAP, had_its_time=False, is_left=True)
    if source or others:
        return _Without(CopyState.GONE, had_its_time=expired, is_left=True)
    if expired and not needed:
        return _Without(CopyState.GONE, had_its_time=True, is_left=False)
    return _Without(CopyState.FAILED, had_its_time=False, is_left=False)


def _moved(db: sqlite3.Connection, backend: str, held: Sequence[Held], now: datetime) -> list[UUID]:
    moved = []
    for each in held:
        no = _number(db, each.id)
        changed = db.execute(
            """UPDATE copy SET path = ?, verified_us = ?
                WHERE segment_no = ? AND backend = ? AND state = 'verified'""",
            (each.path, to_us(now), no, backend),
        )
        if changed.rowcount:
            segment = segment_by_no(db, no)
            ledger.add(
                db,
                ledger.Kind.VERIFIED,
                segment.id,
                segment.camera_id,
                segment.span,
                backend,
                now,
                f"at {each.path}",
            )
            moved.append(each.id)
    return moved


def _number(db: sqlite3.Connection, segment_id: UUID) -> int:
    row = db.execute("SELECT no FROM segment WHERE id = ?", (segment_id.bytes,)).fetchone()
    return -1 if row is None else int(row[0])  # deleted meanwhile: updates then change nothing


def _put_off(
    db: sqlite3.Connection, backend: str, ids: Sequence[UUID], error: str, due: datetime, tried: bool
) -> None:
    for segment_id in ids:
        db.execute(
            f"""UPDATE copy SET error = ?, due_us = ?, attempts = attempts + ?
                 WHERE segment_no = ? AND backend = ? AND {UNDELIVERED}""",
            (text(error), to_us(due), int(tried), _number(db, segment_id), backend),
        )


def _looked(
    db: sqlite3.Connection, backend: str, ids: Sequence[UUID], error: str | None, due: datetime
) -> None:
    said = None if error is None else text(error)
    for segment_id in ids:
        db.execute(
            """UPDATE copy SET error = coalesce(?, error), due_us = ?
                WHERE segment_no = ? AND backend = ? AND state IN ('gap', 'failed')""",
            (said, to_us(due), _number(db, segment_id), backend),
        )


def _no_longer_held(
    db: sqlite3.Connection,
    backend: str,
    ids: Sequence[UUID],
    error: str,
    cause: str,
    due: datetime,
    now: datetime,
    rules: _Rules,
) -> Missed:
    numbers = {segment_id: _number(db, segment_id) for segment_id in ids}
    concerned = [
        (segment_id, no)
        for segment_id, no in numbers.items()
        if db.execute(
            """SELECT 1 FROM copy JOIN segment ON no = segment_no
                WHERE segment_no = ? AND backend = ? AND state = 'verified' AND source_state <> 'pruning'""",
            (no, backend),
        ).fetchone()
    ]
    return _missed(db, backend, concerned, error, (GAP, VMS_RETENTION, cause), due, now, rules)
