"""Deleting a whole segment in two phases: tombstone → bytes everywhere → row.

The tombstone is the state `deleting` on every copy and `pruning` on the source. A start-up that finds one
goes on from there: whoever asked for the deletion was told it would happen.
"""

import sqlite3
from datetime import datetime
from uuid import UUID

from cctv_storaged.clock import to_us
from cctv_storaged.errors import Conflict, NotFound
from cctv_storaged.journal import ledger
from cctv_storaged.journal.rows import SEGMENT_COLUMNS, SEGMENT_TABLES, segments_from
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
        """Segments with a tombstone whose next try is due."""
        query = f"""SELECT {SEGMENT_COLUMNS} FROM {SEGMENT_TABLES} WHERE s.no IN (
             SELECT segment_no FROM copy WHERE state = 'deleting' AND due_us <= ? LIMIT ?)"""
        parameters = (to_us(now), limit)
        return await self._store.read(lambda db: segments_from(db, db.execute(query, parameters).fetchall()))

    async def shared(self, segment_id: UUID, backend: str, path: str) -> bool:
        """Whether another segment's copy is the very same object: identical bytes have an identical key."""
        query = """SELECT 1 FROM copy WHERE backend = ? AND path = ? AND state IN ('stored', 'verified')
                    AND segment_no <> (SELECT no FROM segment WHERE id = ?) LIMIT 1"""
        parameters = (backend, path, segment_id.bytes)
        return await self._store.read(lambda db: db.execute(query, parameters).fetchone() is not None)

    async def postpone(self, segment_id: UUID, error: str, due: datetime) -> None:
        """A backend did not delete: try again at `due`."""
        await self._store.write(
            lambda db: db.execute(
                """UPDATE copy SET due_us = ?, error = ? WHERE state = 'deleting'
                    AND segment_no = (SELECT no FROM segment WHERE id = ?)""",
                (to_us(due), error, segment_id.bytes),
            )
        )

    async def done(self, segment: Segment, cause: str, now: datetime) -> None:
        """No bytes are left: the row goes, the ledger and the catalog are told."""
        await self._store.write(lambda db: _done(db, segment, cause, now))


def _begin(db: sqlite3.Connection, segment_id: UUID) -> Segment:
    rows = db.execute(
        f"SELECT {SEGMENT_COLUMNS} FROM {SEGMENT_TABLES} WHERE s.id = ?", (segment_id.bytes,)
    ).fetchall()
    if not rows:
        raise NotFound(f"no segment {segment_id} on this host")
    segment = segments_from(db, rows)[0]
    if segment.held:
        raise Conflict(f"segment {segment_id} is held; release the hold first")
    no = rows[0][0]
    db.execute("UPDATE copy SET state = 'deleting', due_us = 0, error = NULL WHERE segment_no = ?", (no,))
    db.execute("UPDATE segment SET source_state = 'pruning' WHERE no = ? AND source_state = 'present'", (no,))
    return segment


def _done(db: sqlite3.Connection, segment: Segment, cause: str, now: datetime) -> None:
    removed = db.execute("DELETE FROM segment WHERE id = ?", (segment.id.bytes,))
    if removed.rowcount:
        ledger.append(db, ledger.Kind.DELETED, segment, cause, now)
        db.execute("INSERT OR IGNORE INTO uncatalogue VALUES (?)", (segment.id.bytes,))
