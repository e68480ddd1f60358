"""Adoption: what a backend or the catalog has of this host, and the journal does not, becomes rows again.

Nothing is overwritten and nothing deleted: a row that is there only gains what it lacks. A segment that comes
from an object has no source until the scan finds its file, whose id is the same.
"""

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from cctv_storaged.clock import to_us
from cctv_storaged.journal import ledger
from cctv_storaged.journal.copies import flag_if_twin
from cctv_storaged.journal.heldback import ensure_known
from cctv_storaged.journal.rows import flags_text, one_segment, segment_by_no, split_path, text
from cctv_storaged.journal.segments import NO_ROOT, ensure_folder
from cctv_storaged.journal.store import Store
from cctv_storaged.model import (
    Camera,
    CopyState,
    Segment,
    SegmentFlag,
    SourceFile,
    SourceState,
    StreamStart,
    TimeSpan,
    key_family,
)


class Verdict(StrEnum):
    """What came of considering an object or a catalog row."""

    ADOPTED = "adopted"  # a segment that the journal did not have
    ADDED = "added"  # a copy that it did not have, or had given up
    KNOWN = "known"  # nothing new
    LEAVING = "leaving"  # the segment is being deleted
    CONTRADICTORY = "contradictory"  # it says something else than the journal, or than itself


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundCopy:
    """Bytes at a backend."""

    backend: str
    path: str
    etag: str | None = None
    stored_at: datetime | None = None
    proven: bool = False  # size and SHA-256 were shown by the backend this moment


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSegment:
    """Everything a segment's row needs, as an object or the catalog tells it."""

    id: UUID
    camera: Camera
    span: TimeSpan
    source: SourceFile | None  # None: nobody knows
    size_bytes: int
    sha256: bytes
    flags: frozenset[SegmentFlag] = frozenset()
    codec: str | None = None
    stream: StreamStart | None = None
    created_at: datetime | None = None
    copies: tuple[FoundCopy, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """What the journal made of it; `segment` as it is now, None where it was left alone for good."""

    verdict: Verdict
    segment: Segment | None = None
    why: str = ""


class Adoption:
    """Takes in what was found."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def adopt(self, found: FoundSegment, now: datetime) -> Adopted:
        """One segment with its copies, in one commit; twice is once."""
        return await self._store.write(lambda db: _adopt(db, found, now))

    async def complete(self, found: Sequence[FoundSegment], now: datetime) -> list[Adopted]:
        """As `adopt`, from the catalog into a journal that is being made anew.

        What the catalog heard later than the object was put (flags), or has and the object does not say
        (when it was registered), is taken over.
        """
        return await self._store.write(lambda db: [_complete(db, each, now) for each in found])

    async def holding(self, backend: str, path: str) -> bool:
        """Whether a copy at just this place is known, so that nobody need look at the object."""
        query = "SELECT 1 FROM copy WHERE backend = ? AND path = ? AND state IN ('stored', 'verified')"
        return await self._store.read(lambda db: db.execute(query, (backend, path)).fetchone() is not None)

    async def by_content(self, camera_id: UUID, start: datetime, sha256: bytes) -> Segment | None:
        """A segment of these very bytes, for an object that does not say which it is."""
        where = "s.sha256 = ? AND c.id = ? AND s.start_us = ? ORDER BY s.no"
        facts = (sha256, camera_id.bytes, to_us(start))
        found = await self._store.read(lambda db: one_segment(db, where, *facts))
        return None if found is None else found[1]


def _adopt(db: sqlite3.Connection, found: FoundSegment, now: datetime) -> Adopted:
    known = one_segment(db, "s.id = ?", found.id.bytes)
    if known is None:
        return _adopt_new(db, found, now)
    no, segment = known
    if (why := _contradiction(segment, found)) is not None:
        return Adopted(verdict=Verdict.CONTRADICTORY, segment=segment, why=why)
    if _is_leaving(db, no):
        return Adopted(verdict=Verdict.LEAVING, segment=segment)
    if segment.sha256 is None:
        db.execute("UPDATE segment SET sha256 = ? WHERE no = ?", (found.sha256, no))
        flag_if_twin(db, no)
    added = [copy for copy in found.copies if _add(db, no, segment, copy, now)]
    if not added:
        return Adopted(verdict=Verdict.KNOWN, segment=segment)
    _tell(db, no, added, now)
    return Adopted(verdict=Verdict.ADDED, segment=segment_by_no(db, no))


def _is_leaving(db: sqlite3.Connection, no: int) -> bool:
    query = "SELECT 1 FROM segment WHERE no = ? AND deletion_due_us IS NOT NULL"
    return db.execute(query, (no,)).fetchone() is not None


def _contradiction(segment: Segment, found: FoundSegment) -> str | None:
    if segment.camera_id != found.camera.id or segment.span != found.span:
        return f"the journal has segment {segment.id} as camera {segment.camera_id}, {segment.span}"
    if segment.size_bytes != found.size_bytes:
        return f"the journal has segment {segment.id} with {segment.size_bytes} bytes"
    if segment.sha256 not in (None, found.sha256):
        return f"the journal has segment {segment.id} with another SHA-256"
    return None


def _adopt_new(db: sqlite3.Connection, found: FoundSegment, now: datetime) -> Adopted:
    folder_no, name, mtime_ns = _place(db, found)
    taken = db.execute(
        "SELECT id FROM segment WHERE folder_no = ? AND name = ? AND size_bytes = ? AND mtime_ns = ?",
        (folder_no, name, found.size_bytes, mtime_ns),
    ).fetchone()
    if taken is not None:
        why = f"the journal has its file as segment {UUID(bytes=taken[0])}"
        return Adopted(verdict=Verdict.CONTRADICTORY, why=why)
    no = db.execute(
        f"""INSERT INTO segment (id, camera_no, start_us, end_us, folder_no, name, device, inode, size_bytes,
                                mtime_ns, source_state, flags, codec, sha256, created_us, stream_ticks,
                                stream_print)
           VALUES (?, ?, ?, ?, ?, ?, 0, 0, ?, ?, '{SourceState.PRUNED}', ?, ?, ?, ?, ?, ?)""",
        (
            found.id.bytes,
            ensure_known(db, found.camera),
            to_us(found.span.start),
            to_us(found.span.end),
            folder_no,
            name,
            found.size_bytes,
            mtime_ns,
            flags_text(found.flags),
            found.codec,
            found.sha256,
            to_us(found.created_at or now),
            None if found.stream is None else found.stream.ticks,
            None if found.stream is None else found.stream.fingerprint,
        ),
    ).lastrowid
    assert no is not None
    flag_if_twin(db, no)
    segment = segment_by_no(db, no)
    for copy in found.copies:
        _add(db, no, segment, copy, now)
    _tell(db, no, found.copies, now)
    db.execute("DELETE FROM uncatalogue WHERE segment_id = ?", (found.id.bytes,))
    return Adopted(verdict=Verdict.ADOPTED, segment=segment_by_no(db, no))


def _place(db: sqlite3.Connection, found: FoundSegment) -> tuple[int, bytes, int]:
    """Folder, name and time of the source; a placeholder that no root can have where nobody knows it."""
    source = found.source
    if source is not None:
        folder, name = split_path(source.path)
        return ensure_folder(db, os.fsencode(source.root), folder), name, source.identity.mtime_ns
    folder, _ = split_path(found.copies[0].path)
    return ensure_folder(db, os.fsencode(NO_ROOT), folder), str(found.id).encode(), 0


def _add(db: sqlite3.Connection, no: int, segment: Segment, copy: FoundCopy, now: datetime) -> bool:
    """Whether the copy was news. One that is known at another name gives way to a later spare alone."""
    known = segment.copy_at(copy.backend)
    if known is not None and not _gives_way(known.state, known.path, copy):
        return False
    if known is None:
        db.execute(
            "INSERT INTO copy (segment_no, backend, start_us, size_bytes) VALUES (?, ?, ?, ?)",
            (no, copy.backend, to_us(segment.span.start), segment.size_bytes),
        )
    now_us, etag = to_us(now), None if copy.etag is None else text(copy.etag)
    stored_us = now_us if copy.stored_at is None else to_us(copy.stored_at)
    db.execute(
        """UPDATE copy SET state = ?, urgent = iif(?, 0, urgent), path = ?, etag = ?, stored_us = ?,
                           verified_us = ?, error = NULL, due_us = 0, attempts = 0
            WHERE segment_no = ? AND backend = ?""",
        (
            CopyState.VERIFIED if copy.proven else CopyState.STORED,
            copy.proven,
            text(copy.path),
            etag,
            stored_us,
            now_us if copy.proven else None,
            no,
            copy.backend,
        ),
    )
    return True


def _gives_way(state: CopyState, path: str | None, found: FoundCopy) -> bool:
    """A spare name was taken only because the one before holds something spoiled (`model.spare_key`)."""
    if state in (CopyState.PENDING, CopyState.FAILED, CopyState.GONE, CopyState.GAP):
        return True
    if state is not CopyState.STORED or path is None or path == found.path:
        return state is CopyState.STORED and path == found.path and found.proven
    mine, other = key_family(path), key_family(found.path)
    return mine[0] == other[0] and len(other) > len(mine)


def _tell(db: sqlite3.Connection, no: int, copies: Sequence[FoundCopy], now: datetime) -> None:
    segment = segment_by_no(db, no)
    for copy in copies:
        detail = f"at {copy.path}, {'proven' if copy.proven else 'not proven yet'}"
        ledger.append(db, ledger.Kind.ADOPTED, segment, copy.backend, now, detail)
    ledger.tell_if_found(db, segment, now)


def _complete(db: sqlite3.Connection, found: FoundSegment, now: datetime) -> Adopted:
    adopted = _adopt(db, found, now)
    if adopted.verdict in (Verdict.ADDED, Verdict.KNOWN) and adopted.segment is not None:
        flags = flags_text(adopted.segment.flags | found.flags)
        db.execute(
            "UPDATE segment SET flags = ?, created_us = coalesce(?, created_us) WHERE id = ?",
            (flags, None if found.created_at is None else to_us(found.created_at), found.id.bytes),
        )
    return adopted
