"""Copies: what is still to be delivered where, in which order, and what came of it.

Claims are not here: they live in the memory of whoever delivers, so that after a restart every
undelivered copy is free.
"""

import json
import os
import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from uuid import UUID

from cctv_storaged.clock import SystemClock, from_us, to_us
from cctv_storaged.errors import ObjectMismatch
from cctv_storaged.journal import ledger
from cctv_storaged.journal.rows import (
    SEGMENT_COLUMNS,
    SEGMENT_PARTS,
    one_segment,
    segment_by_no,
    segments_from,
    signed,
    text,
)
from cctv_storaged.journal.store import Store
from cctv_storaged.model import CopyState, Segment, SegmentFlag, SourceState, TimeSpan

UNDELIVERED = "copy.state IN ('pending', 'stored')"
"""Word for word the condition of the partial index copy_undelivered, or SQLite will not use it."""

DAMAGED = "state = 'failed' AND path IS NOT NULL"
"""Word for word the condition of the partial index copy_damaged."""

LONGEST_WAIT = timedelta(minutes=10)
"""Nobody postpones by as much. What is due later than that was put off by a clock that was set back since."""

OVERWRITTEN = "overwritten_by_recorder"
COPY_FAILED = "copy_failed_without_source"
"""Causes of a loss that shows with a copy's failure."""

RETRIED_AT_ONCE = 200
"""Copies that are tried again, in one commit."""

SLICE = 20_000
"""Rows changed in one commit by what may concern all of them: others wait that long for the journal."""


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
    gaps: int  # that the backend does not hold though it should
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """Failed copies that are tried again."""

    retried: int  # with a source to put them from, or bytes that were stored and not shown to be gone
    asked_again: int = 0  # with neither: the backend is asked, for a backup may have brought them back


class Copies:
    """The journal's copies of this host's segments."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def due(
        self, backend: str, order: Order, limit: int, now: datetime, *, urgent_only: bool = False
    ) -> list[Segment]:
        """Segments with an undelivered copy at the backend whose time has come, by start time.

        A clock that ran ahead and was set back would keep its copies waiting until it is there again: what is
        due beyond LONGEST_WAIT is due now.
        """
        urgent = "AND copy.urgent = 1" if urgent_only else ""
        query = f"""SELECT {SEGMENT_COLUMNS} FROM copy
             CROSS JOIN segment s ON s.no = copy.segment_no {SEGMENT_PARTS}
             WHERE copy.backend = ? AND {UNDELIVERED} AND copy.due_us NOT BETWEEN ? AND ? {urgent}
             ORDER BY copy.start_us {order}, copy.segment_no {order} LIMIT ?"""
        parameters = (backend, *waiting_us(now), limit)
        return await self._store.read(lambda db: segments_from(db, db.execute(query, parameters).fetchall()))

    async def next_due(self, backend: str) -> datetime | None:
        """When the earliest postponed copy comes due; None with nothing undelivered."""
        query = f"SELECT min(due_us) FROM copy WHERE backend = ? AND {UNDELIVERED}"
        due = await self._store.read(lambda db: db.execute(query, (backend,)).fetchone()[0])
        return None if due is None else from_us(due)

    async def came_due(self, backend: str, now: datetime) -> bool:
        """Whether any was put off whose time has come; a look into the index, however many were."""
        return await self._store.read(lambda db: _came_due(db, backend, now))

    async def stored(self, segment_id: UUID, backend: str, proof: Proof, now: datetime) -> bool:
        """The bytes were put and are not proven yet. False where the journal wants no such copy (any more).

        Raises ObjectMismatch where the journal knows another SHA-256 for the segment.
        """
        return await self._store.write(lambda db: _stored(db, segment_id, backend, proof, now))

    async def verified(self, segment_id: UUID, backend: str, proof: Proof, now: datetime) -> bool:
        """The bytes were put and proven: one commit from pending to verified.

        False where the journal wants no such copy (any more): the segment is deleted or on its way out.
        Raises ObjectMismatch where the journal knows another SHA-256 for the segment.
        """
        return await self._store.write(lambda db: _verified(db, segment_id, backend, proof, now))

    async def postpone(
        self, segment_id: UUID, backend: str, error: str, due: datetime, *, counts: bool = True
    ) -> None:
        """Try again at `due`; `counts` where the failure was this object's own."""
        await self._store.write(lambda db: _postpone(db, segment_id, backend, error, due, counts))

    async def postpone_disk(self, backend: str, root: str, device: int, error: str, due: datetime) -> int:
        """Nothing pending whose source lies on this disk below this root is tried before `due`.

        Returns how many were put off now, at most SLICE: call again until it is 0.
        """
        return await self._store.write(lambda db: _postpone_disk(db, backend, root, device, error, due))

    async def put_again(
        self, segment_id: UUID, backend: str, error: str, due: datetime, *, counts: bool = True
    ) -> Segment | None:
        """What was stored is not what it should be: deliver it anew.

        Without a source that cannot be: then it is as `failed`, and returns what that returns. It counts
        against the copy's attempts only if the fault may be its own.
        """
        return await self._store.write(
            lambda db: _put_again(db, segment_id, backend, error, due, counts=counts)
        )

    async def redeliver(self, segment_id: UUID, backend: str, error: str) -> Segment | None:
        """A backend no longer holds what it had been shown to hold: deliver it anew, before others.

        Without a source that cannot be: then it is as `failed`, and returns what that returns.
        """
        return await self._store.write(lambda db: _redeliver(db, segment_id, backend, error))

    async def doubt(self, segment_id: UUID, backend: str, error: str) -> None:
        """A reader did not get what was verified: prove it anew, before others."""
        await self._store.write(lambda db: _doubt(db, segment_id, backend, error))

    async def failed(self, segment_id: UUID, backend: str, error: str) -> Segment | None:
        """Only a human can help: never a reason to delete anything.

        Returns the segment if its footage is thereby lost: no source, no copy left. The ledger has it then.
        """
        return await self._store.write(lambda db: _failed(db, _key(db, segment_id), backend, error))

    async def source_gone(
        self, segment_id: UUID, state: SourceState, cause: str, now: datetime
    ) -> Segment | None:
        """The file is gone, and not by us. Returns the segment if its footage is thereby lost.

        Undelivered copies fail; with no copy left anywhere the ledger gets a line. Where the file was
        rewritten (REPLACED) its copies may have been written to as well: they are to be proven anew.
        """
        return await self._store.write(lambda db: _source_gone(db, segment_id, state, cause, now))

    async def retry_failed(self, backend: str | None) -> Retried:
        """Failed copies are put again where the source is there, else proven where they were stored.

        Gaps as well. In slices, for there may be many.
        """
        retried = asked_again = 0
        for state in (CopyState.FAILED, CopyState.GAP):
            more = True
            while more:
                some, more = await self._store.write(partial(_retry_some, state=state, backend=backend))
                retried, asked_again = retried + some.retried, asked_again + some.asked_again
        return Retried(retried=retried, asked_again=asked_again)

    async def urge(self, camera_id: UUID, span: TimeSpan, backend: str | None) -> int:
        """Undelivered copies of a camera's footage go before all others; failed ones and gaps as well."""
        return await self._store.write(lambda db: _urge(db, camera_id, span, backend))

    async def failures(self, limit: int) -> list[Segment]:
        """Segments with a failed copy, at most `limit`, the damaged ones (their bytes were put) first."""
        return await self._store.read(lambda db: _failures(db, limit))

    async def backlog(self, backend: str) -> Backlog:
        """How much is undelivered at a backend; cheap, from counters."""
        return await self._store.read(lambda db: _backlog(db, backend))

    async def tallies(self) -> list[Tally]:
        """All copies counted by backend and state."""
        return await self._store.read(_tallies)


def failure_cause(source: SourceState) -> str:
    """Why footage is lost with its last copy: the recorder wrote over its source, and perhaps through a hard
    link over the copy; or nobody knows."""
    return OVERWRITTEN if source is SourceState.REPLACED else COPY_FAILED


def waiting_us(now: datetime) -> tuple[int, int]:
    """First and last due time, in microseconds, of what has to wait at this moment."""
    return to_us(now) + 1, to_us(now + LONGEST_WAIT)


def _came_due(db: sqlite3.Connection, backend: str, now: datetime) -> bool:
    first_us, last_us = waiting_us(now)
    put_off = f"SELECT 1 FROM copy WHERE backend = ?1 AND due_us <> 0 AND {UNDELIVERED} AND due_us"
    row = db.execute(
        f"SELECT EXISTS ({put_off} < ?2) OR EXISTS ({put_off} > ?3)", (backend, first_us, last_us)
    ).fetchone()
    return bool(row[0])


def _key(db: sqlite3.Connection, segment_id: UUID) -> int:
    row = db.execute("SELECT no FROM segment WHERE id = ?", (segment_id.bytes,)).fetchone()
    return -1 if row is None else int(row[0])  # a segment deleted meanwhile: updates then change nothing


@dataclass(frozen=True, slots=True)
class _Known:
    """What a delivery has to be held against: each statement costs other threads their turn."""

    no: int
    id: bytes
    sha256: bytes | None
    state: CopyState


def _known(db: sqlite3.Connection, segment_id: UUID, backend: str) -> _Known | None:
    """None where the journal wants no such copy."""
    row = db.execute(
        """SELECT s.no, s.id, s.sha256, copy.state FROM segment s
             JOIN copy ON copy.segment_no = s.no AND copy.backend = ? WHERE s.id = ?""",
        (backend, segment_id.bytes),
    ).fetchone()
    return None if row is None else _Known(row[0], row[1], row[2], CopyState(row[3]))


def _stored(db: sqlite3.Connection, segment_id: UUID, backend: str, proof: Proof, now: datetime) -> bool:
    known = _known(db, segment_id, backend)
    if known is not None and known.state is CopyState.VERIFIED:
        return True
    return _put(
        db,
        known,
        backend,
        proof,
        now,
        """UPDATE copy SET state = 'stored', path = ?1, etag = ?2, stored_us = ?3, error = NULL, due_us = 0
            WHERE segment_no = ?4 AND backend = ?5""",
    )


def _verified(db: sqlite3.Connection, segment_id: UUID, backend: str, proof: Proof, now: datetime) -> bool:
    known = _known(db, segment_id, backend)
    if known is not None and known.state is CopyState.VERIFIED:
        _take_hash(db, known, proof.sha256)
        return True
    proven = _put(
        db,
        known,
        backend,
        proof,
        now,
        """UPDATE copy SET state = 'verified', path = ?1, etag = ?2, stored_us = coalesce(stored_us, ?3),
                           verified_us = ?3, error = NULL, due_us = 0, urgent = 0
            WHERE segment_no = ?4 AND backend = ?5""",
    )
    if proven and known is not None:
        _tell_verified(db, known.no, backend, proof, now)
    return proven


def _tell_verified(db: sqlite3.Connection, no: int, backend: str, proof: Proof, now: datetime) -> None:
    """Read by itself: a whole segment with its copies would cost more than the rest of the commit."""
    id_, camera, start, end = db.execute(
        """SELECT s.id, c.id, s.start_us, s.end_us FROM segment s JOIN camera c ON c.no = s.camera_no
            WHERE s.no = ?""",
        (no,),
    ).fetchone()
    span = TimeSpan(from_us(start), from_us(end))
    detail = f"sha256 {proof.sha256.hex()} at {proof.path}"
    ledger.add(db, ledger.Kind.VERIFIED, UUID(bytes=id_), UUID(bytes=camera), span, backend, now, detail)


def _put(
    db: sqlite3.Connection, known: _Known | None, backend: str, proof: Proof, now: datetime, update: str
) -> bool:
    """Takes a delivery to the books, also one that had been given up: what is there is there."""
    if known is None or known.state not in (CopyState.PENDING, CopyState.STORED, CopyState.FAILED):
        return False
    _take_hash(db, known, proof.sha256)
    etag = None if proof.etag is None else text(proof.etag)
    db.execute(update, (proof.path, etag, to_us(now), known.no, backend))
    if known.state is not CopyState.PENDING:
        ledger.tell_if_found(db, segment_by_no(db, known.no), now)
    return True


def _take_hash(db: sqlite3.Connection, known: _Known, sha256: bytes) -> None:
    """The first delivery tells the journal the hash, and every later one has to agree with it."""
    if known.sha256 is None:
        db.execute("UPDATE segment SET sha256 = ? WHERE no = ?", (sha256, known.no))
        flag_if_twin(db, known.no)
    elif known.sha256 != sha256:
        raise ObjectMismatch(
            f"segment {UUID(bytes=known.id)} was delivered with SHA-256 {known.sha256.hex()} before, "
            f"and now with {sha256.hex()}: its source has changed, or cannot be read reliably"
        )


def flag_if_twin(db: sqlite3.Connection, no: int) -> None:
    """Another segment of the same camera with the same start and bytes: flagged, never merged."""
    twin = db.execute(
        """SELECT mine.flags FROM segment mine JOIN segment other
               ON other.sha256 = mine.sha256 AND other.camera_no = mine.camera_no
              AND other.start_us = mine.start_us AND other.no <> mine.no
            WHERE mine.no = ? LIMIT 1""",
        (no,),
    ).fetchone()
    if twin is not None:
        flags = " ".join(sorted({*twin[0].split(), SegmentFlag.DUPLICATE}))
        db.execute("UPDATE segment SET flags = ?, catalogued = 0 WHERE no = ?", (flags, no))


def _postpone(
    db: sqlite3.Connection, segment_id: UUID, backend: str, error: str, due: datetime, counts: bool
) -> None:
    db.execute(
        f"""UPDATE copy SET error = ?, due_us = ?, attempts = attempts + ?
             WHERE segment_no = ? AND backend = ? AND {UNDELIVERED}""",
        (text(error), to_us(due), int(counts), _key(db, segment_id), backend),
    )


def _postpone_disk(
    db: sqlite3.Connection, backend: str, root: str, device: int, error: str, due: datetime
) -> int:
    due_us = to_us(due)
    return db.execute(
        f"""UPDATE copy SET error = ?1, due_us = ?2 WHERE backend = ?3 AND segment_no IN (
             SELECT copy.segment_no FROM copy
               JOIN segment s ON s.no = copy.segment_no JOIN folder f ON f.no = s.folder_no
              WHERE copy.backend = ?3 AND {UNDELIVERED} AND copy.state = 'pending'
                AND copy.due_us NOT BETWEEN ?2 AND ?7
                AND f.root = ?4 AND s.device = ?5 LIMIT ?6)""",
        (text(error), due_us, backend, os.fsencode(root), signed(device), SLICE, to_us(due + LONGEST_WAIT)),
    ).rowcount


def _put_again(
    db: sqlite3.Connection, segment_id: UUID, backend: str, error: str, due: datetime, *, counts: bool
) -> Segment | None:
    no = _key(db, segment_id)
    if not _has_source(db, no):
        return _not_held(db, no, backend, error)
    db.execute(
        f"""UPDATE copy SET state = 'pending', error = ?, due_us = ?, attempts = attempts + ?
             WHERE segment_no = ? AND backend = ? AND {UNDELIVERED}""",
        (text(error), to_us(due), int(counts), no, backend),
    )
    return None


def _redeliver(db: sqlite3.Connection, segment_id: UUID, backend: str, error: str) -> Segment | None:
    no = _key(db, segment_id)
    db.execute(
        """UPDATE copy SET state = 'pending', urgent = 1, error = ?, due_us = 0, stored_us = NULL,
                           verified_us = NULL, etag = NULL, attempts = 0
            WHERE segment_no = ? AND backend = ? AND state IN ('stored', 'verified')""",
        (text(error), no, backend),
    )
    return None if _has_source(db, no) else _failed(db, no, backend, error)


def _doubt(db: sqlite3.Connection, segment_id: UUID, backend: str, error: str) -> None:
    no = _key(db, segment_id)
    changed = db.execute(
        """UPDATE copy SET state = 'stored', urgent = 1, error = ?, due_us = 0, verified_us = NULL
            WHERE segment_no = ? AND backend = ? AND state = 'verified'""",
        (text(error), no, backend),
    )
    if changed.rowcount:
        db.execute("UPDATE segment SET settled_us = NULL, catalogued = 0 WHERE no = ?", (no,))


def _has_source(db: sqlite3.Connection, no: int) -> bool:
    row = db.execute("SELECT 1 FROM segment WHERE no = ? AND source_state = 'present'", (no,)).fetchone()
    return row is not None


def _failed(db: sqlite3.Connection, no: int, backend: str, error: str) -> Segment | None:
    db.execute(
        f"UPDATE copy SET state = 'failed', error = ? WHERE segment_no = ? AND backend = ? AND {UNDELIVERED}",
        (text(error), no, backend),
    )
    state = db.execute("SELECT source_state FROM segment WHERE no = ?", (no,)).fetchone()
    cause = COPY_FAILED if state is None else failure_cause(SourceState(state[0]))
    return ledger.tell_if_lost(db, no, cause, SystemClock().now())


def _not_held(db: sqlite3.Connection, no: int, backend: str, error: str) -> Segment | None:
    """As `_failed`, and the backend was shown not to hold the bytes: nothing is stored that we know of."""
    db.execute(
        f"""UPDATE copy SET stored_us = NULL, verified_us = NULL
             WHERE segment_no = ? AND backend = ? AND {UNDELIVERED}""",
        (no, backend),
    )
    return _failed(db, no, backend, error)


def _source_gone(
    db: sqlite3.Connection, segment_id: UUID, state: SourceState, cause: str, now: datetime
) -> Segment | None:
    found = one_segment(db, "s.id = ?", segment_id.bytes)
    if found is None:
        return None
    no, segment = found
    if segment.source_state is SourceState.PRUNING:
        return None  # by us, and whoever does it will say so
    if segment.source_state is SourceState.PRESENT:
        db.execute("UPDATE segment SET source_state = ? WHERE no = ?", (state, no))
    if state is SourceState.REPLACED:
        doubt(db, no)
    give_up_pending(db, no, cause)
    return ledger.tell_if_lost(db, no, cause, now)


def doubt(db: sqlite3.Connection, no: int) -> None:
    """A hard-linked copy shares the inode of its source; if that was written to, the copy is another one."""
    db.execute(
        """UPDATE copy SET state = 'stored', due_us = 0, verified_us = NULL
            WHERE segment_no = ? AND state = 'verified'""",
        (no,),
    )


def give_up_pending(db: sqlite3.Connection, no: int, error: str) -> None:
    """What was not put cannot be put any more."""
    db.execute(
        "UPDATE copy SET state = 'failed', error = ? WHERE segment_no = ? AND state = 'pending'",
        (text(error), no),
    )


def _retry_some(db: sqlite3.Connection, *, state: CopyState, backend: str | None) -> tuple[Retried, bool]:
    """A slice, and whether there may be more. Without source and path nothing can be done."""
    rows = db.execute(
        f"""SELECT s.source_state = 'present', copy.stored_us IS NOT NULL, copy.segment_no, copy.backend
              FROM copy CROSS JOIN segment s ON s.no = copy.segment_no
             WHERE copy.state = '{state}' AND (?1 IS NULL OR copy.backend = ?1)
               AND (s.source_state = 'present' OR (copy.state = 'failed' AND copy.path IS NOT NULL))
             LIMIT ?2""",
        (backend, RETRIED_AT_ONCE),
    ).fetchall()
    db.executemany(
        "UPDATE copy SET state = ?, due_us = 0, attempts = 0 WHERE segment_no = ? AND backend = ?",
        [("pending" if source else "stored", no, name) for source, _, no, name in rows],
    )
    retried = sum(source or stored for source, stored, _, _ in rows)
    return Retried(retried=retried, asked_again=len(rows) - retried), len(rows) == RETRIED_AT_ONCE


def _urge(db: sqlite3.Connection, camera_id: UUID, span: TimeSpan, backend: str | None) -> int:
    camera = db.execute("SELECT no, longest_us FROM camera WHERE id = ?", (camera_id.bytes,)).fetchone()
    if camera is None:
        return 0
    return db.execute(
        """UPDATE copy SET urgent = 1, due_us = 0, attempts = iif(state IN ('failed', 'gap'), 0, attempts),
                           state = iif(state = 'stored', 'stored', 'pending')
            WHERE state IN ('pending', 'stored', 'failed', 'gap') AND (?1 IS NULL OR backend = ?1)
              AND segment_no IN (SELECT no FROM segment WHERE camera_no = ?2 AND source_state = 'present'
                                    AND start_us > ?3 AND start_us < ?4 AND end_us > ?5)""",
        (backend, camera[0], to_us(span.start) - camera[1], to_us(span.end), to_us(span.start)),
    ).rowcount


def _failures(db: sqlite3.Connection, limit: int) -> list[Segment]:
    damaged = db.execute(f"SELECT segment_no FROM copy WHERE {DAMAGED} LIMIT ?", (limit,)).fetchall()
    others = db.execute("SELECT segment_no FROM copy WHERE state = 'failed' LIMIT ?", (limit,)).fetchall()
    chosen = list(dict.fromkeys(no for (no,) in (*damaged, *others)))[:limit]
    query = f"""SELECT {SEGMENT_COLUMNS} FROM json_each(?) chosen
         CROSS JOIN segment s ON s.no = chosen.value {SEGMENT_PARTS} ORDER BY chosen.key"""
    return segments_from(db, db.execute(query, (json.dumps(chosen),)).fetchall())


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
        gaps=counted.get("gap", (0, 0))[0],
        oldest=None if oldest[0] is None else from_us(oldest[0]),
    )


def _tallies(db: sqlite3.Connection) -> list[Tally]:
    return [
        Tally(backend=backend, state=CopyState(state), segments=segments, bytes=size)
        for backend, state, segments, size in db.execute("SELECT backend, state, segments, bytes FROM tally")
    ]
