"""Segments: registered once, found by camera and time, known by folder to the scan."""

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from cctv_storaged.clock import from_us, to_us
from cctv_storaged.journal import ledger
from cctv_storaged.journal.rows import (
    SEGMENT_COLUMNS,
    SEGMENT_TABLES,
    Row,
    flags_text,
    segments_from,
    split_path,
)
from cctv_storaged.journal.store import Store
from cctv_storaged.model import (
    Camera,
    CopyState,
    FileIdentity,
    NewSegment,
    Segment,
    SegmentFlag,
    SourceFile,
    SourceState,
    TimeSpan,
    segment_id_for,
)

HAS_BYTES = f"""(s.source_state = '{SourceState.PRESENT}' OR EXISTS (
    SELECT 1 FROM copy WHERE copy.segment_no = s.no
       AND state IN ('{CopyState.STORED}', '{CopyState.VERIFIED}')))"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What registering a file came to."""

    segment: Segment
    created: bool  # False: it was registered already
    replaced: Segment | None = None  # the earlier version of the same file, if there was one
    lost: TimeSpan | None = None  # footage of the earlier version that no longer exists anywhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Segments oldest first, and where the next page begins (None: there is none)."""

    segments: tuple[Segment, ...]
    next: tuple[datetime, UUID] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFile:
    """A file the journal has dealt with, as the scan compares it with what it finds."""

    identity: FileIdentity
    reason: str | None = None  # why it was set aside; None for a segment


class Segments:
    """The journal's segments of this host."""

    def __init__(self, store: Store, host_id: str) -> None:
        self._store = store
        self._host_id = host_id

    async def record(self, new: NewSegment, backends: Sequence[str], now: datetime) -> Recorded:
        """Registers a closed file with a pending copy per backend, in one commit. Twice is once."""
        return await self._store.write(lambda db: _record(db, self._host_id, new, backends, now))

    async def set_aside(self, source: SourceFile, reason: str, detail: str, now: datetime) -> bool:
        """Lists a file that is no segment; the latest word on a name replaces the earlier.

        Returns whether this is news: False if the same file was set aside for the same reason.
        """
        return await self._store.write(lambda db: _set_aside(db, source, reason, detail, now))

    async def known_in(self, root: str, folder: str) -> dict[str, KnownFile]:
        """Every file of a folder that needs no second look, by name."""
        return await self._store.read(lambda db: _known_in(db, root, folder))

    async def renumber_device(self, root: str, folder: str, old: int, new: int) -> None:
        """The disk of a folder's files got another device number (a reboot)."""
        await self._store.write(lambda db: _renumber_device(db, root, folder, old, new))

    async def reconsider(self, reasons: Sequence[str]) -> None:
        """Forgets files set aside for these reasons: the settings that judged them may have changed."""
        marks = ", ".join("?" * len(reasons))
        await self._store.write(
            lambda db: db.execute(f"DELETE FROM set_aside WHERE reason IN ({marks})", tuple(reasons))
        )

    async def set_aside_counts(self) -> dict[str, int]:
        """Files set aside, by reason."""
        query = "SELECT reason, count(*) FROM set_aside GROUP BY reason"
        return await self._store.read(lambda db: dict(db.execute(query).fetchall()))

    async def by_id(self, segment_id: UUID) -> Segment | None:
        """One segment, None where this host has none of that id."""
        return await self._store.read(lambda db: _one(db, "s.id = ?", segment_id.bytes))

    async def by_source(self, source: SourceFile) -> Segment | None:
        """The segment registered for exactly this file."""
        folder, name = split_path(source.path)
        where = "f.root = ? AND f.path = ? AND s.name = ? AND s.size_bytes = ? AND s.mtime_ns = ?"
        facts = (os.fsencode(source.root), folder, name, source.identity.size_bytes, source.identity.mtime_ns)
        return await self._store.read(lambda db: _one(db, where, *facts))

    async def page(
        self, camera_id: UUID, span: TimeSpan, limit: int, after: tuple[datetime, UUID] | None = None
    ) -> Page:
        """Segments of a camera that overlap the span and have bytes somewhere, oldest first, by keyset."""
        return await self._store.read(lambda db: _page(db, camera_id, span, limit, after))

    async def spans(
        self, camera_id: UUID, span: TimeSpan, limit: int, after: datetime | None
    ) -> list[TimeSpan]:
        """The bare spans of `page`, at most `limit`, those that start at or after `after`."""
        return await self._store.read(lambda db: _spans(db, camera_id, span, limit, after))


def _record(
    db: sqlite3.Connection, host_id: str, new: NewSegment, backends: Sequence[str], now: datetime
) -> Recorded:
    folder, name = split_path(new.source.path)
    folder_no = ensure_folder(db, os.fsencode(new.source.root), folder)
    identity = new.source.identity
    same = "s.folder_no = ? AND s.name = ?"
    known = _one(
        db,
        f"{same} AND s.size_bytes = ? AND s.mtime_ns = ?",
        folder_no,
        name,
        identity.size_bytes,
        identity.mtime_ns,
    )
    if known is not None:
        return Recorded(segment=_seen_again(db, known, identity), created=False)
    earlier = _one(db, f"{same} AND s.source_state = 'present' ORDER BY s.no DESC LIMIT 1", folder_no, name)
    flags = new.flags | {SegmentFlag.REWRITTEN} if earlier is not None else new.flags
    lost = _replace(db, earlier, new, now) if earlier is not None else None
    segment_id = segment_id_for(host_id, new.source)
    _insert(db, segment_id, folder_no, name, replace(new, flags=flags), backends, now)
    db.execute("DELETE FROM set_aside WHERE folder_no = ? AND name = ?", (folder_no, name))
    segment = _one(db, "s.id = ?", segment_id.bytes)
    assert segment is not None
    return Recorded(segment=segment, created=True, replaced=earlier, lost=lost)


def _insert(
    db: sqlite3.Connection,
    segment_id: UUID,
    folder_no: int,
    name: bytes,
    new: NewSegment,
    backends: Sequence[str],
    now: datetime,
) -> None:
    identity = new.source.identity
    start_us, end_us = to_us(new.span.start), to_us(new.span.end)
    segment_no = db.execute(
        """INSERT INTO segment (id, camera_no, start_us, end_us, folder_no, name, device, inode, size_bytes,
                                mtime_ns, flags, codec, created_us)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            segment_id.bytes,
            ensure_camera(db, new.camera),
            start_us,
            end_us,
            folder_no,
            name,
            identity.device,
            identity.inode,
            identity.size_bytes,
            identity.mtime_ns,
            flags_text(new.flags),
            new.codec,
            to_us(now),
        ),
    ).lastrowid
    db.executemany(
        "INSERT INTO copy (segment_no, backend, start_us, size_bytes) VALUES (?, ?, ?, ?)",
        [(segment_no, backend, start_us, identity.size_bytes) for backend in backends],
    )


def _seen_again(db: sqlite3.Connection, known: Segment, identity: FileIdentity) -> Segment:
    """The same file under another inode or back from being missing: note where it is now."""
    if known.source_state is SourceState.PRUNED or known.source_state is SourceState.PRUNING:
        return known
    if known.source.identity != identity or known.source_state is not SourceState.PRESENT:
        db.execute(
            "UPDATE segment SET device = ?, inode = ?, source_state = 'present' WHERE id = ?",
            (identity.device, identity.inode, known.id.bytes),
        )
        return replace(
            known, source=replace(known.source, identity=identity), source_state=SourceState.PRESENT
        )
    return known


def _replace(db: sqlite3.Connection, earlier: Segment, new: NewSegment, now: datetime) -> TimeSpan | None:
    """The recorder wrote other bytes under the name of `earlier`; says what footage went with them.

    A version that was delivered stays as a segment without a source. Its copy may share the inode that was
    written to (hard link), so it has to be verified anew. A version that was not delivered goes: its bytes
    do not exist any more. Where the new version does not cover its span, footage is lost.
    """
    kept = [copy for copy in earlier.copies if copy.state in (CopyState.STORED, CopyState.VERIFIED)]
    if kept:
        db.execute(
            "UPDATE segment SET source_state = 'replaced', settled_us = NULL, catalogued = 0 WHERE id = ?",
            (earlier.id.bytes,),
        )
        db.execute(
            """UPDATE copy SET state = 'stored', due_us = 0
                WHERE state = 'verified' AND segment_no = (SELECT no FROM segment WHERE id = ?)""",
            (earlier.id.bytes,),
        )
        db.execute(
            """UPDATE copy SET state = 'failed', error = 'replaced by the recorder before it was delivered'
                WHERE state = 'pending' AND segment_no = (SELECT no FROM segment WHERE id = ?)""",
            (earlier.id.bytes,),
        )
        return None
    covered = new.span.start <= earlier.span.start and new.span.end >= earlier.span.end
    kind = ledger.Kind.REPLACED if covered else ledger.Kind.LOST
    ledger.append(db, kind, earlier, "overwritten_by_recorder", now)
    db.execute("DELETE FROM segment WHERE id = ?", (earlier.id.bytes,))
    return None if covered else earlier.span


def _set_aside(db: sqlite3.Connection, source: SourceFile, reason: str, detail: str, now: datetime) -> bool:
    folder, name = split_path(source.path)
    folder_no = ensure_folder(db, os.fsencode(source.root), folder)
    identity = source.identity
    facts = (identity.device, identity.inode, identity.size_bytes, identity.mtime_ns, reason)
    query = """SELECT device, inode, size_bytes, mtime_ns, reason FROM set_aside
                WHERE folder_no = ? AND name = ?"""
    if db.execute(query, (folder_no, name)).fetchone() == facts:
        return False
    db.execute(
        "INSERT OR REPLACE INTO set_aside VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (folder_no, name, *facts, detail, to_us(now)),
    )
    return True


def _known_in(db: sqlite3.Connection, root: str, folder: str) -> dict[str, KnownFile]:
    """Of several versions of one name the last one registered stands."""
    row = db.execute(
        "SELECT no FROM folder WHERE root = ? AND path = ?", (os.fsencode(root), os.fsencode(folder))
    ).fetchone()
    if row is None:
        return {}
    known = {}
    for query in (
        "SELECT name, device, inode, size_bytes, mtime_ns, reason FROM set_aside WHERE folder_no = ?",
        """SELECT name, device, inode, size_bytes, mtime_ns, NULL FROM segment
            WHERE folder_no = ? AND source_state NOT IN ('replaced', 'missing') ORDER BY no""",
    ):
        for name, device, inode, size_bytes, mtime_ns, reason in db.execute(query, row):
            identity = FileIdentity(device=device, inode=inode, size_bytes=size_bytes, mtime_ns=mtime_ns)
            known[os.fsdecode(name)] = KnownFile(identity=identity, reason=reason)
    return known


def _renumber_device(db: sqlite3.Connection, root: str, folder: str, old: int, new: int) -> None:
    for table in ("segment", "set_aside"):
        db.execute(
            f"""UPDATE {table} SET device = ? WHERE device = ? AND folder_no =
                (SELECT no FROM folder WHERE root = ? AND path = ?)""",
            (new, old, os.fsencode(root), os.fsencode(folder)),
        )


def _one(db: sqlite3.Connection, where: str, *parameters: object) -> Segment | None:
    rows = db.execute(f"SELECT {SEGMENT_COLUMNS} FROM {SEGMENT_TABLES} WHERE {where}", parameters).fetchmany(
        1
    )
    return segments_from(db, rows)[0] if rows else None


def _page(
    db: sqlite3.Connection, camera_id: UUID, span: TimeSpan, limit: int, after: tuple[datetime, UUID] | None
) -> Page:
    camera = db.execute("SELECT no, longest_us FROM camera WHERE id = ?", (camera_id.bytes,)).fetchone()
    if camera is None:
        return Page(segments=(), next=None)
    start, no = _keyset(db, after)
    rows: list[Row] = db.execute(
        f"""SELECT {SEGMENT_COLUMNS} FROM {SEGMENT_TABLES}
             WHERE s.camera_no = ? AND s.start_us > ? AND s.start_us < ? AND s.end_us > ?
               AND (s.start_us, s.no) > (?, ?) AND {HAS_BYTES}
             ORDER BY s.start_us, s.no LIMIT ?""",
        (camera[0], to_us(span.start) - camera[1], to_us(span.end), to_us(span.start), start, no, limit + 1),
    ).fetchall()
    segments = segments_from(db, rows[:limit])
    following = (segments[-1].span.start, segments[-1].id) if len(rows) > limit else None
    return Page(segments=tuple(segments), next=following)


def _keyset(db: sqlite3.Connection, after: tuple[datetime, UUID] | None) -> tuple[int, int]:
    """Where to go on: behind the row of the id, or behind its start should the row be gone."""
    if after is None:
        return -(2**62), 0
    row = db.execute("SELECT no FROM segment WHERE id = ?", (after[1].bytes,)).fetchone()
    return to_us(after[0]), row[0] if row else 2**62


def _spans(
    db: sqlite3.Connection, camera_id: UUID, span: TimeSpan, limit: int, after: datetime | None
) -> list[TimeSpan]:
    camera = db.execute("SELECT no, longest_us FROM camera WHERE id = ?", (camera_id.bytes,)).fetchone()
    if camera is None:
        return []
    lowest = to_us(span.start) - camera[1]
    rows = db.execute(
        f"""SELECT s.start_us, s.end_us FROM segment s
             WHERE s.camera_no = ? AND s.start_us > ? AND s.start_us < ? AND s.end_us > ? AND {HAS_BYTES}
             ORDER BY s.start_us LIMIT ?""",
        (
            camera[0],
            lowest if after is None else max(lowest, to_us(after)),
            to_us(span.end),
            to_us(span.start),
            limit,
        ),
    )
    return [TimeSpan(from_us(start), from_us(end)) for start, end in rows]


def ensure_folder(db: sqlite3.Connection, root: bytes, path: bytes) -> int:
    """Number of a folder, made when new."""
    db.execute("INSERT OR IGNORE INTO folder (root, path) VALUES (?, ?)", (root, path))
    return int(db.execute("SELECT no FROM folder WHERE root = ? AND path = ?", (root, path)).fetchone()[0])


def ensure_camera(db: sqlite3.Connection, camera: Camera) -> int:
    """Number of a camera, made when new; a changed name or folder is taken over."""
    db.execute(
        """INSERT INTO camera (id, name, folder) VALUES (?, ?, ?)
           ON CONFLICT (id) DO UPDATE SET name = excluded.name, folder = excluded.folder
            WHERE name <> excluded.name OR folder <> excluded.folder""",
        (camera.id.bytes, camera.name, os.fsencode(camera.folder)),
    )
    return int(db.execute("SELECT no FROM camera WHERE id = ?", (camera.id.bytes,)).fetchone()[0])
