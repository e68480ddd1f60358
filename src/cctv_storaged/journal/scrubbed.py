"""What the scrub asks the journal: copies to be read back in their order, how far it is, what it mended."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from cctv_storaged.clock import from_us, to_us
from cctv_storaged.journal import ledger
from cctv_storaged.journal.copies import DAMAGED, Proof
from cctv_storaged.journal.rows import SEGMENT_COLUMNS, SEGMENT_PARTS, segment_by_no, segments_from, text
from cctv_storaged.journal.store import Store
from cctv_storaged.model import Segment

WINDOW = 1000
"""Rows looked at in one call, whether they are to be read back or not."""
MOST_DAMAGED = 1000
"""Counted up to there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubPage:
    """Segments with a verified copy at the backend, and how far was looked."""

    segments: tuple[tuple[int, Segment], ...]  # with their row numbers, in their order
    looked_to: int
    at_end: bool


class Scrubbed:
    """The journal's copies as they are read back, one backend at a time, by segment number."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def page(self, backend: str, after: int, limit: int) -> ScrubPage:
        """The next verified copies behind a segment number, of the next `WINDOW` segments."""
        return await self._store.read(lambda db: _page(db, backend, after, limit))

    async def last(self) -> int:
        """The highest segment number there is."""
        query = "SELECT coalesce(max(no), 0) FROM segment"
        return await self._store.read(lambda db: int(db.execute(query).fetchone()[0]))

    async def verified_at(self, backend: str, after: int) -> datetime | None:
        """When the next copy behind a segment number was proven, as far as its row tells."""
        query = """SELECT verified_us FROM copy WHERE segment_no > ? AND backend = ? AND state = 'verified'
                    ORDER BY segment_no LIMIT 1"""
        row = await self._store.read(lambda db: db.execute(query, (after, backend)).fetchone())
        return None if row is None or row[0] is None else from_us(row[0])

    async def damaged(self, backend: str) -> int:
        """Copies that failed although their bytes were put: wrong or gone, and there were none to put again.

        At most MOST_DAMAGED.
        """
        query = f"SELECT 1 FROM copy WHERE backend = ? AND {DAMAGED} ORDER BY segment_no LIMIT ?"
        return await self._store.read(lambda db: len(db.execute(query, (backend, MOST_DAMAGED)).fetchall()))

    async def state(self, backend: str) -> str | None:
        """What was noted of a backend."""
        query = "SELECT value FROM meta WHERE key = ?"
        row = await self._store.read(lambda db: db.execute(query, (_key(backend),)).fetchone())
        return None if row is None else str(row[0])

    async def note(self, backend: str, state: str) -> None:
        await self._store.write(
            lambda db: db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_key(backend), state))
        )

    async def repaired(
        self, segment_id: UUID, backend: str, before: str, proof: Proof, now: datetime, detail: str
    ) -> bool:
        """The copy that was at `before` is proven at `proof.path`, with a line in the ledger.

        False where the journal does not say any more that it is there: deleted, or put anew meanwhile.
        """
        return await self._store.write(
            lambda db: _repaired(db, segment_id, backend, before, proof, now, detail)
        )


def _key(backend: str) -> str:
    return f"scrub:{backend}"


def _page(db: sqlite3.Connection, backend: str, after: int, limit: int) -> ScrubPage:
    looked_to, seen = db.execute(
        "SELECT max(no), count(*) FROM (SELECT no FROM segment WHERE no > ? ORDER BY no LIMIT ?)",
        (after, WINDOW),
    ).fetchone()
    if not seen:
        return ScrubPage(segments=(), looked_to=after, at_end=True)
    rows = db.execute(
        f"""SELECT {SEGMENT_COLUMNS} FROM copy
             CROSS JOIN segment s ON s.no = copy.segment_no {SEGMENT_PARTS}
             WHERE copy.segment_no > ? AND copy.segment_no <= ? AND copy.backend = ?
               AND copy.state = 'verified' AND s.sha256 IS NOT NULL AND s.deletion_due_us IS NULL
             ORDER BY copy.segment_no LIMIT ?""",
        (after, looked_to, backend, limit),
    ).fetchall()
    segments = tuple(zip((row[0] for row in rows), segments_from(db, rows), strict=True))
    cut = len(rows) == limit
    return ScrubPage(
        segments=segments,
        looked_to=rows[-1][0] if cut else looked_to,
        at_end=not cut and seen < WINDOW,
    )


def _repaired(
    db: sqlite3.Connection,
    segment_id: UUID,
    backend: str,
    before: str,
    proof: Proof,
    now: datetime,
    detail: str,
) -> bool:
    row = db.execute(
        "SELECT no FROM segment WHERE id = ? AND sha256 = ? AND deletion_due_us IS NULL",
        (segment_id.bytes, proof.sha256),
    ).fetchone()
    if row is None:
        return False
    now_us, etag = to_us(now), None if proof.etag is None else text(proof.etag)
    changed = db.execute(
        """UPDATE copy SET state = 'verified', path = ?1, etag = ?2, stored_us = ?3, verified_us = ?3,
                           error = NULL, due_us = 0, urgent = 0, attempts = 0
            WHERE segment_no = ?4 AND backend = ?5 AND path = ?6 AND state IN ('stored', 'verified')""",
        (proof.path, etag, now_us, row[0], backend, before),
    )
    if not changed.rowcount:
        return False
    ledger.append(db, ledger.Kind.REPAIRED, segment_by_no(db, row[0]), backend, now, detail)
    return True
