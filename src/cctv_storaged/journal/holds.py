"""Holds: cameras × span that nothing may delete, also of footage still to come.

The table is the truth: triggers ask it whenever a segment is registered, tombstoned or pruned, so a hold
counts from its commit on. `segment.held` is a mark for whoever reads segments, brought about in slices
(holdmarks.py). A hold that ended stays as a row.
"""

import logging
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from cctv_storaged.clock import from_us, to_us
from cctv_storaged.errors import Conflict, Held, NotFound
from cctv_storaged.journal import ledger
from cctv_storaged.journal.exportrows import ExportRequest
from cctv_storaged.journal.idempotency import RepeatKey, forget, made_by, remember
from cctv_storaged.journal.rows import text
from cctv_storaged.journal.store import Store
from cctv_storaged.model import TimeSpan

log = logging.getLogger(__name__)

NO_END_US = 2**62
FOREVER = datetime.max.replace(tzinfo=UTC)
"""What the ledger has for the end of a hold without one."""
EXPIRY = "expiry"
"""By whom a hold is released whose day has come."""
MOST_NAMED = 5
"""Holds named to somebody whom they are in the way of."""
_NEWEST = 2**62
_COLUMNS = """h.no, h.id, h.case_id, h.reason, h.created_by, h.created_us, h.start_us, h.end_us, h.expires_us,
    h.review_us, h.released_us, h.released_by, h.release_reason, h.marked"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewHold:
    """A hold to be made, checked; the cameras are known to the journal."""

    id: UUID
    camera_ids: tuple[UUID, ...]
    start: datetime
    end: datetime | None  # None: open
    reason: str
    case_id: str | None
    created_by: str | None
    expires_at: datetime | None
    review_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A hold as the journal knows it."""

    no: int
    id: UUID
    camera_ids: tuple[UUID, ...]
    start: datetime
    end: datetime | None
    reason: str
    case_id: str | None
    created_by: str | None
    created_at: datetime
    expires_at: datetime | None
    review_at: datetime | None
    released_at: datetime | None  # None: in force
    released_by: str | None
    release_reason: str | None
    marked: bool  # segment.held says of all its footage what it should

    @property
    def in_force(self) -> bool:
        return self.released_at is None

    @property
    def title(self) -> str:
        """What people call it."""
        return self.case_id or self.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldPage:
    """Holds newest first, and the number the next page goes on from (None: there is none)."""

    holds: tuple[Hold, ...]
    next: int | None


class Holds:
    """The holds of this host."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(self, new: NewHold, repeat: RepeatKey | None, now: datetime) -> Hold:
        """Makes a hold; the earlier one where its key was used before.

        Raises NotFound for a camera that nobody knows, and Conflict for a key used with another body.
        """
        return await self._store.write(lambda db: _add(db, new, repeat, now))

    async def made_by(self, repeat: RepeatKey) -> Hold | None:
        """The hold that a key's first request made. Raises Conflict as `add` does."""
        return await self._store.read(lambda db: _made_by(db, repeat))

    async def by_id(self, hold_id: UUID) -> Hold | None:
        """One hold, in force or not."""
        return await self._store.read(lambda db: _one(db, "h.id = ?", hold_id.bytes))

    async def page(
        self, limit: int, after: int | None, camera_id: UUID | None, in_force: bool | None
    ) -> HoldPage:
        """Holds newest first, by keyset."""
        return await self._store.read(lambda db: _page(db, limit, after, camera_id, in_force))

    async def count(self) -> int:
        """How many are in force."""
        query = "SELECT count(*) FROM hold WHERE released_us IS NULL"
        return await self._store.read(lambda db: int(db.execute(query).fetchone()[0]))

    async def change(
        self, hold_id: UUID, review_at: datetime | None, expires_at: datetime | None, *, never: bool
    ) -> Hold:
        """Another day for its review, or a later one for its end; `never`: it has no such day any more.

        None leaves as it is. Raises NotFound, and Conflict where it was released or would end earlier.
        """
        return await self._store.write(lambda db: _change(db, hold_id, review_at, expires_at, never))

    async def release(self, hold_id: UUID, reason: str, by: str | None, now: datetime) -> Hold:
        """Nothing is held by it from here on. Raises NotFound, Conflict where it was released already."""
        return await self._store.write(lambda db: _release(db, hold_id, reason, by, now))

    async def expire(self, now: datetime, limit: int) -> list[Hold]:
        """Releases those past their day, so many at a time; those that it released."""
        return await self._store.write(lambda db: _expire(db, now, limit))

    async def due_for_review(self, now: datetime, limit: int) -> list[Hold]:
        """Those in force whose review is due, longest first."""
        where = "h.released_us IS NULL AND h.review_us <= ? ORDER BY h.review_us LIMIT ?"
        return await self._store.read(lambda db: _select(db, where, to_us(now), limit))


def holding(db: sqlite3.Connection, camera_no: int, start_us: int, end_us: int) -> tuple[UUID, ...]:
    """The first few holds in force that need footage of the camera within the span, in any commit."""
    rows = db.execute(
        """SELECT h.id FROM hold_camera c JOIN hold h ON h.no = c.hold_no
            WHERE c.camera_no = ? AND h.released_us IS NULL AND h.start_us < ? AND h.end_us > ?
            ORDER BY h.no LIMIT ?""",
        (camera_no, end_us, start_us, MOST_NAMED),
    )
    return tuple(UUID(bytes=row[0]) for row in rows)


def take_in(db: sqlite3.Connection, camera_no: int, now: datetime) -> None:
    """A camera that stands for a folder comes under the holds in force on others of the same folder.

    Another `id` in the settings makes another camera of it; a hold is about what is seen there. For any
    commit; with a line in the ledger for each.
    """
    id_, folder = db.execute("SELECT id, folder FROM camera WHERE no = ?", (camera_no,)).fetchone()
    where = """h.released_us IS NULL AND h.no IN (
            SELECT c.hold_no FROM camera former JOIN hold_camera c ON c.camera_no = former.no
             WHERE former.folder = ? AND former.no <> ?)
        AND NOT EXISTS (SELECT 1 FROM hold_camera c WHERE c.camera_no = ? AND c.hold_no = h.no)
        ORDER BY h.no"""
    holds = _select(db, where, folder, camera_no, camera_no) if folder else []
    for hold in holds:
        db.execute("INSERT INTO hold_camera VALUES (?, ?)", (camera_no, hold.no))
        db.execute("UPDATE hold SET marked = 0 WHERE no = ?", (hold.no,))
        camera_id, span = UUID(bytes=id_), TimeSpan(hold.start, hold.end or FOREVER)
        told = f"the folder {os.fsdecode(folder)!r} is another camera now: {hold.reason}"
        ledger.add(db, ledger.Kind.HELD, hold.id, camera_id, span, hold.title, now, told)
        log.warning("hold %s (%s) is on camera %s too: %s", hold.id, hold.title, camera_id, told)


def require_free(db: sqlite3.Connection, segment_no: int) -> None:
    """Raises Held where a hold keeps the segment from going, and says which."""
    row = db.execute(
        "SELECT camera_no, start_us, end_us, held, id FROM segment WHERE no = ?", (segment_no,)
    ).fetchone()
    if row is None:
        return
    hold_ids = holding(db, *row[:3])
    if hold_ids:
        raise Held(f"segment {UUID(bytes=row[4])} is held by {_named(hold_ids)}; release it first", hold_ids)
    if row[3]:
        told = f"segment {UUID(bytes=row[4])} is still marked as held: its hold was just released"
        raise Held(f"{told}; try again in a moment")


def holding_export(db: sqlite3.Connection, request: ExportRequest) -> tuple[UUID, ...]:
    """The first few holds in force that an export belongs to: by its footage, or by its case."""
    found = {
        hold_id
        for camera_id in request.camera_ids
        if (camera_no := _camera_no(db, camera_id)) is not None
        for hold_id in holding(db, camera_no, to_us(request.span.start), to_us(request.span.end))
    }
    if request.case_id is not None:
        query = "SELECT id FROM hold WHERE released_us IS NULL AND case_id = ? ORDER BY no LIMIT ?"
        rows = db.execute(query, (text(request.case_id), MOST_NAMED))
        found |= {UUID(bytes=row[0]) for row in rows}
    return tuple(sorted(found))[:MOST_NAMED]


def require_free_export(db: sqlite3.Connection, export_id: UUID, request: ExportRequest) -> None:
    """Raises Held where a hold needs what an export made."""
    hold_ids = holding_export(db, request)
    if hold_ids:
        told = f"export {export_id} shows what {_named(hold_ids)} needs; release it first"
        raise Held(told, hold_ids)


def _named(hold_ids: Sequence[UUID]) -> str:
    return f"hold{'s' if len(hold_ids) > 1 else ''} {', '.join(map(str, hold_ids))}"


def _add(db: sqlite3.Connection, new: NewHold, repeat: RepeatKey | None, now: datetime) -> Hold:
    if repeat is not None and (earlier := _made_by(db, repeat)) is not None:
        return earlier
    numbers = [_known_camera_no(db, camera_id) for camera_id in new.camera_ids]
    no = db.execute(
        """INSERT INTO hold (id, case_id, reason, created_by, created_us, start_us, end_us, expires_us,
                             review_us)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            new.id.bytes,
            _text(new.case_id),
            text(new.reason),
            _text(new.created_by),
            to_us(now),
            to_us(new.start),
            NO_END_US if new.end is None else to_us(new.end),
            _us(new.expires_at),
            _us(new.review_at),
        ),
    ).lastrowid
    db.executemany("INSERT INTO hold_camera VALUES (?, ?)", [(camera_no, no) for camera_no in numbers])
    if repeat is not None:
        forget(db, repeat.route, repeat.key)
        remember(db, repeat.route, repeat.key, repeat.request, str(new.id), now)
    hold = _known(db, new.id)
    who = f"by {hold.created_by}: " if hold.created_by else ""
    _tell(db, ledger.Kind.HELD, hold, f"{who}{hold.reason}", now)
    return hold


def _tell(db: sqlite3.Connection, kind: ledger.Kind, hold: Hold, detail: str, now: datetime) -> None:
    span = TimeSpan(hold.start, hold.end or FOREVER)
    for camera_id in hold.camera_ids:
        ledger.add(db, kind, hold.id, camera_id, span, hold.title, now, detail)


def _made_by(db: sqlite3.Connection, repeat: RepeatKey) -> Hold | None:
    made = made_by(db, repeat.route, repeat.key, repeat.request)
    return None if made is None else _one(db, "h.id = ?", UUID(made).bytes)


def _page(
    db: sqlite3.Connection, limit: int, after: int | None, camera_id: UUID | None, in_force: bool | None
) -> HoldPage:
    where, parameters = ["h.no < ?"], [_NEWEST if after is None else after]
    if in_force is not None:
        where.append(f"h.released_us IS {'' if in_force else 'NOT '}NULL")
    if camera_id is not None:
        camera_no = _camera_no(db, camera_id)
        if camera_no is None:
            return HoldPage(holds=(), next=None)
        where.append("h.no IN (SELECT hold_no FROM hold_camera WHERE camera_no = ?)")
        parameters.append(camera_no)
    found = _select(db, f"{' AND '.join(where)} ORDER BY h.no DESC LIMIT ?", *parameters, limit + 1)
    shown = tuple(found[:limit])
    return HoldPage(holds=shown, next=shown[-1].no if len(found) > limit else None)


def _change(
    db: sqlite3.Connection,
    hold_id: UUID,
    review_at: datetime | None,
    expires_at: datetime | None,
    never: bool,
) -> Hold:
    hold = _known(db, hold_id)
    _require_in_force(hold)
    if expires_at is not None and (hold.expires_at is None or expires_at < hold.expires_at):
        raise Conflict(f"hold {hold_id} would end earlier than it was promised to; release it instead")
    db.execute(
        """UPDATE hold SET review_us = coalesce(?, review_us),
                           expires_us = iif(?, NULL, coalesce(?, expires_us)) WHERE no = ?""",
        (_us(review_at), int(never), _us(expires_at), hold.no),
    )
    return _known(db, hold_id)


def _release(db: sqlite3.Connection, hold_id: UUID, reason: str, by: str | None, now: datetime) -> Hold:
    hold = _known(db, hold_id)
    _require_in_force(hold)
    return _released(db, hold, reason, by, now)


def _require_in_force(hold: Hold) -> None:
    if hold.released_at is not None:
        by = f" by {hold.released_by}" if hold.released_by else ""
        raise Conflict(f"hold {hold.id} was released at {hold.released_at:%Y-%m-%dT%H:%M:%SZ}{by}")


def _released(db: sqlite3.Connection, hold: Hold, reason: str, by: str | None, now: datetime) -> Hold:
    """`marked` falls back: its footage is to be looked through again, which may be held by others."""
    db.execute(
        """UPDATE hold SET released_us = ?, released_by = ?, release_reason = ?, marked = 0
            WHERE no = ?""",
        (to_us(now), _text(by), text(reason), hold.no),
    )
    _tell(db, ledger.Kind.RELEASED, hold, f"by {by}: {reason}" if by else reason, now)
    return _known(db, hold.id)


def _expire(db: sqlite3.Connection, now: datetime, limit: int) -> list[Hold]:
    where = "h.released_us IS NULL AND h.expires_us <= ? ORDER BY h.no LIMIT ?"
    past = _select(db, where, to_us(now), limit)
    return [_released(db, hold, "its day has come", EXPIRY, now) for hold in past]


def _known(db: sqlite3.Connection, hold_id: UUID) -> Hold:
    hold = _one(db, "h.id = ?", hold_id.bytes)
    if hold is None:
        raise NotFound(f"no hold {hold_id} on this host")
    return hold


def _one(db: sqlite3.Connection, where: str, *parameters: object) -> Hold | None:
    return next(iter(_select(db, where, *parameters)), None)


def _select(db: sqlite3.Connection, where: str, *parameters: object) -> list[Hold]:
    rows = db.execute(f"SELECT {_COLUMNS} FROM hold h WHERE {where}", parameters).fetchall()
    return [_hold(row, _cameras_of(db, row[0])) for row in rows]


def _cameras_of(db: sqlite3.Connection, hold_no: int) -> tuple[UUID, ...]:
    query = """SELECT c.id FROM hold_camera hc JOIN camera c ON c.no = hc.camera_no
                WHERE hc.hold_no = ? ORDER BY c.id"""
    return tuple(UUID(bytes=row[0]) for row in db.execute(query, (hold_no,)))


def _hold(row: Sequence[object], camera_ids: tuple[UUID, ...]) -> Hold:
    no, id_, case_id, reason, created_by, created, start, end, expires, review = row[:10]
    released, released_by, release_reason, marked = row[10:]
    assert isinstance(no, int) and isinstance(id_, bytes)
    assert isinstance(created, int) and isinstance(start, int)
    return Hold(
        no=no,
        id=UUID(bytes=id_),
        camera_ids=camera_ids,
        start=from_us(start),
        end=None if end == NO_END_US else _moment(end),
        reason=str(reason),
        case_id=_str(case_id),
        created_by=_str(created_by),
        created_at=from_us(created),
        expires_at=_moment(expires),
        review_at=_moment(review),
        released_at=_moment(released),
        released_by=_str(released_by),
        release_reason=_str(release_reason),
        marked=bool(marked),
    )


def _known_camera_no(db: sqlite3.Connection, camera_id: UUID) -> int:
    number = _camera_no(db, camera_id)
    if number is None:
        raise NotFound(f"no camera {camera_id} on this host")
    return number


def _camera_no(db: sqlite3.Connection, camera_id: UUID) -> int | None:
    row = db.execute("SELECT no FROM camera WHERE id = ?", (camera_id.bytes,)).fetchone()
    return None if row is None else int(row[0])


def _moment(microseconds: object) -> datetime | None:
    return from_us(microseconds) if isinstance(microseconds, int) else None


def _us(moment: datetime | None) -> int | None:
    return None if moment is None else to_us(moment)


def _str(value: object) -> str | None:
    return None if value is None else str(value)


def _text(value: str | None) -> str | None:
    return None if value is None else text(value)
