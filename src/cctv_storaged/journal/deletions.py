"""Deleting a whole segment in two phases: tombstone → bytes everywhere → row.

The tombstone is `deletion_due_us`, with the state `deleting` on every copy and `pruning` on the source, so
that nobody else touches them. A start-up that finds one goes on from there: whoever asked for the deletion
was told it would happen.
"""

import sqlite3
from datetime import datetime
from uuid import UUID

from cctv_storaged.clock import to_us
from cctv_storaged.errors import Conflict, NotFound
from cctv_storaged.journal import ledger
from cctv_storaged.journal.copies import waiting_us
from cctv_storaged.journal.rows import SEGMENT_COLUMNS, SEGMENT_TABLES, one_segment, segments_from, text
from cctv_storaged.journal.segments import forget
from cctv_storaged.journal.store import Store
from cctv_storaged.model import Segment


class Deletions:
    """Segments on their way out."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def begin(self, segment_id: UUID) -> Segment:
        """Writes the tombstone and returns the segment. Raises NotFound, or Conflict while it is held."""
        return await self._store.write(lambda db: _begin(db, segment_id))

    async def unfinished(self, limit: int, now: datetime) -> list[Segment]:
        """Segments with a tombstone whose next try is due, longest due first; see `Copies.due` as well."""
        query = f"""SELECT {SEGMENT_COLUMNS} FROM {SEGMENT_TABLES}
             WHERE s.deletion_due_us IS NOT NULL AND s.deletion_due_us NOT BETWEEN ? AND ?
             ORDER BY s.deletion_due_us LIMIT ?"""
        parameters = (*waiting_us(now), limit)
        return await self._store.read(lambda db: segments_from(db, db.execute(query, parameters).fetchall()))

    async def shared(self, segment_id: UUID, backend: str, path: str) -> bool:
        """Whether another segment's copy is the very same object: identical bytes have an identical key."""
        query = """SELECT 1 FROM copy WHERE backend = ? AND path = ? AND state IN ('stored', 'verified')
                    AND segment_no <> (SELECT no FROM segment WHERE id = ?) LIMIT 1"""
        parameters = (backend, path, segment_id.bytes)
        return await self._store.read(lambda db: db.execute(query, parameters).fetchone() is not None)

    async def postpone(self, segment_id: UUID, error: str, due: datetime) -> None:
        """A backend did not delete: try again at `due`."""
        await self._store.write(lambda db: _postpone(db, segment_id, error, due))

    async def done(self, segment: Segment, cause: str, now: datetime) -> None:
        """No bytes are left: the row goes, ledger and catalog are told. Without a tombstone: nothing."""
        await self._store.write(lambda db: _done(db, segment, cause, now))


def _begin(db: sqlite3.Connection, segment_id: UUID) -> Segment:
    found = one_segment(db, "s.id = ?", segment_id.bytes)
    if found is None:
        raise NotFound(f"no segment {segment_id} on this host")
    no, segment = found
    if segment.held:
        raise Conflict(f"segment {segment_id} is held; release the hold first")
    db.execute("UPDATE copy SET state = 'deleting', error = NULL WHERE segment_no = ?", (no,))
    db.execute(
        """UPDATE segment SET deletion_due_us = 0,
                              source_state = iif(source_state = 'present', 'pruning', source_state)
            WHERE no = ?""",
        (no,),
    )
    return segment


def _postpone(db: sqlite3.Connection, segment_id: UUID, error: str, due: datetime) -> None:
    row = db.execute(
        "SELECT no FROM segment WHERE id = ? AND deletion_due_us IS NOT NULL", (segment_id.bytes,)
    ).fetchone()
    if row is not None:
        db.execute("UPDATE segment SET deletion_due_us = ? WHERE no = ?", (to_us(due), row[0]))
        db.execute("UPDATE copy SET error = ? WHERE segment_no = ?", (text(error), row[0]))


def _done(db: sqlite3.Connection, segment: Segment, cause: str, now: datetime) -> None:
    found = one_segment(db, "s.id = ? AND s.deletion_due_us IS NOT NULL", segment.id.bytes)
    if found is not None:
        ledger.append(db, ledger.Kind.DELETED, segment, cause, now)
        forget(db, found[0], segment.id)
