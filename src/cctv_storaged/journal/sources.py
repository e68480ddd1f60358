"""Sources: which may be pruned, and the two phases of pruning one (tombstone, then unlink, then done)."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from cctv_storaged.clock import to_us
from cctv_storaged.journal import ledger
from cctv_storaged.journal.copies import COPY_FAILED
from cctv_storaged.journal.rows import SEGMENT_COLUMNS, SEGMENT_TABLES, segments_from
from cctv_storaged.journal.store import Store
from cctv_storaged.model import Segment

AHEAD = timedelta(minutes=1)
"""A clock may be set back by so much without a word (clocktrust.TOLERANCE)."""


class Sources:
    """The journal's view of the files under the recorder roots."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def settled_before(self, moment: datetime, limit: int, after: datetime | None) -> list[Segment]:
        """Segments with a source whose copies were all verified by `moment`, longest ago first.

        Only candidates: whoever prunes decides (prune.py). `after` is where the last batch ended: when the
        last copy of its last segment was verified. At most `limit`, and those that came at the very moment of
        the last one, so that none falls between two batches.
        """
        return await self._store.read(lambda db: _settled(db, moment, limit, after))

    async def verified_ahead(self, now: datetime, limit: int) -> int:
        """Copies that were verified later than now, by a clock that was ahead, count as verified now.

        Only where the source is here, of at most `limit` segments. Returns how many copies they were.
        """
        ahead_us = to_us(now + AHEAD)
        numbers = await self._store.read(lambda db: _settled_later(db, ahead_us, limit))
        if not numbers:
            return 0
        return await self._store.write(lambda db: _verified_by(db, numbers, to_us(now), ahead_us))

    async def newest(self, camera_id: UUID, keep: int) -> frozenset[UUID]:
        """Ids of the newest `keep` segments of a camera."""
        query = """SELECT s.id FROM segment s JOIN camera c ON c.no = s.camera_no
                    WHERE c.id = ? ORDER BY s.start_us DESC LIMIT ?"""
        rows = await self._store.read(lambda db: db.execute(query, (camera_id.bytes, keep)).fetchall())
        return frozenset(UUID(bytes=row[0]) for row in rows)

    async def begin_pruning(self, segment_id: UUID, required: Sequence[str]) -> bool:
        """Writes the tombstone if, at this moment, every required copy is verified and nothing holds it.

        A copy that was, and went by its backend's own retention, is asked for no more while another is left.
        """
        return await self._store.write(lambda db: _begin(db, segment_id, required))

    async def pruned(self, segment: Segment, now: datetime) -> Segment | None:
        """The unlink is done (or had been): the tombstone becomes a fact, and a line in the ledger.

        Returns the segment if its footage is lost by that: a backend has lost the copy meanwhile.
        """
        return await self._store.write(lambda db: _pruned(db, segment, now))

    async def keep(self, segment_id: UUID) -> None:
        """The unlink was not done after all: the source is there, and what was lost meanwhile is due."""
        await self._store.write(lambda db: _keep(db, segment_id))

    async def unfinished(self) -> list[Segment]:
        """Tombstones of pruning that the last process left behind (those of whole deletions and of giving
        up on a full disk are others' business)."""
        query = f"""SELECT {SEGMENT_COLUMNS} FROM {SEGMENT_TABLES}
             WHERE s.source_state = 'pruning' AND s.deletion_due_us IS NULL AND s.deletion_cause IS NULL"""
        return await self._store.read(lambda db: segments_from(db, db.execute(query).fetchall()))


def _settled(db: sqlite3.Connection, moment: datetime, limit: int, after: datetime | None) -> list[Segment]:
    candidates = "source_state = 'present' AND settled_us IS NOT NULL AND settled_us > ? AND settled_us <= ?"
    first, last = -(2**62) if after is None else to_us(after), to_us(moment)
    cut = db.execute(
        f"SELECT settled_us FROM segment WHERE {candidates} ORDER BY settled_us LIMIT 1 OFFSET ?",
        (first, last, limit - 1),
    ).fetchone()
    rows = db.execute(
        f"SELECT {SEGMENT_COLUMNS} FROM {SEGMENT_TABLES} WHERE s.{candidates} ORDER BY s.settled_us, s.no",
        (first, last if cut is None else cut[0]),
    ).fetchall()
    return segments_from(db, rows)


def _settled_later(db: sqlite3.Connection, moment_us: int, limit: int) -> list[int]:
    rows = db.execute(
        """SELECT no FROM segment
            WHERE source_state = 'present' AND settled_us IS NOT NULL AND settled_us > ? LIMIT ?""",
        (moment_us, limit),
    )
    return [row[0] for row in rows]


def _verified_by(db: sqlite3.Connection, numbers: Sequence[int], now_us: int, ahead_us: int) -> int:
    change = "UPDATE copy SET verified_us = ? WHERE segment_no = ? AND verified_us > ?"
    return sum(db.execute(change, (now_us, no, ahead_us)).rowcount for no in numbers)


def _begin(db: sqlite3.Connection, segment_id: UUID, required: Sequence[str]) -> bool:
    if not required:
        return False  # nothing that has to be verified is nothing proven
    required = sorted(set(required))
    listed = ", ".join("?" * len(required))
    try:
        changed = db.execute(
            f"""UPDATE segment SET source_state = 'pruning'
                 WHERE id = ? AND source_state = 'present' AND held = 0 AND sha256 IS NOT NULL
                   AND (SELECT iif(max(state = 'verified'), count(*), 0) FROM copy
                         WHERE segment_no = segment.no AND backend IN ({listed})
                           AND (state = 'verified' OR state = 'gone' AND verified_us IS NOT NULL)) = ?""",
            (segment_id.bytes, *required, len(required)),
        )
    except sqlite3.IntegrityError:  # a hold that has not been marked yet: its trigger says no
        return False
    return changed.rowcount == 1


def _keep(db: sqlite3.Connection, segment_id: UUID) -> None:
    kept = db.execute(
        """UPDATE segment SET source_state = 'present'
            WHERE id = ? AND source_state = 'pruning' AND deletion_due_us IS NULL""",
        (segment_id.bytes,),
    )
    if kept.rowcount:
        db.execute(
            """UPDATE copy SET state = 'pending', due_us = 0, attempts = 0
                WHERE segment_no = (SELECT no FROM segment WHERE id = ?) AND state = 'failed'""",
            (segment_id.bytes,),
        )


def _pruned(db: sqlite3.Connection, segment: Segment, now: datetime) -> Segment | None:
    changed = db.execute(
        "UPDATE segment SET source_state = 'pruned' WHERE id = ? AND source_state = 'pruning'",
        (segment.id.bytes,),
    )
    if not changed.rowcount:
        return None
    ledger.append(db, ledger.Kind.PRUNED, segment, "verified_everywhere", now)
    failed = db.execute(
        """SELECT segment_no FROM copy
            WHERE segment_no = (SELECT no FROM segment WHERE id = ?) AND state = 'failed' LIMIT 1""",
        (segment.id.bytes,),
    ).fetchone()
    return None if failed is None else ledger.tell_if_lost(db, failed[0], COPY_FAILED, now)
