"""Verified copies by camera and time, for whoever proves them anew; and gaps counted by camera."""

import sqlite3
from dataclasses import dataclass
from uuid import UUID

from cctv_storaged.clock import from_us
from cctv_storaged.journal.store import Store
from cctv_storaged.model import TimeSpan

LOOKED = 1000
"""Rows looked at in one call, whether they are wanted or not: some milliseconds."""
MOST_GAPS = 2000
_DAY_US = 86_400_000_000
_FIRST = -(2**62)


@dataclass(frozen=True, slots=True)
class Place:
    """How far a walk through all cameras is; before the first at the start."""

    camera_no: int = 0
    start_us: int = _FIRST
    segment_no: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldSegment:
    """A segment with a verified copy."""

    id: UUID
    span: TimeSpan
    path: str  # where it was shown to be
    with_source: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldPage:
    """Some of a camera's, all begun on one day (UTC); `place` None: all cameras are through."""

    camera_id: UUID | None
    segments: tuple[HeldSegment, ...]
    unhashed: tuple[UUID, ...]  # of these, whose source is there (again) and was never hashed
    place: Place | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraGaps:
    """What a camera lacks at a backend although its source is there."""

    camera_id: UUID
    name: str
    segments: int
    span: TimeSpan  # from the first to the last


class VouchDays:
    """Walks and counts."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def held(self, backend: str, place: Place) -> HeldPage:
        """The next verified copies behind a place, of the next LOOKED segments of one camera and day."""
        return await self._store.read(lambda db: _held(db, backend, place))

    async def gaps(self, backend: str) -> tuple[list[CameraGaps], bool]:
        """Gaps whose source is there, by camera, of the newest MOST_GAPS; and whether those were all."""
        return await self._store.read(lambda db: _gaps(db, backend))

    async def place(self, backend: str) -> Place:
        """Where the walk is, as noted."""
        query = "SELECT value FROM meta WHERE key = ?"
        row = await self._store.read(lambda db: db.execute(query, (_key(backend),)).fetchone())
        return _parsed(None if row is None else str(row[0]))

    async def note(self, backend: str, place: Place) -> None:
        noted = f"{place.camera_no} {place.start_us} {place.segment_no}"
        change = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
        await self._store.write(lambda db: db.execute(change, (_key(backend), noted)))


def _key(backend: str) -> str:
    return f"review:{backend}"


def _parsed(noted: str | None) -> Place:
    try:
        return Place(*(int(word) for word in (noted or "").split()))
    except (TypeError, ValueError):
        return Place()


def _held(db: sqlite3.Connection, backend: str, place: Place) -> HeldPage:
    camera = db.execute("SELECT no, id FROM camera WHERE no >= ? ORDER BY no LIMIT 1", (place.camera_no,))
    found = camera.fetchone()
    if found is None:
        return HeldPage(camera_id=None, segments=(), unhashed=(), place=None)
    number, camera_id = int(found[0]), UUID(bytes=found[1])
    if number != place.camera_no:
        place = Place(number)
    rows = db.execute(
        """SELECT s.start_us, s.no, s.id, s.end_us, (
                  SELECT path FROM copy WHERE segment_no = s.no AND backend = ? AND state = 'verified'),
                  s.source_state = 'present' AND s.sha256 IS NULL, s.source_state = 'present'
             FROM segment s WHERE s.camera_no = ? AND (s.start_us, s.no) > (?, ?)
             ORDER BY s.start_us, s.no LIMIT ?""",
        (backend, number, place.start_us, place.segment_no, LOOKED),
    ).fetchall()
    if not rows:
        return HeldPage(camera_id=camera_id, segments=(), unhashed=(), place=Place(number + 1))
    day = rows[0][0] // _DAY_US
    of_day = [row for row in rows if row[0] // _DAY_US == day]
    segments = tuple(
        HeldSegment(
            id=UUID(bytes=id_),
            span=TimeSpan(from_us(start), from_us(end)),
            path=path,
            with_source=bool(with_source),
        )
        for start, _, id_, end, path, _, with_source in of_day
        if path is not None
    )
    unhashed = tuple(UUID(bytes=row[2]) for row in of_day if row[4] is not None and row[5])
    place = Place(number, of_day[-1][0], of_day[-1][1])
    return HeldPage(camera_id=camera_id, segments=segments, unhashed=unhashed, place=place)


def _gaps(db: sqlite3.Connection, backend: str) -> tuple[list[CameraGaps], bool]:
    rows = db.execute(
        """SELECT c.id, c.name, s.start_us, s.end_us, s.source_state = 'present' FROM copy
             CROSS JOIN segment s ON s.no = copy.segment_no CROSS JOIN camera c ON c.no = s.camera_no
            WHERE copy.backend = ? AND copy.state = 'gap'
            ORDER BY copy.start_us DESC, copy.segment_no DESC LIMIT ?""",
        (backend, MOST_GAPS),
    ).fetchall()
    by_camera: dict[bytes, list[tuple[str, int, int]]] = {}
    for camera, name, start, end, present in rows:
        if present:
            by_camera.setdefault(camera, []).append((name, start, end))
    gaps = [
        CameraGaps(
            camera_id=UUID(bytes=camera),
            name=found[0][0],
            segments=len(found),
            span=TimeSpan(from_us(min(f[1] for f in found)), from_us(max(f[2] for f in found))),
        )
        for camera, found in by_camera.items()
    ]
    return gaps, len(rows) < MOST_GAPS
