"""Copies: what is still to be delivered where, in which order, and what came of it.

Claims are not here: they live in the memory of whoever delivers, so that after a restart every
undelivered copy is free.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from cctv_storaged.clock import from_us, to_us
from cctv_storaged.journal import ledger
from cctv_storaged.journal.rows import SEGMENT_COLUMNS, SEGMENT_PARTS, SEGMENT_TABLES, segments_from
from cctv_storaged.journal.store import Store
from cctv_storaged.model import CopyState, Segment, SegmentFlag, SourceState, TimeSpan

UNDELIVERED = "copy.state IN ('pending', 'stored')"
"""Word for word the condition of the partial index copy_undelivered, or SQLite will not use it."""


class Order(StrEnum):
    """Which end of the backlog to take from."""

    NEWEST = "DESC"
    OLDEST = "ASC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What one backend still has to get."""

    segments: int
    bytes: int
    failed: int
    oldest: datetime | None  # start of the oldest undelivered segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a backend was shown to hold."""

    path: str
    sha256: bytes
    etag: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Copies of one backend in one state."""

    backend: str
    state: CopyState
    segments: int
    bytes: int


class Copies:
    """The journal's copies of this host's segments."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def due(
        self, backend: str, order: Order, limit: int, now: datetime, *, urgent_only: bool = False
    ) -> list[Segment]:
        """Segments with an undelivered copy at the backend whose time has come, by start time."""
        urgent = "AND copy.urgent = 1" if urgent_only else ""
        query = f"""SELECT {SEGMENT_COLUMNS} FROM copy
             CROSS JOIN segment s ON s.no = copy.segment_no {SEGMENT_PARTS}
             WHERE copy.backend = ? AND {UNDELIVERED} AND copy.due_us <= ? {urgent}
             ORDER BY copy.start_us {order}, copy.segment_no {order} LIMIT ?"""
        parameters = (backend, to_us(now), limit)
        return await self._store.read(lambda db: segments_from(db, db.execute(query, parameters).fetchall()))

    async def next_due(self, backend: str) -> datetime | None:
        """When the earliest postponed copy comes due; None with nothing undelivered."""
        query = f"SELECT min(due_us) FROM copy WHERE backend = ? AND {UNDELIVERED}"
        due = await self._store.read(lambda db: db.execute(query, (backend,)).fetchone()[0])
        return None if due is None else from_us(due)

    async def stored(self, segment_id: UUID, backend: str, proof: Proof, now: datetime) -> None:
        """The bytes were put and are not proven yet."""
        await self._store.write(lambda db: _stored(db, segment_id, backend, proof, now))

    async def verified(self, segment_id: UUID, backend: str, proof: Proof, now: datetime) -> None:
        """The bytes were put and proven: one commit from pending to verified."""
        await self._store.write(lambda db: _verified(db, segment_id, backend, proof, now))

    async def postpone(
        self, segment_id: UUID, backend: str, error: str, due: datetime, *, counts: bool = True
    ) -> None:
        """Try again at `due`; `counts` where the failure was this object's own."""
        await self._store.write(lambda db: _postpone(db, segment_id, backend, error, due, counts))

    async def put_again(self, segment_id: UUID, backend: str, error: str, due: datetime) -> None:
        """What was stored is not what it should be, and the source is there: deliver it anew."""
        await self._store.write(lambda db: _put_again(db, segment_id, backend, error, due))

    async def redeliver(self, segment_id: UUID, backend: str, error: str) -> None:
        """A backend no longer holds what it had been shown to hold: deliver it anew, before others."""
        await self._store.write(lambda db: _redeliver(db, segment_id, backend, error))

    async def failed(self, segment_id: UUID, backend: str, error: str) -> None:
        """Only a human can help: never a reason to delete anything."""
        await self._store.write(lambda db: _failed(db, segment_id, backend, error))

    async def source_gone(
        self, segment_id: UUID, state: SourceState, cause: str, now: datetime
    ) -> Segment | None:
        """The file is gone, and not by us. Returns the segment if its footage is thereby lost.

        Undelivered copies fail; with no copy left anywhere the ledger gets a line.
        """
        return await self._store.write(lambda db: _source_gone(db, segment_id, state, cause, now))

    async def retry_failed(self, backend: str | None) -> int:
        """Failed copies whose source is there become pending again; how many."""
        return await self._store.write(lambda db: _retry_failed(db, backend))

    async def urge(self, camera_id: UUID, span: TimeSpan, backend: str | None) -> int:
        """Undelivered copies of a camera's footage go before all others; failed ones get another try."""
        return await self._store.write(lambda db: _urge(db, camera_id, span, backend))

    async def failures(self, limit: int) -> list[Segment]:
        """Segments with a failed copy, at most `limit`."""
        query = f"""SELECT {SEGMENT_COLUMNS} FROM {SEGMENT_TABLES}
             WHERE s.no IN (SELECT segment_no FROM copy WHERE state = 'failed' LIMIT ?) ORDER BY s.no"""
        return await self._store.read(lambda db: segments_from(db, db.execute(query, (limit,)).fetchall()))

    async def backlog(self, backend: str) -> Backlog:
        """How much is undelivered at a backend; cheap, from counters."""
        return await self._store.read(lambda db: _backlog(db, backend))

    async def tallies(self) -> list[Tally]:
        """All copies counted by backend and state."""
        return await self._store.read(_tallies)

    async def require(self, backends: Sequence[str]) -> int:
        """Settings name other backends than before: what those that left still owed is due at the new ones.

        Copies that were delivered stay as they are. Returns how many copies were added.
        """
        return await self._store.write(lambda db: _require(db, backends))


def _key(db: sqlite3.Connection, segment_id: UUID) -> int:
    row = db.execute("SELECT no FROM segment WHERE id = ?", (segment_id.bytes,)).fetchone()
    return -1 if row is None else int(row[0])  # a segment deleted meanwhile: updates then change nothing


def _stored(db: sqlite3.Connection, segment_id: UUID, backend: str, proof: Proof, now: datetime) -> None:
    no = _key(db, segment_id)
    _take_hash(db, no, proof.sha256)
    db.execute(
        """UPDATE copy SET state = 'stored', path = ?, etag = ?, stored_us = ?, error = NULL, due_us = 0
            WHERE segment_no = ? AND backend = ? AND state IN ('pending', 'stored')""",
        (proof.path, proof.etag, to_us(now), no, backend),
    )


def _verified(db: sqlite3.Connection, segment_id: UUID, backend: str, proof: Proof, now: datetime) -> None:
    no = _key(db, segment_id)
    _take_hash(db, no, proof.sha256)
    db.execute(
        """UPDATE copy SET state = 'verified', path = ?, etag = ?, stored_us = coalesce(stored_us, ?),
                           verified_us = ?, error = NULL, due_us = 0
            WHERE segment_no = ? AND backend = ? AND state IN ('pending', 'stored')""",
        (proof.path, proof.etag, to_us(now), to_us(now), no, backend),
    )
    db.execute(
        """UPDATE segment SET catalogued = 0, settled_us = CASE WHEN EXISTS (
                 SELECT 1 FROM copy WHERE segment_no = segment.no AND state <> 'verified')
                 THEN NULL ELSE ? END
            WHERE no = ?""",
        (to_us(now), no),
    )


def _take_hash(db: sqlite3.Connection, no: int, sha256: bytes) -> None:
    """The first delivery tells the journal the hash; a twin with the same start and bytes is flagged."""
    taken = db.execute("UPDATE segment SET sha256 = ? WHERE no = ? AND sha256 IS NULL", (sha256, no))
    if taken.rowcount != 1:
        return
    twin = db.execute(
        """SELECT 1 FROM segment mine JOIN segment other
               ON other.sha256 = mine.sha256 AND other.camera_no = mine.camera_no
              AND other.start_us = mine.start_us AND other.no <> mine.no
            WHERE mine.no = ?""",
        (no,),
    ).fetchone()
    if twin is not None:
        flags = db.execute("SELECT flags FROM segment WHERE no = ?", (no,)).fetchone()[0].split()
        text = " ".join(sorted({*flags, SegmentFlag.DUPLICATE}))
        db.execute("UPDATE segment SET flags = ? WHERE no = ?", (text, no))


def _postpone(
    db: sqlite3.Connection, segment_id: UUID, backend: str, error: str, due: datetime, counts: bool
) -> None:
    db.execute(
        f"""UPDATE copy SET error = ?, due_us = ?, attempts = attempts + ?
             WHERE segment_no = ? AND backend = ? AND {UNDELIVERED}""",
        (error, to_us(due), int(counts), _key(db, segment_id), backend),
    )


def _put_again(db: sqlite3.Connection, segment_id: UUID, backend: str, error: str, due: datetime) -> None:
    db.execute(
        """UPDATE copy SET state = 'pending', error = ?, due_us = ?, attempts = attempts + 1
            WHERE segment_no = ? AND backend = ? AND state IN ('pending', 'stored')""",
        (error, to_us(due), _key(db, segment_id), backend),
    )


def _redeliver(db: sqlite3.Connection, segment_id: UUID, backend: str, error: str) -> None:
    no = _key(db, segment_id)
    db.execute(
        """UPDATE copy SET state = 'pending', urgent = 1, error = ?, due_us = 0, stored_us = NULL,
                           verified_us = NULL, etag = NULL
            WHERE segment_no = ? AND backend = ? AND state IN ('stored', 'verified')""",
        (error, no, backend),
    )
    db.execute("UPDATE segment SET settled_us = NULL, catalogued = 0 WHERE no = ?", (no,))


def _failed(db: sqlite3.Connection, segment_id: UUID, backend: str, error: str) -> None:
    no = _key(db, segment_id)
    db.execute(
        f"UPDATE copy SET state = 'failed', error = ? WHERE segment_no = ? AND backend = ? AND {UNDELIVERED}",
        (error, no, backend),
    )
    db.execute("UPDATE segment SET catalogued = 0 WHERE no = ?", (no,))


def _source_gone(
    db: sqlite3.Connection, segment_id: UUID, state: SourceState, cause: str, now: datetime
) -> Segment | None:
    rows = db.execute(
        f"SELECT {SEGMENT_COLUMNS} FROM {SEGMENT_TABLES} WHERE s.id = ?", (segment_id.bytes,)
    ).fetchall()
    if not rows:
        return None
    segment = segments_from(db, rows)[0]
    if segment.source_state is not SourceState.PRESENT:
        return None
    no = rows[0][0]
    db.execute("UPDATE segment SET source_state = ?, catalogued = 0 WHERE no = ?", (state, no))
    db.execute(
        "UPDATE copy SET state = 'failed', error = ? WHERE segment_no = ? AND state = 'pending'", (cause, no)
    )
    if any(copy.state in (CopyState.STORED, CopyState.VERIFIED) for copy in segment.copies):
        return None
    ledger.append(db, ledger.Kind.LOST, segment, cause, now)
    return segment


def _retry_failed(db: sqlite3.Connection, backend: str | None) -> int:
    return db.execute(
        """UPDATE copy SET state = 'pending', due_us = 0, attempts = 0
            WHERE state = 'failed' AND (?1 IS NULL OR backend = ?1)
              AND segment_no IN (SELECT no FROM segment WHERE source_state = 'present')""",
        (backend,),
    ).rowcount


def _urge(db: sqlite3.Connection, camera_id: UUID, span: TimeSpan, backend: str | None) -> int:
    camera = db.execute("SELECT no, longest_us FROM camera WHERE id = ?", (camera_id.bytes,)).fetchone()
    if camera is None:
        return 0
    return db.execute(
        """UPDATE copy SET urgent = 1, due_us = 0, state = iif(state = 'stored', 'stored', 'pending')
            WHERE state IN ('pending', 'stored', 'failed') AND (?1 IS NULL OR backend = ?1)
              AND segment_no IN (SELECT no FROM segment WHERE camera_no = ?2 AND source_state = 'present'
                                    AND start_us > ?3 AND start_us < ?4 AND end_us > ?5)""",
        (backend, camera[0], to_us(span.start) - camera[1], to_us(span.end), to_us(span.start)),
    ).rowcount


def _backlog(db: sqlite3.Connection, backend: str) -> Backlog:
    counted = {
        state: (segments, size)
        for state, segments, size in db.execute(
            "SELECT state, segments, bytes FROM tally WHERE backend = ?", (backend,)
        )
    }
    pending, stored = counted.get("pending", (0, 0)), counted.get("stored", (0, 0))
    oldest = db.execute(
        f"SELECT min(start_us) FROM copy WHERE backend = ? AND {UNDELIVERED}", (backend,)
    ).fetchone()
    return Backlog(
        segments=pending[0] + stored[0],
        bytes=pending[1] + stored[1],
        failed=counted.get("failed", (0, 0))[0],
        oldest=None if oldest[0] is None else from_us(oldest[0]),
    )


def _tallies(db: sqlite3.Connection) -> list[Tally]:
    return [
        Tally(backend=backend, state=CopyState(state), segments=segments, bytes=size)
        for backend, state, segments, size in db.execute("SELECT backend, state, segments, bytes FROM tally")
    ]


def _require(db: sqlite3.Connection, backends: Sequence[str]) -> int:
    marks = ", ".join("?" * len(backends))
    added = 0
    for backend in backends:
        added += db.execute(
            f"""INSERT OR IGNORE INTO copy (segment_no, backend, start_us, size_bytes)
                SELECT no, ?, start_us, size_bytes FROM segment
                 WHERE source_state = 'present' AND no IN (
                     SELECT segment_no FROM copy WHERE {UNDELIVERED} AND backend NOT IN ({marks}))""",
            (backend, *backends),
        ).rowcount
    db.execute(
        f"""UPDATE copy SET state = 'gone', error = 'the settings no longer name this backend'
             WHERE state = 'pending' AND backend NOT IN ({marks})""",
        tuple(backends),
    )
    return added
