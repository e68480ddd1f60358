"""Holds as they are kept outside the journal too: one that is lost does not let go of what they protect."""

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

from cctv_storaged.clock import from_us, to_us
from cctv_storaged.journal import ledger
from cctv_storaged.journal.rows import text
from cctv_storaged.journal.store import Store
from cctv_storaged.model import Camera, TimeSpan

RECOVERED = "recovered"
"""Cause of the ledger's line."""
MOST_RELEASED = 1000
"""Of the holds that are over, the last so many are kept: they protect nothing, and tell what was."""
_LAST_US = to_us(datetime.max.replace(tzinfo=from_us(0).tzinfo))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptHold:
    """One row of `hold` with its cameras; times as the journal has them."""

    id: UUID
    case_id: str | None
    reason: str
    created_by: str | None
    created_us: int
    start_us: int
    end_us: int
    expires_us: int | None
    review_us: int | None
    released_us: int | None
    released_by: str | None
    release_reason: str | None
    cameras: tuple[Camera, ...]

    @property
    def in_force(self) -> bool:
        return self.released_us is None


_COLUMNS = """no, id, case_id, reason, created_by, created_us, start_us, end_us, expires_us, review_us,
    released_us, released_by, release_reason"""


class HeldBack:
    """Reads all holds at once, and takes in those that were lost."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def all(self) -> tuple[KeptHold, ...]:
        """Every hold in force, and the last released ones, in the order in which they were made."""
        return await self._store.read(_all)

    async def recover(self, holds: Sequence[KeptHold], now: datetime) -> int:
        """Takes in those whose ids the journal does not know, and what those in force lack; how many.

        A journal that was damaged, or put back from long ago, may have forgotten cameras, or a later end.
        """
        return sum([await self._store.write(partial(_recover, hold=hold, now=now)) for hold in holds])


def _all(db: sqlite3.Connection) -> tuple[KeptHold, ...]:
    rows = db.execute(
        f"""SELECT {_COLUMNS} FROM hold WHERE released_us IS NULL UNION ALL
            SELECT * FROM (SELECT {_COLUMNS} FROM hold WHERE released_us IS NOT NULL
                            ORDER BY no DESC LIMIT {MOST_RELEASED})
            ORDER BY no"""
    ).fetchall()
    return tuple(_hold(db, row) for row in rows)


def _hold(db: sqlite3.Connection, row: Sequence[object]) -> KeptHold:
    no, id_, *facts = row
    cameras = db.execute(
        """SELECT c.id, c.name, c.folder FROM hold_camera JOIN camera c ON c.no = camera_no
            WHERE hold_no = ? ORDER BY c.id""",
        (no,),
    ).fetchall()
    assert isinstance(id_, bytes)
    (case_id, reason, created_by, created, start, end, expires, review, released, by, why) = facts
    return KeptHold(
        id=UUID(bytes=id_),
        case_id=_text(case_id),
        reason=str(reason),
        created_by=_text(created_by),
        created_us=_int(created),
        start_us=_int(start),
        end_us=_int(end),
        expires_us=_int_or_none(expires),
        review_us=_int_or_none(review),
        released_us=_int_or_none(released),
        released_by=_text(by),
        release_reason=_text(why),
        cameras=tuple(
            Camera(id=UUID(bytes=camera), name=name, folder=os.fsdecode(folder))
            for camera, name, folder in cameras
        ),
    )


def _recover(db: sqlite3.Connection, hold: KeptHold, now: datetime) -> int:
    known = db.execute(
        "SELECT no, expires_us, released_us FROM hold WHERE id = ?", (hold.id.bytes,)
    ).fetchone()
    if known is not None:
        return _complete(db, known[0], known[1], hold, now) if hold.in_force and known[2] is None else 0
    no = db.execute(
        """INSERT INTO hold (id, case_id, reason, created_by, created_us, start_us, end_us, expires_us,
                             review_us, released_us, released_by, release_reason)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            hold.id.bytes,
            hold.case_id,
            hold.reason,
            hold.created_by,
            hold.created_us,
            hold.start_us,
            hold.end_us,
            hold.expires_us,
            hold.review_us,
            hold.released_us,
            hold.released_by,
            hold.release_reason,
        ),
    ).lastrowid
    assert no is not None
    _add_cameras(db, no, hold, now)
    return 1


def _add_cameras(db: sqlite3.Connection, no: int, hold: KeptHold, now: datetime) -> int:
    """Those that the hold has not; how many."""
    added = 0
    for camera in hold.cameras:
        pair = (ensure_known(db, camera), no)
        new = db.execute(
            "INSERT OR IGNORE INTO hold_camera (camera_no, hold_no) VALUES (?, ?)", pair
        ).rowcount
        added += new
        if new and hold.in_force:
            span = TimeSpan(from_us(hold.start_us), from_us(min(hold.end_us, _LAST_US)))
            ledger.add(db, ledger.Kind.HELD, hold.id, camera.id, span, RECOVERED, now, hold.reason)
    return added


def _complete(db: sqlite3.Connection, no: int, expires_us: int | None, hold: KeptHold, now: datetime) -> int:
    """A hold in force only ever gets a later end, so the later one is the newer one."""
    added = _add_cameras(db, no, hold, now)
    later = expires_us is not None and (hold.expires_us is None or hold.expires_us > expires_us)
    if not added and not later:
        return 0
    last_us = hold.expires_us if later else expires_us
    db.execute("UPDATE hold SET expires_us = ?, marked = 0 WHERE no = ?", (last_us, no))
    return 1


def ensure_known(db: sqlite3.Connection, camera: Camera) -> int:
    """Number of a camera, made when new; one that is known keeps its name and folder."""
    db.execute(
        "INSERT OR IGNORE INTO camera (id, name, folder) VALUES (?, ?, ?)",
        (camera.id.bytes, text(camera.name), os.fsencode(camera.folder)),
    )
    return int(db.execute("SELECT no FROM camera WHERE id = ?", (camera.id.bytes,)).fetchone()[0])


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


def _int_or_none(value: object) -> int | None:
    return None if value is None else _int(value)
