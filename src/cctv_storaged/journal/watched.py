"""When each recorder root was looked at whole: a camera without footage was silent then, and not overlooked.

A row is a time without a break: it grows with every whole look, and a new one begins after whatever kept us
from looking. A kill leaves the row as it was last written.
"""

import os
import sqlite3
from datetime import datetime

from cctv_storaged.clock import from_us, to_us
from cctv_storaged.journal.store import Store
from cctv_storaged.model import TimeSpan

ROWS = 5000
"""Rows looked at in one go."""
PRUNED = 500
"""Rows forgotten in one commit."""


class Watched:
    """Those times."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def extend(self, root: str, span: TimeSpan) -> None:
        """The time that begins where the span does lasts until its end at least."""
        await self._store.write(lambda db: _extend(db, root, span))

    async def spans(self, root: str, span: TimeSpan, after: datetime | None = None) -> list[TimeSpan]:
        """Times that overlap the span by their start, at most ROWS of those that begin later than `after`."""
        return await self._store.read(lambda db: _spans(db, root, span, after))

    async def forget(self, before: datetime, shortest_us: int, short_before: datetime) -> int:
        """Rows of another age, and short ones of some: at most PRUNED of each root; how many went.

        What is forgotten makes a gap's cause unknown, and never another one.
        """
        return await self._store.write(lambda db: _forget(db, before, shortest_us, short_before))


def _extend(db: sqlite3.Connection, root: str, span: TimeSpan) -> None:
    db.execute(
        """INSERT INTO watched (root, start_us, end_us) VALUES (?, ?, ?)
           ON CONFLICT DO UPDATE SET end_us = max(end_us, excluded.end_us)""",
        (os.fsencode(root), to_us(span.start), to_us(span.end)),
    )


def _spans(db: sqlite3.Connection, root: str, span: TimeSpan, after: datetime | None) -> list[TimeSpan]:
    """From the last that begins before the span on: they overlap only where the clock went back."""
    rows = db.execute(
        """SELECT start_us, end_us FROM watched
            WHERE root = ?1 AND start_us < ?3 AND start_us >= coalesce(
                  ?4, (SELECT max(start_us) FROM watched WHERE root = ?1 AND start_us <= ?2), 0)
            ORDER BY start_us LIMIT ?5""",
        (
            os.fsencode(root),
            to_us(span.start),
            to_us(span.end),
            None if after is None else to_us(after) + 1,
            ROWS,
        ),
    )
    return [TimeSpan(from_us(start), from_us(end)) for start, end in rows if end > start]


def _forget(db: sqlite3.Connection, before: datetime, shortest_us: int, short_before: datetime) -> int:
    done = db.execute(
        """DELETE FROM watched WHERE (root, start_us) IN (
               SELECT root, start_us FROM watched
                WHERE end_us < ?1 OR (end_us < ?3 AND end_us - start_us < ?2) LIMIT ?4)""",
        (to_us(before), shortest_us, to_us(short_before), PRUNED),
    )
    return done.rowcount
