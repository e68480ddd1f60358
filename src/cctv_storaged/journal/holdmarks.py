"""What holds mean for segments and copies: `segment.held`, counted contents, legal holds to set and take off.

Everything that may concern a million rows goes in slices that somebody else calls one after the other; a
slice takes a few milliseconds, and each says of its rows what is so in that very commit. Where a walk stands
lives in memory: a process that dies begins the walk of the hold anew, which changes nothing twice.

A copy's `locked`: NULL nothing; 0 of held footage, and no legal hold was shown yet; 1 shown; 2 no longer
held, and a legal hold may still be there.
"""

import json
import sqlite3
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from cctv_storaged.journal.holds import NO_END_US
from cctv_storaged.journal.store import Store

SLICE = 150
"""Segments looked at in one commit, of which each may be another page of the file."""
COUNTED = 500
"""Segments counted in one reading."""
_FIRST = -(2**62)
_LAST_NO = 2**62

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Walk:
    """Where a walk through the footage of a hold goes on."""

    hold_no: int
    in_force: bool  # as it was when the walk began: a hold released meanwhile is walked through anew
    camera_no: int = 0
    start_us: int = _FIRST
    segment_no: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """A part of what a hold holds; copies by backend: with a legal hold, and still without."""

    segments: int
    bytes: int
    locked: dict[str, int]
    unlocked: dict[str, int]
    next: Walk | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockTask:
    """A copy whose legal hold is to be set or taken off."""

    segment_no: int
    segment_id: UUID
    path: str | None  # None: nothing was ever put
    needed: bool  # another segment's copy is the very same object, and is held


class HoldMarks:
    """The marks of holds on this host's segments and copies."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def settle(self, walk: Walk | None) -> Walk | None:
        """A slice of marking what is held and what is no longer; None: `held` says of all what it should."""
        return await self._store.write(lambda db: _settle(db, walk))

    async def contents(self, hold_no: int, walk: Walk | None) -> Contents:
        """What a hold holds, a reading's worth from `walk` on."""
        return await self._store.read(lambda db: _contents(db, walk or Walk(hold_no, in_force=True)))

    async def to_lock(self, backend: str, after: int, limit: int) -> list[LockTask]:
        """Verified copies of held segments without a legal hold, by the number of their segment."""
        return await self._store.read(
            lambda db: _tasks(db, "c.locked = 0 AND c.state = 'verified'", backend, after, limit)
        )

    async def to_unlock(self, backend: str, after: int, limit: int) -> list[LockTask]:
        """Copies of segments that are no longer held and may have a legal hold still."""
        return await self._store.read(lambda db: _tasks(db, "c.locked = 2", backend, after, limit))

    async def locked(self, backend: str, task: LockTask) -> None:
        """The legal hold was shown. What was released meanwhile is to be taken off again."""
        change = """UPDATE copy SET locked = 1 WHERE segment_no = ? AND backend = ? AND path = ?
                       AND locked = 0 AND state = 'verified'"""
        parameters = (task.segment_no, backend, task.path)
        await self._store.write(lambda db: db.execute(change, parameters))

    async def unlocked(self, backend: str, segment_nos: Sequence[int]) -> None:
        """No legal hold is there, or none that is not needed. What is held anew meanwhile is to get one."""
        change = """UPDATE copy SET locked = NULL WHERE backend = ? AND locked = 2
                       AND segment_no IN (SELECT value FROM json_each(?))"""
        parameters = (backend, json.dumps(list(segment_nos)))
        await self._store.write(lambda db: db.execute(change, parameters))


def _settle(db: sqlite3.Connection, walk: Walk | None) -> Walk | None:
    walk = _resumed(db, walk)
    if walk is None:
        return None
    camera_no = _next_camera(db, walk)
    if camera_no is None:
        db.execute("UPDATE hold SET marked = 1 WHERE no = ?", (walk.hold_no,))
        return _resumed(db, None)
    if camera_no != walk.camera_no:
        walk = Walk(walk.hold_no, walk.in_force, camera_no)
    rows = _rows(db, walk, "s.held", SLICE)
    covered = _covering(db, camera_no)
    changes = [(int(_is_covered(covered, row[1], row[2])), row[0], row[3]) for row in rows]
    _hold(db, [no for held, no, before in changes if held and not before])
    _free(db, [no for held, no, before in changes if before and not held])
    return _behind(walk, rows, SLICE)


def _resumed(db: sqlite3.Connection, walk: Walk | None) -> Walk | None:
    """The walk while its hold still needs it, else one through the next hold that needs one."""
    if walk is not None:
        query = "SELECT marked, released_us IS NULL FROM hold WHERE no = ?"
        marked, in_force = db.execute(query, (walk.hold_no,)).fetchone() or (1, 0)
        if not marked:
            return walk if in_force == walk.in_force else Walk(walk.hold_no, bool(in_force))
    query = "SELECT no, released_us IS NULL FROM hold WHERE marked = 0 ORDER BY no LIMIT 1"
    row = db.execute(query).fetchone()
    return None if row is None else Walk(row[0], bool(row[1]))


def _next_camera(db: sqlite3.Connection, walk: Walk) -> int | None:
    query = "SELECT min(camera_no) FROM hold_camera WHERE hold_no = ? AND camera_no >= ?"
    found = db.execute(query, (walk.hold_no, walk.camera_no)).fetchone()[0]
    return None if found is None else int(found)


def _rows(db: sqlite3.Connection, walk: Walk, column: str, limit: int) -> list[tuple[int, int, int, int]]:
    """Number, start, end and one column more of the camera's next segments that may overlap the hold."""
    start_us, end_us = db.execute(
        "SELECT start_us, end_us FROM hold WHERE no = ?", (walk.hold_no,)
    ).fetchone()
    longest = db.execute("SELECT longest_us FROM camera WHERE no = ?", (walk.camera_no,)).fetchone()[0]
    lowest = max((walk.start_us, walk.segment_no), (start_us - longest, _LAST_NO))
    return db.execute(
        f"""SELECT s.no, s.start_us, s.end_us, {column} FROM segment s
             WHERE s.camera_no = ? AND (s.start_us, s.no) > (?, ?) AND s.start_us < ?
             ORDER BY s.start_us, s.no LIMIT ?""",
        (walk.camera_no, *lowest, end_us, limit),
    ).fetchall()


def _behind(walk: Walk, rows: Sequence[tuple[int, int, int, int]], limit: int) -> Walk:
    if len(rows) < limit:
        return Walk(walk.hold_no, walk.in_force, walk.camera_no + 1)
    return Walk(walk.hold_no, walk.in_force, walk.camera_no, rows[-1][1], rows[-1][0])


def _covering(db: sqlite3.Connection, camera_no: int) -> list[Span]:
    """When footage of a camera is held, in order and joined, so that none overlaps another."""
    rows = db.execute(
        """SELECT h.start_us, h.end_us FROM hold_camera c JOIN hold h ON h.no = c.hold_no
            WHERE c.camera_no = ? AND h.released_us IS NULL ORDER BY h.start_us""",
        (camera_no,),
    )
    joined: list[Span] = []
    for start_us, end_us in rows:
        if joined and start_us <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end_us))
        else:
            joined.append((start_us, end_us))
    return joined


def _is_covered(covering: Sequence[Span], start_us: int, end_us: int) -> bool:
    last_begun = bisect_right(covering, (end_us - 1, NO_END_US)) - 1
    return last_begun >= 0 and covering[last_begun][1] > start_us


def _hold(db: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """Held from here on: what is undelivered goes first, what is delivered is to get a legal hold."""
    of_these = "segment_no IN (SELECT value FROM json_each(?))"
    listed = json.dumps(list(numbers))
    db.execute("UPDATE segment SET held = 1 WHERE no IN (SELECT value FROM json_each(?))", (listed,))
    db.execute(f"UPDATE copy SET locked = iif(locked = 1, 1, 0) WHERE {of_these}", (listed,))
    db.execute(
        f"UPDATE copy SET urgent = 1, due_us = 0 WHERE {of_these} AND state IN ('pending', 'stored')",
        (listed,),
    )


def _free(db: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """No longer held. Where no legal hold was shown one may have been set this moment."""
    listed = json.dumps(list(numbers))
    db.execute("UPDATE segment SET held = 0 WHERE no IN (SELECT value FROM json_each(?))", (listed,))
    db.execute(
        """UPDATE copy SET locked = 2
            WHERE segment_no IN (SELECT value FROM json_each(?)) AND locked IN (0, 1)""",
        (listed,),
    )


def _contents(db: sqlite3.Connection, walk: Walk) -> Contents:
    camera_no = _next_camera(db, walk)
    if camera_no is None:
        return Contents(segments=0, bytes=0, locked={}, unlocked={}, next=None)
    if camera_no != walk.camera_no:
        walk = Walk(walk.hold_no, walk.in_force, camera_no)
    rows = _rows(db, walk, "iif(s.deletion_due_us IS NULL, s.size_bytes, -1)", COUNTED)
    start_us = db.execute("SELECT start_us FROM hold WHERE no = ?", (walk.hold_no,)).fetchone()[0]
    counted = {no: size for no, _, end_us, size in rows if end_us > start_us and size >= 0}
    locked, unlocked = _locks(db, list(counted))
    return Contents(
        segments=len(counted),
        bytes=sum(counted.values()),
        locked=locked,
        unlocked=unlocked,
        next=_behind(walk, rows, COUNTED),
    )


def _locks(db: sqlite3.Connection, numbers: Sequence[int]) -> tuple[dict[str, int], dict[str, int]]:
    rows = db.execute(
        """SELECT backend, sum(locked IS 1), sum(locked IS NOT 1) FROM copy
            WHERE segment_no IN (SELECT value FROM json_each(?))
              AND state IN ('pending', 'stored', 'verified', 'failed') GROUP BY backend""",
        (json.dumps(list(numbers)),),
    ).fetchall()
    return {row[0]: row[1] for row in rows}, {row[0]: row[2] for row in rows}


def _tasks(db: sqlite3.Connection, which: str, backend: str, after: int, limit: int) -> list[LockTask]:
    rows = db.execute(
        f"""SELECT c.segment_no, s.id, c.path, EXISTS (
                   SELECT 1 FROM copy twin JOIN segment held ON held.no = twin.segment_no
                    WHERE twin.backend = c.backend AND twin.path = c.path AND held.held = 1
                      AND twin.segment_no <> c.segment_no)
              FROM copy c JOIN segment s ON s.no = c.segment_no
             WHERE c.backend = ? AND {which} AND c.segment_no > ? ORDER BY c.segment_no LIMIT ?""",
        (backend, after, limit),
    ).fetchall()
    return [
        LockTask(segment_no=no, segment_id=UUID(bytes=id_), path=path, needed=bool(needed))
        for no, id_, path, needed in rows
    ]
