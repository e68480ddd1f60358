"""Deleting whole segments in two phases: tombstone → bytes everywhere → row.

The tombstone is `deletion_due_us` with its cause, the state `deleting` on every copy and `pruning` on the
source, so that nobody else touches them. A start-up that finds one goes on from there: whoever asked for the
deletion was told it would happen.

What a backend keeps by a lock of its own, or lies at a former store that cannot be used, waits a day
and not minutes. Its `deletion_due_us` is `KEPT` more, which sorts it behind everything else: however many
there are, no other deletion is looked for among them.
"""

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from cctv_storaged.clock import from_us, to_us
from cctv_storaged.errors import Conflict, NotFound
from cctv_storaged.journal import ledger
from cctv_storaged.journal.copies import waiting_us
from cctv_storaged.journal.exportneeds import export_needing, needs
from cctv_storaged.journal.holds import require_free
from cctv_storaged.journal.rows import SEGMENT_COLUMNS, SEGMENT_TABLES, one_segment, segments_from, text
from cctv_storaged.journal.segments import forget_many
from cctv_storaged.journal.slices import Slices
from cctv_storaged.journal.store import Store
from cctv_storaged.model import Segment

KEPT = 2**61
"""Microseconds; 73,000 years, which no clock shows."""
LONGEST_KEPT_WAIT = timedelta(hours=25)
"""As `copies.LONGEST_WAIT`, of what is kept: what is due later was put off by a clock that was set back."""
FIRST_SLICE, LEAST_SLICE, MOST_SLICE = 50, 50, 100
"""Segments in one commit; with fewer a pass takes longer, and costs a quarter more of a processor."""
UNDER_HOLD = """EXISTS (
    SELECT 1 FROM hold_camera hc JOIN hold h ON h.no = hc.hold_no
     WHERE hc.camera_no = s.camera_no AND h.released_us IS NULL
       AND h.start_us < s.end_us AND h.end_us > s.start_us)"""
"""Whether a hold is in force over the segment `s`; what the trigger `held_stays` asks."""


NO_DETAILS: Mapping[UUID, str] = MappingProxyType({})


class Cause(StrEnum):
    """Why a segment is deleted: written with its tombstone, and then into the ledger."""

    REQUEST = "deleted_on_request"
    AT_MOST = "retention_at_most"  # older than its rule lets it become
    EXPIRED = "capacity_expired"  # room was needed, and it was past what its rule wants
    SHORTENED = "capacity_shortened"  # room was needed, and it was past what its rule promises only
    DISK_FULL = "disk_full"  # undelivered and given up: a loss, and told as one


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """A segment whose row is gone, and why."""

    segment: Segment
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A segment that should be gone and that a backend keeps."""

    segment: Segment
    cause: str
    due: datetime  # when it is tried again


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPage:
    """Kept segments in the order in which they are tried again, and where to ask on (None: that was all)."""

    kept: tuple[Kept, ...]
    next: tuple[int, int] | None


_STANDS_ON_IT = "state IN ('stored', 'verified', 'failed')"
"""What was given up counts too: its bytes may be there again, and be the last."""


class Deletions:
    """Segments on their way out."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._slices = Slices(first=FIRST_SLICE, least=LEAST_SLICE, most=MOST_SLICE)

    @property
    def slice(self) -> int:
        """How many segments one commit of a long work should take: nobody waits long for it then."""
        return self._slices.size

    async def begin(self, segment_id: UUID, cause: Cause = Cause.REQUEST) -> Segment:
        """Writes the tombstone and returns the segment.

        Raises NotFound, Held with the holds, and Conflict while an export needs it.
        """
        return await self._store.write(lambda db: _begin(db, segment_id, cause))

    async def begin_many(self, segment_ids: Sequence[UUID], cause: Cause) -> list[Segment]:
        """Writes tombstones in one commit (give `slice` at most) and returns the segments that have one now.

        What is held, needed by an export that has not ended, gone, or on its way out already is left out.
        """

        def begin(db: sqlite3.Connection) -> list[Segment]:
            with self._slices.measured("tombstones", len(segment_ids)):
                return _begin_many(db, segment_ids, cause)

        return await self._store.write(begin, patient=True)

    async def unfinished(self, limit: int, now: datetime) -> list[Segment]:
        """Segments with a tombstone whose next try is due, longest due first and kept ones last.

        See `Copies.due` for what is due.
        """
        return await self._store.read(lambda db: _unfinished(db, limit, now))

    async def shared(self, segment_id: UUID, backend: str, path: str) -> bool:
        """Whether another segment's copy is the very same object: identical bytes have an identical key."""
        query = f"""SELECT 1 FROM copy WHERE backend = ? AND path = ? AND {_STANDS_ON_IT}
                    AND segment_no <> (SELECT no FROM segment WHERE id = ?) LIMIT 1"""
        parameters = (backend, path, segment_id.bytes)
        return await self._store.read(lambda db: db.execute(query, parameters).fetchone() is not None)

    async def in_use(self, backend: str, paths: Sequence[str]) -> frozenset[str]:
        """Those of the paths under which a segment without a tombstone has its copy; see `shared`."""
        query = f"""SELECT value FROM json_each(?) WHERE EXISTS (
                       SELECT 1 FROM copy WHERE backend = ? AND path = value AND {_STANDS_ON_IT})"""
        parameters = (json.dumps(list(paths)), backend)
        rows = await self._store.read(lambda db: db.execute(query, parameters).fetchall())
        return frozenset(str(row[0]) for row in rows)

    async def postpone(self, segment_id: UUID, error: str, due: datetime) -> None:
        """A backend did not delete: try again at `due`."""
        await self.postpone_many((segment_id,), error, due)

    async def postpone_many(self, segment_ids: Sequence[UUID], error: str, due: datetime) -> None:
        """They could not be deleted for one reason: try again at `due`."""
        await self._store.write(lambda db: _postpone(db, segment_ids, error, to_us(due)))

    async def keep(self, segment_ids: Sequence[UUID], errors: Mapping[str, str], due: datetime) -> None:
        """Backends keep them, each for its reason, and nobody else has any: try again at `due`, tomorrow."""
        await self._store.write(lambda db: _keep(db, segment_ids, errors, KEPT + to_us(due)))

    async def kept(self, limit: int, after: tuple[int, int] | None) -> KeptPage:
        """Segments that are kept, by keyset."""
        return await self._store.read(lambda db: _kept(db, limit, after))

    async def count_put_off(self, most: int) -> int:
        """How many could not be deleted when that was tried, and are not kept; counts at most so many."""
        query = """SELECT count(*) FROM (
                       SELECT 1 FROM segment WHERE deletion_due_us > 0 AND deletion_due_us < ? LIMIT ?)"""
        return await self._store.read(lambda db: int(db.execute(query, (KEPT, most)).fetchone()[0]))

    async def count_kept(self, most: int) -> int:
        """How many segments are kept; counts at most so many."""
        query = """SELECT count(*) FROM (
                       SELECT 1 FROM segment WHERE deletion_due_us >= ? LIMIT ?)"""
        return await self._store.read(lambda db: int(db.execute(query, (KEPT, most)).fetchone()[0]))

    async def done(self, segment: Segment, cause: str, now: datetime) -> None:
        """No bytes are left: the row goes, ledger and catalog are told. Without a tombstone: nothing.

        `cause` counts where the tombstone is an earlier version's, which wrote none.
        """
        await self._store.write(lambda db: _done(db, [segment], cause, now))

    async def done_many(
        self, segments: Sequence[Segment], now: datetime, details: Mapping[UUID, str] = NO_DETAILS
    ) -> list[Gone]:
        """The same of many in one commit (give `slice` at most); those that went, each with its cause.

        `details`: what the ledger says besides, by segment.
        """

        def done(db: sqlite3.Connection) -> list[Gone]:
            with self._slices.measured("rows", len(segments)):
                return _done(db, segments, Cause.REQUEST, now, details)

        return await self._store.write(done, patient=len(segments) > 1)


def _begin(db: sqlite3.Connection, segment_id: UUID, cause: Cause) -> Segment:
    found = one_segment(db, "s.id = ?", segment_id.bytes)
    if found is None:
        raise NotFound(f"no segment {segment_id} on this host")
    no, segment = found
    require_free(db, no)
    export_id = export_needing(needs(db), segment)
    if export_id is not None:
        raise Conflict(f"export {export_id} needs segment {segment_id}; wait for it, or cancel it first")
    _mark(db, [no], cause)
    return segment


def _begin_many(db: sqlite3.Connection, segment_ids: Sequence[UUID], cause: Cause) -> list[Segment]:
    if not segment_ids:
        return []
    marks = ", ".join("?" * len(segment_ids))
    rows = db.execute(
        f"""SELECT {SEGMENT_COLUMNS} FROM {SEGMENT_TABLES}
             WHERE s.id IN ({marks}) AND s.deletion_due_us IS NULL AND s.held = 0 AND NOT {UNDER_HOLD}
             ORDER BY s.no""",
        [each.bytes for each in segment_ids],
    ).fetchall()
    needed = needs(db)
    free = [
        (row[0], segment)
        for row, segment in zip(rows, segments_from(db, rows), strict=True)
        if export_needing(needed, segment) is None
    ]
    _mark(db, [no for no, _ in free], cause)
    return [segment for _, segment in free]


def _mark(db: sqlite3.Connection, numbers: Sequence[int], cause: Cause) -> None:
    """The cause of the first tombstone stays: asked for twice, it goes for the first reason."""
    listed = json.dumps(list(numbers))
    db.execute(
        """UPDATE copy SET state = 'deleting', error = NULL
            WHERE segment_no IN (SELECT value FROM json_each(?)) AND state <> 'deleting'""",
        (listed,),
    )
    db.execute(
        """UPDATE segment SET deletion_due_us = 0, deletion_cause = coalesce(deletion_cause, ?),
                              source_state = iif(source_state = 'present', 'pruning', source_state)
            WHERE no IN (SELECT value FROM json_each(?))""",
        (str(cause), listed),
    )


def _unfinished(db: sqlite3.Connection, limit: int, now: datetime) -> list[Segment]:
    rows: list[tuple[object, ...]] = []
    for low, high in _due_ranges(now):
        if len(rows) < limit:
            rows += db.execute(
                f"""SELECT {SEGMENT_COLUMNS} FROM {SEGMENT_TABLES}
                     WHERE s.deletion_due_us >= ? AND s.deletion_due_us < ?
                     ORDER BY s.deletion_due_us LIMIT ?""",
                (low, high, limit - len(rows)),
            ).fetchall()
    return segments_from(db, rows)


def _due_ranges(now: datetime) -> Iterator[tuple[int, int]]:
    """What is due: its time has come, or lies so far ahead that the clock must have been set back."""
    waits, waited = waiting_us(now)
    yield 0, waits
    yield waited + 1, KEPT
    yield KEPT, KEPT + waits
    yield KEPT + to_us(now + LONGEST_KEPT_WAIT), 2 * KEPT


def _postpone(db: sqlite3.Connection, segment_ids: Collection[UUID], error: str, due_us: int) -> None:
    for no in _put_off(db, segment_ids, due_us):
        db.execute("UPDATE copy SET error = ? WHERE segment_no = ?", (text(error), no))


def _keep(
    db: sqlite3.Connection, segment_ids: Collection[UUID], errors: Mapping[str, str], due_us: int
) -> None:
    """A copy without an error is one whose bytes are gone."""
    told = json.dumps({backend: text(error) for backend, error in errors.items()})
    for no in _put_off(db, segment_ids, due_us):
        db.execute(
            """UPDATE copy SET error = (SELECT value FROM json_each(?) WHERE key = copy.backend)
                WHERE segment_no = ?""",
            (told, no),
        )


def _put_off(db: sqlite3.Connection, segment_ids: Collection[UUID], due_us: int) -> Iterator[int]:
    """The numbers of those that have a tombstone."""
    for segment_id in segment_ids:
        row = db.execute(
            "SELECT no FROM segment WHERE id = ? AND deletion_due_us IS NOT NULL", (segment_id.bytes,)
        ).fetchone()
        if row is not None:
            db.execute("UPDATE segment SET deletion_due_us = ? WHERE no = ?", (due_us, row[0]))
            yield row[0]


def _kept(db: sqlite3.Connection, limit: int, after: tuple[int, int] | None) -> KeptPage:
    rows = db.execute(
        f"""SELECT {SEGMENT_COLUMNS}, s.deletion_due_us, s.deletion_cause FROM {SEGMENT_TABLES}
             WHERE s.deletion_due_us >= ? AND (s.deletion_due_us, s.no) > (?, ?)
             ORDER BY s.deletion_due_us, s.no LIMIT ?""",
        (KEPT, *(after or (KEPT, 0)), limit + 1),
    ).fetchall()
    shown = rows[:limit]
    kept = tuple(
        Kept(segment=segment, cause=row[-1] or Cause.REQUEST, due=from_us(row[-2] - KEPT))
        for segment, row in zip(segments_from(db, [row[:-2] for row in shown]), shown, strict=True)
    )
    return KeptPage(kept=kept, next=(shown[-1][-2], shown[-1][0]) if len(rows) > limit else None)


def _done(
    db: sqlite3.Connection,
    segments: Sequence[Segment],
    cause: str,
    now: datetime,
    details: Mapping[UUID, str] = NO_DETAILS,
) -> list[Gone]:
    if not segments:
        return []
    marks = ", ".join("?" * len(segments))
    rows = db.execute(
        f"""SELECT id, no, deletion_cause FROM segment
             WHERE id IN ({marks}) AND deletion_due_us IS NOT NULL""",
        [each.id.bytes for each in segments],
    ).fetchall()
    known = {id_: (no, noted or cause) for id_, no, noted in rows}
    gone = [Gone(segment=each, cause=known[each.id.bytes][1]) for each in segments if each.id.bytes in known]
    told = [(_kind(each.cause), each.segment, each.cause, details.get(each.segment.id, "")) for each in gone]
    ledger.append_many(db, told, now)
    forget_many(db, {no: UUID(bytes=id_) for id_, no, _ in rows})
    return gone


def _kind(cause: str) -> ledger.Kind:
    return ledger.Kind.LOST if cause == Cause.DISK_FULL else ledger.Kind.DELETED
