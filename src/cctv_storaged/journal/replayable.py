"""What a VMS may fetch from this host: footage that has bytes anywhere but at the VMS itself.

Read in slices, as an answer may span years; no query looks at more rows than it is told to.
"""

import os
import sqlite3
from dataclasses import dataclass
from uuid import UUID

from cctv_storaged.clock import from_us, to_us
from cctv_storaged.journal.finding import LAST_NO
from cctv_storaged.journal.material import MaterialRow
from cctv_storaged.journal.store import Store
from cctv_storaged.model import Camera, CopyState, SourceState, TimeSpan

LOOKED_AT = 2_000
"""Segments at either end of a camera's footage that are looked at for one that can be fetched."""

REPLAYABLE = f"""(s.source_state = '{SourceState.PRESENT}' OR EXISTS (
    SELECT 1 FROM copy WHERE copy.segment_no = s.no AND copy.backend <> ?
       AND copy.state IN ('{CopyState.STORED}', '{CopyState.VERIFIED}')))"""

_CAMERAS = "SELECT id, name, folder FROM camera WHERE first_us IS NOT NULL ORDER BY no LIMIT ?"
_ROWS = f"""SELECT s.id, s.start_us, s.end_us, s.size_bytes, s.sha256, s.flags, s.stream_ticks,
           s.stream_print, s.no, {REPLAYABLE}
      FROM segment s
     WHERE s.camera_no = ? AND (s.start_us, s.no) > (?, ?) AND s.start_us < ? AND s.end_us > ?
     ORDER BY s.start_us, s.no LIMIT ?"""
_ENDS = """SELECT s.{column}, s.codec, {replayable} FROM segment s
     WHERE s.camera_no = ? ORDER BY s.start_us {order} LIMIT ?"""
_CODECS = """SELECT s.no, c.id, s.codec, s.start_us FROM segment s CROSS JOIN camera c ON c.no = s.camera_no
     WHERE s.no > ? ORDER BY s.no LIMIT ?"""

Position = tuple[int, int]
"""Start (microseconds) and number of the last row of a slice."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Segments in order of their start, and where to ask on (None: that was all)."""

    rows: tuple[MaterialRow, ...]
    next: Position | None


@dataclass(frozen=True, slots=True)
class Ends:
    """A camera's footage from its first to its last, whatever lies between, and the codecs at both ends."""

    span: TimeSpan
    first_codec: str | None
    last_codec: str | None


@dataclass(frozen=True, slots=True)
class CodecSlice:
    """Camera, codec and start of the latest segment of those looked at, for each camera and codec."""

    rows: tuple[tuple[UUID, str, int], ...]
    last: int  # number of the last segment that was looked at
    more: bool  # there may be more behind it


class Replayable:
    """Footage that can be handed to the VMS called `vms` (the name of its backend)."""

    def __init__(self, store: Store, vms: str) -> None:
        self._store = store
        self._vms = vms

    async def cameras(self, limit: int) -> list[Camera]:
        """Every camera that ever had footage, in the order in which they became known: it never changes."""
        return await self._store.read(lambda db: _cameras(db, limit))

    async def ends(self, camera_id: UUID) -> Ends | None:
        """From where to where there is footage; None where there is none.

        Where thousands of segments at an end cannot be fetched, the end of all footage stands for it.
        """
        return await self._store.read(lambda db: _ends(db, camera_id, self._vms))

    async def rows(self, camera_id: UUID, span: TimeSpan, limit: int, after: Position | None = None) -> Slice:
        """Of `limit` segments that overlap the span, from `after` on, those that can be fetched."""
        return await self._store.read(lambda db: _rows(db, camera_id, span, limit, after, self._vms))

    async def codecs(self, after: int, limit: int = LOOKED_AT) -> CodecSlice:
        """Of `limit` segments behind number `after`, in the order in which they became known."""
        return await self._store.read(lambda db: _codecs(db, after, limit))


def _cameras(db: sqlite3.Connection, limit: int) -> list[Camera]:
    found = db.execute(_CAMERAS, (limit,))
    return [Camera(id=UUID(bytes=id_), name=name, folder=os.fsdecode(folder)) for id_, name, folder in found]


def _ends(db: sqlite3.Connection, camera_id: UUID, vms: str) -> Ends | None:
    camera = db.execute("SELECT no FROM camera WHERE id = ?", (camera_id.bytes,)).fetchone()
    if camera is None:
        return None
    first = _end(db, camera[0], vms, "start_us", "ASC")
    last = _end(db, camera[0], vms, "end_us", "DESC")
    if first is None or last is None or last[0] <= first[0]:
        return None
    return Ends(TimeSpan(from_us(first[0]), from_us(last[0])), first[1], last[1])


def _end(
    db: sqlite3.Connection, camera_no: int, vms: str, column: str, order: str
) -> tuple[int, str | None] | None:
    query = _ENDS.format(column=column, replayable=REPLAYABLE, order=order)
    outermost: tuple[int, str | None] | None = None
    for moment_us, codec, replayable in db.execute(query, (vms, camera_no, LOOKED_AT)):
        if replayable:
            return moment_us, codec
        outermost = outermost or (moment_us, codec)
    return outermost


def _rows(
    db: sqlite3.Connection, camera_id: UUID, span: TimeSpan, limit: int, after: Position | None, vms: str
) -> Slice:
    camera = db.execute("SELECT no, longest_us FROM camera WHERE id = ?", (camera_id.bytes,)).fetchone()
    if camera is None:
        return Slice((), None)
    lowest = (to_us(span.start) - camera[1], LAST_NO)  # what starts there is over when the span begins
    start, no = lowest if after is None else max(lowest, after)
    bounds = (vms, camera[0], start, no, to_us(span.end), to_us(span.start), limit)
    found = db.execute(_ROWS, bounds).fetchall()
    following = (found[-1][1], found[-1][8]) if len(found) == limit else None
    return Slice(tuple(MaterialRow(*row[:8]) for row in found if row[9]), following)


def _codecs(db: sqlite3.Connection, after: int, limit: int) -> CodecSlice:
    found = db.execute(_CODECS, (after, limit)).fetchall()
    latest: dict[tuple[bytes, str], int] = {}
    for _, id_, codec, start_us in found:
        if codec is not None:
            latest[id_, codec] = max(start_us, latest.get((id_, codec), start_us))
    rows = tuple((UUID(bytes=id_), codec, start_us) for (id_, codec), start_us in latest.items())
    return CodecSlice(rows, found[-1][0] if found else after, len(found) == limit)
