"""What retention asks of the journal: whose footage is how old, in slices, and what the last pass came to.

A slice is a range of one camera's footage by start; each takes a few milliseconds however large the journal
is. What goes for its age is counted by SQL where nobody has to see it row by row.
"""

import json
import os
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from cctv_storaged.clock import MICROSECOND, from_us, to_us
from cctv_storaged.journal import ledger
from cctv_storaged.journal.deletions import KEPT, UNDER_HOLD
from cctv_storaged.journal.exportneeds import under_export
from cctv_storaged.journal.exportrows import Export
from cctv_storaged.journal.exports import completed
from cctv_storaged.journal.holds import holding_export
from cctv_storaged.journal.rows import AGE_FROM
from cctv_storaged.journal.store import Store
from cctv_storaged.model import Camera, TimeSpan

SWEPT = "retention:"
"""Before a camera's id: the key of `meta` under which it is kept what the last pass over it came to."""
COUNTED_AT_ONCE = 1000
EXPORTS_AT_ONCE = 50
NEVER_US = -(2**62)

Position = tuple[int, int]
"""Start of a segment in microseconds, and its row's number."""
FIRST: Position = (NEVER_US, 0)
Spares = Callable[[datetime, timedelta], bool]
"""Whether what ends then, by its name, may be younger than the limit; asked in the journal's thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainedCamera:
    """A camera and how many segments it has."""

    no: int
    camera: Camera
    segments: int
    longest: timedelta  # of its segments so far


class OldSegment(NamedTuple):
    """A segment that is older than some moment; nothing is in the way of deleting it."""

    id: UUID
    start_us: int
    end_us: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OldPage:
    """The free ones of a slice, and where to ask on (None: that was all)."""

    segments: tuple[OldSegment, ...]
    next: Position | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Moments in microseconds; what is of an age from one or before is past it. NEVER_US: nothing is."""

    at_most_us: int = NEVER_US
    desired_us: int = NEVER_US
    at_least_us: int = NEVER_US
    explained_us: tuple[int, int] = (NEVER_US, NEVER_US)  # after the first, by the second


class Cell(NamedTuple):
    """Segments that are alike."""

    clause: str  # at_most, desired, at_least
    state: str  # free, held, needed (by an export), locked, leaving
    explained: bool  # their age begins within `Limits.explained_us`
    segments: int
    bytes: int
    duration_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """What a slice holds, and where to ask on (None: that was all)."""

    cells: tuple[Cell, ...]
    next: Position | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What is remembered of a camera: by which moment everything had ended that the last pass dealt with."""

    ended_by: datetime | None = None
    at: datetime | None = None  # when that was
    confirmed: timedelta | None = None  # an operator wants all gone that is older …
    until: datetime | None = None  # … and said so for passes until then


class Retentions:
    """Reads by age, and keeps what passes over cameras came to."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def cameras(self) -> list[RetainedCamera]:
        """All, by name."""
        return await self._store.read(_cameras)

    async def ended_by(
        self, camera_no: int, moment: datetime, after: Position, limit: int, *, since: datetime | None = None
    ) -> OldPage:
        """What ended by the moment (and after `since`), oldest first, of the next `limit` rows.

        What is held, waited for by an export, or on its way out is passed over, and so is what was registered
        later under a name that is in doubt (rows.AGE_FROM).
        """
        since_us = NEVER_US if since is None else to_us(since)
        parameters = (camera_no, *after, to_us(moment), limit)
        return await self._store.read(lambda db: _ended_by(db, parameters, to_us(moment), since_us))

    async def count(self, camera_no: int, limits: Limits, after: Position) -> Count:
        """The next slice of what is past any of the limits."""
        return await self._store.read(lambda db: _count(db, camera_no, limits, after))

    async def states_of(self, segment_ids: Collection[UUID], limits: Limits) -> Mapping[UUID, list[Cell]]:
        """By camera, what `count` says of these."""
        return await self._store.read(lambda db: _states_of(db, segment_ids, limits))

    # What passes came to

    async def swept(self) -> Mapping[UUID, Swept]:
        """By camera."""
        return await self._store.read(_swept)

    async def note(self, passes: Mapping[UUID, Swept]) -> None:
        """In place of what was remembered of these cameras."""
        rows = [(SWEPT + str(camera_id), _swept_text(each)) for camera_id, each in passes.items()]
        change = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
        await self._store.write(lambda db: db.executemany(change, rows))

    async def confirm(self, passes: Mapping[UUID, Swept], by: str, now: datetime) -> None:
        """Somebody wants what the brake had stopped: remembered, and told to the ledger."""
        await self._store.write(lambda db: _confirm(db, passes, by, now))

    # Exports

    async def end_exports(
        self, cutoffs: Mapping[UUID, datetime], after: int, now: datetime, spares: Spares
    ) -> int | None:
        """Exports that show footage of a camera from before its moment have their last day now.

        Looks at the next few, and says where to go on; None: those were all. Held ones stay, and those of
        footage that stays itself: `spares` says so of a name, or its registration does (rows.AGE_FROM).
        """
        return await self._store.write(lambda db: _end_exports(db, cutoffs, after, now, spares))


def _cameras(db: sqlite3.Connection) -> list[RetainedCamera]:
    rows = db.execute("SELECT no, id, name, folder, segments, longest_us FROM camera ORDER BY name, id")
    return [
        RetainedCamera(
            no=no,
            camera=Camera(id=UUID(bytes=id_), name=name, folder=os.fsdecode(folder)),
            segments=segments,
            longest=timedelta(microseconds=longest_us),
        )
        for no, id_, name, folder, segments, longest_us in rows
    ]


def _ended_by(db: sqlite3.Connection, parameters: Sequence[int], end_us: int, since_us: int) -> OldPage:
    rows = db.execute(
        f"""SELECT s.start_us, s.no, s.id, s.end_us, s.size_bytes, {AGE_FROM},
                   s.deletion_due_us IS NULL AND s.held = 0 AND NOT {UNDER_HOLD}
                   AND NOT {under_export(db, parameters[0])}
              FROM segment s
             WHERE s.camera_no = ? AND (s.start_us, s.no) > (?, ?) AND s.start_us < ?
             ORDER BY s.start_us, s.no LIMIT ?""",
        parameters,
    ).fetchall()
    free = tuple(
        OldSegment(UUID(bytes=id_), start, end, size)
        for start, _, id_, end, size, aged_from, is_free in rows
        if is_free and since_us < aged_from <= end_us
    )
    return OldPage(segments=free, next=rows[-1][:2] if len(rows) == parameters[-1] else None)


def _cells(db: sqlite3.Connection, camera_no: int) -> str:
    """The columns of a Cell, of segments of this camera."""
    return f"""
        SELECT iif({AGE_FROM} <= :at_most, 'at_most',
                   iif({AGE_FROM} <= :desired, 'desired', 'at_least')) AS clause,
               iif(s.deletion_due_us >= {KEPT}, 'locked', iif(s.deletion_due_us IS NOT NULL, 'leaving',
                   iif(s.held OR {UNDER_HOLD}, 'held',
                       iif({under_export(db, camera_no)}, 'needed', 'free')))) AS state,
               {AGE_FROM} > :since AND {AGE_FROM} <= :until AS explained,
               count(*), sum(s.size_bytes), sum(s.end_us - s.start_us)"""


def _count(db: sqlite3.Connection, camera_no: int, limits: Limits, after: Position) -> Count:
    latest = max(limits.at_most_us, limits.desired_us, limits.at_least_us)
    last = db.execute(
        """SELECT start_us, no FROM segment
            WHERE camera_no = ? AND (start_us, no) > (?, ?) AND start_us < ?
            ORDER BY start_us, no LIMIT 1 OFFSET ?""",
        (camera_no, *after, latest, COUNTED_AT_ONCE - 1),
    ).fetchone()
    parameters = _named(limits) | {
        "camera": camera_no,
        "after": after[0],
        "after_no": after[1],
        "last": latest if last is None else last[0],
        "last_no": 0 if last is None else last[1],
        "latest": latest,
    }
    rows = db.execute(
        f"""{_cells(db, camera_no)} FROM segment s
             WHERE s.camera_no = :camera AND (s.start_us, s.no) > (:after, :after_no)
               AND (s.start_us, s.no) <= (:last, :last_no) AND {AGE_FROM} <= :latest
             GROUP BY 1, 2, 3""",
        parameters,
    ).fetchall()
    return Count(cells=tuple(map(_cell, rows)), next=last)


def _states_of(
    db: sqlite3.Connection, segment_ids: Collection[UUID], limits: Limits
) -> dict[UUID, list[Cell]]:
    found: dict[UUID, list[Cell]] = {}
    latest = max(limits.at_most_us, limits.desired_us, limits.at_least_us)
    for segment_id in segment_ids:
        known = db.execute("SELECT camera_no FROM segment WHERE id = ?", (segment_id.bytes,)).fetchone()
        if known is None:
            continue
        rows = db.execute(
            f"""{_cells(db, known[0])}, c.id FROM segment s JOIN camera c ON c.no = s.camera_no
                 WHERE s.id = :id AND {AGE_FROM} <= :latest GROUP BY 1, 2, 3""",
            _named(limits) | {"id": segment_id.bytes, "latest": latest},
        ).fetchall()
        for row in rows:
            found.setdefault(UUID(bytes=row[-1]), []).append(_cell(row[:-1]))
    return found


def _named(limits: Limits) -> dict[str, int | bytes]:
    return {
        "at_most": limits.at_most_us,
        "desired": limits.desired_us,
        "since": limits.explained_us[0],
        "until": limits.explained_us[1],
    }


def _cell(row: Sequence[object]) -> Cell:
    clause, state, explained, segments, size, duration = row
    assert isinstance(segments, int) and isinstance(size, int) and isinstance(duration, int)
    return Cell(str(clause), str(state), bool(explained), segments, size, duration)


def _swept(db: sqlite3.Connection) -> dict[UUID, Swept]:
    rows = db.execute("SELECT key, value FROM meta WHERE key >= ? AND key < ?", (SWEPT, SWEPT + "g"))
    return {UUID(key.removeprefix(SWEPT)): _swept_from(json.loads(value)) for key, value in rows}


def _swept_from(document: Mapping[str, int | None]) -> Swept:
    confirmed = document.get("confirmed_us")
    return Swept(
        ended_by=_moment(document.get("ended_by_us")),
        at=_moment(document.get("at_us")),
        confirmed=None if confirmed is None else timedelta(microseconds=confirmed),
        until=_moment(document.get("until_us")),
    )


def _swept_text(swept: Swept) -> str:
    return json.dumps(
        {
            "ended_by_us": None if swept.ended_by is None else to_us(swept.ended_by),
            "at_us": None if swept.at is None else to_us(swept.at),
            "confirmed_us": None if swept.confirmed is None else swept.confirmed // MICROSECOND,
            "until_us": None if swept.until is None else to_us(swept.until),
        }
    )


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_us(microseconds)


def _confirm(db: sqlite3.Connection, passes: Mapping[UUID, Swept], by: str, now: datetime) -> None:
    for camera_id, swept in passes.items():
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (SWEPT + str(camera_id), _swept_text(swept)))
        assert swept.confirmed is not None
        span = TimeSpan(from_us(0), max(now - swept.confirmed, from_us(1)))
        detail = f"at_most {swept.confirmed}, by {by}"
        ledger.add(db, ledger.Kind.NOTED, camera_id, camera_id, span, "brake_confirmed", now, detail)


def _end_exports(
    db: sqlite3.Connection, cutoffs: Mapping[UUID, datetime], after: int, now: datetime, spares: Spares
) -> int | None:
    page = completed(db, EXPORTS_AT_ONCE, after)
    for export in page:
        old = [
            (camera_id, span)
            for camera_id, span in _shown(export)
            if camera_id in cutoffs
            and span.start <= cutoffs[camera_id]
            and not spares(span.start, now - cutoffs[camera_id])
        ]
        gone = any(not _is_younger(db, camera_id, span, cutoffs[camera_id]) for camera_id, span in old)
        if gone and not holding_export(db, export.request):
            change = "UPDATE export SET expires_us = ? WHERE no = ? AND expires_us > ?"
            db.execute(change, (to_us(now), export.no, to_us(now)))
    return page[-1].no if len(page) == EXPORTS_AT_ONCE else None


def _shown(export: Export) -> list[tuple[UUID, TimeSpan]]:
    """What it shows of each camera; where its list of files is cut short, what was asked for."""
    result = export.result
    if result is None or result.files_total > len(result.files):
        return [(camera_id, export.request.span) for camera_id in export.request.camera_ids]
    return [(file.camera_id, file.span) for file in result.files]


def _is_younger(db: sqlite3.Connection, camera_id: UUID, span: TimeSpan, cutoff: datetime) -> bool:
    """Whether the first footage of the span, which ended by the cut-off by its name, was registered later."""
    start, moment = to_us(span.start), to_us(cutoff)
    first = db.execute(
        f"""SELECT {AGE_FROM} FROM camera c CROSS JOIN segment s ON s.camera_no = c.no
             WHERE c.id = ? AND s.start_us > ? - c.longest_us AND s.start_us < ?
               AND s.end_us > ? AND s.end_us <= ?
             ORDER BY s.start_us LIMIT 1""",
        (camera_id.bytes, start, min(to_us(span.end), moment), start, moment),
    ).fetchone()
    return first is not None and first[0] > moment
