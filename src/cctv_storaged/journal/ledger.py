"""The ledger: append-only lines on what became of footage that had been registered."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from cctv_storaged.clock import from_us, to_us
from cctv_storaged.journal.chain import GENESIS, Line, linked
from cctv_storaged.journal.rows import one_segment, text
from cctv_storaged.journal.store import Store
from cctv_storaged.model import CopyState, Segment, SourceState, TimeSpan

TOLD = "kind IN ('lost', 'found', 'deleted')"
"""Word for word the condition of the partial index ledger_by_camera, or SQLite will not use it."""
NOBODY = bytes(16)
"""The id of lines that are about no segment, or no camera."""
HAS_SOURCE = frozenset({SourceState.PRESENT, SourceState.PRUNING})
MAY_HOLD_BYTES = frozenset({CopyState.STORED, CopyState.VERIFIED, CopyState.DELETING})

INSERTED_AT_ONCE = 25
"""Lines in one statement: each statement costs other threads their turn."""


class Kind(StrEnum):
    """What happened to a segment's footage."""

    REGISTERED = "registered"  # in the journal from here on
    VERIFIED = "verified"  # a copy was proven; the cause is its backend
    PRUNED = "pruned"  # the source only; every copy was verified
    DELETED = "deleted"  # on purpose; the cause says by which rule
    LOST = "lost"  # gone without being allowed to
    FOUND = "found"  # there again after it had been told lost or deleted
    REPLACED = "replaced"  # superseded by a longer version of the same file
    REPAIRED = "repaired"  # a damaged copy was made anew from a good one
    ADOPTED = "adopted"  # found at a backend or in a folder, without a row
    HELD = "held"  # a hold began; the id is the hold's, a line for each camera
    RELEASED = "released"  # it ended
    EXPORTED = "exported"  # an export was completed; the id is the export's, a line for each camera
    DOWNLOADED = "downloaded"  # and was fetched
    NOTED = "noted"  # anything else worth keeping: policies, recovered journals, overruled guards


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the ledger."""

    at: datetime
    kind: Kind
    segment_id: UUID
    camera_id: UUID
    span: TimeSpan
    cause: str
    detail: str


class Ledger:
    """Reads the ledger; it is written to inside the commits that make its lines true."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def of_camera(self, camera_id: UUID, span: TimeSpan) -> list[Entry]:
        """Lost and deleted footage of a camera that overlaps the span, oldest first; at most 10,000."""
        return await self._store.read(lambda db: _of_camera(db, camera_id, span))

    async def losses(self) -> dict[str, int]:
        """Segments lost so far, by cause."""
        query = "SELECT cause, count(*) FROM ledger WHERE kind = 'lost' GROUP BY cause"
        return await self._store.read(lambda db: dict(db.execute(query).fetchall()))


def append(
    db: sqlite3.Connection, kind: Kind, segment: Segment, cause: str, now: datetime, detail: str = ""
) -> None:
    """Adds a line on a segment, inside the transaction of whoever does what it says."""
    add(db, kind, segment.id, segment.camera_id, segment.span, cause, now, detail)


def append_many(
    db: sqlite3.Connection, told: Sequence[tuple[Kind, Segment, str, str]], now: datetime
) -> None:
    """The same of many: kind, segment, cause and detail of each."""
    at_us = to_us(now)
    lines = [
        Line(
            no=0,
            at_us=at_us,
            kind=str(kind),
            segment_id=segment.id.bytes,
            camera_id=segment.camera_id.bytes,
            start_us=to_us(segment.span.start),
            end_us=to_us(segment.span.end),
            cause=text(cause),
            detail=text(detail),
        )
        for kind, segment, cause, detail in told
    ]
    _insert_all(db, lines)


def add(
    db: sqlite3.Connection,
    kind: Kind,
    subject: UUID,
    camera_id: UUID,
    span: TimeSpan,
    cause: str,
    now: datetime,
    detail: str = "",
) -> None:
    """Adds a line on a segment, hold or export, inside the transaction of whoever does what it says."""
    ids = (subject.bytes, camera_id.bytes)
    _insert(db, kind, *ids, to_us(span.start), to_us(span.end), cause, now, detail)


def note(db: sqlite3.Connection, cause: str, now: datetime, detail: str = "") -> None:
    """Adds a line on the host or the journal itself: both ids are zero, the span is the moment."""
    _insert(db, Kind.NOTED, NOBODY, NOBODY, to_us(now), to_us(now), cause, now, detail)


def _insert(
    db: sqlite3.Connection,
    kind: Kind,
    subject: bytes,
    camera_id: bytes,
    start_us: int,
    end_us: int,
    cause: str,
    now: datetime,
    detail: str,
) -> None:
    said = (text(cause), text(detail))
    _insert_all(db, [Line(0, to_us(now), str(kind), subject, camera_id, start_us, end_us, *said)])


def _insert_all(db: sqlite3.Connection, lines: Sequence[Line]) -> None:
    """Adds them in their order, each bound to the one before; the numbers are given here."""
    query = "SELECT no, hash FROM ledger WHERE no = (SELECT max(no) FROM ledger)"
    last, bound = db.execute(query).fetchone() or (0, None)
    rows = []
    for no, unnumbered in enumerate(lines, start=last + 1):
        line = unnumbered._replace(no=no)
        bound = linked(bound or GENESIS, line)
        rows.append((*line, bound))
    for first in range(0, len(rows), INSERTED_AT_ONCE):
        some = rows[first : first + INSERTED_AT_ONCE]
        places = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"] * len(some))
        db.execute(
            f"""INSERT INTO ledger
                    (no, at_us, kind, segment_id, camera_id, start_us, end_us, cause, detail, hash)
                VALUES {places}""",
            [value for row in some for value in row],
        )


def tell_if_lost(db: sqlite3.Connection, segment_no: int, cause: str, now: datetime) -> Segment | None:
    """Adds the line of a loss once neither source nor copy is left, and returns the segment; never twice.

    A segment that is being deleted is not lost.
    """
    row = one_segment(db, "s.no = ? AND s.deletion_due_us IS NULL", segment_no)
    if row is None or row[1].source_state in HAS_SOURCE:
        return None
    segment = row[1]
    if any(copy.state in MAY_HOLD_BYTES for copy in segment.copies) or _last_told(db, segment) == Kind.LOST:
        return None
    append(db, Kind.LOST, segment, cause, now)
    return segment


def tell_if_found(db: sqlite3.Connection, segment: Segment, now: datetime) -> None:
    """Adds a line when a segment that had been told lost or deleted has bytes again: archived lines say no
    more that it was registered anew, and those of its end stay.
    """
    if _last_told(db, segment) in (Kind.LOST, Kind.DELETED):
        append(db, Kind.FOUND, segment, "there_again", now)


def _last_told(db: sqlite3.Connection, segment: Segment) -> str | None:
    row = db.execute(
        f"""SELECT kind FROM ledger WHERE camera_id = ? AND start_us = ? AND segment_id = ? AND {TOLD}
             ORDER BY no DESC LIMIT 1""",
        (segment.camera_id.bytes, to_us(segment.span.start), segment.id.bytes),
    ).fetchone()
    return None if row is None else str(row[0])


def _of_camera(db: sqlite3.Connection, camera_id: UUID, span: TimeSpan) -> list[Entry]:
    longest = db.execute("SELECT longest_us FROM camera WHERE id = ?", (camera_id.bytes,)).fetchone()
    start_us, end_us = to_us(span.start), to_us(span.end)
    rows = db.execute(
        f"""SELECT at_us, kind, segment_id, camera_id, start_us, end_us, cause, detail FROM ledger
             WHERE camera_id = ? AND {TOLD} AND kind <> 'found'
               AND start_us > ? AND start_us < ? AND end_us > ?
             ORDER BY start_us, no LIMIT 10000""",
        (camera_id.bytes, start_us - (longest[0] if longest else 0), end_us, start_us),
    )
    return [
        Entry(
            at=from_us(at),
            kind=Kind(kind),
            segment_id=UUID(bytes=segment),
            camera_id=UUID(bytes=camera),
            span=TimeSpan(from_us(start), from_us(end)),
            cause=cause,
            detail=detail,
        )
        for at, kind, segment, camera, start, end, cause, detail in rows
    ]
