"""Segments: registered once, found by camera and time, known by folder to the scan."""

import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from cctv_storaged.clock import to_us
from cctv_storaged.journal import asides, finding, ledger, outbox
from cctv_storaged.journal.asides import AsideFolder, AsidePage, Position
from cctv_storaged.journal.copies import OVERWRITTEN, doubt, give_up_pending
from cctv_storaged.journal.finding import Footage, Page
from cctv_storaged.journal.holds import take_in
from cctv_storaged.journal.requiring import require
from cctv_storaged.journal.rows import (
    flags_text,
    one_segment,
    segment_by_no,
    signed,
    split_path,
    text,
    unsigned,
)
from cctv_storaged.journal.store import Store
from cctv_storaged.model import (
    Camera,
    FileIdentity,
    Meant,
    NewSegment,
    Segment,
    SegmentFlag,
    SourceFile,
    SourceState,
    TimeSpan,
    segment_id_for,
)

SAME_NAME = "s.folder_no = ? AND s.name = ?"
AT_SOURCE = "source_state IN ('present', 'pruning')"
"""Word for word the condition of the partial index segment_at_source, or SQLite will not use it."""
NO_ROOT = ""
"""Root of the placeholder that stands for a source nobody knows (adoption.py)."""
EMPTY = "empty"
EMPTIED = "the file has no bytes any more: its recorder emptied what was registered before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What registering a file came to."""

    segment: Segment
    created: bool  # False: it was registered already
    replaced: Segment | None = None  # the earlier version of the same file, if there was one
    lost: TimeSpan | None = None  # footage of the earlier version that no longer exists anywhere


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """What setting a file aside came to; true where it is news."""

    news: bool  # False: the same file was set aside for the same reason, or is a registered segment
    detail: str = ""  # why, in the words that are listed
    lost: Segment | None = None  # a segment that stood under the name and no longer exists anywhere

    def __bool__(self) -> bool:
        return self.news


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

    async def set_aside(
        self, source: SourceFile, reason: str, detail: str, now: datetime, meant: Meant | None = None
    ) -> SetAside:
        """Lists a file that is no segment; the latest word on a name replaces the earlier.

        A segment that stood under the name has been overwritten. A file that is registered as a segment just
        as it is stays one, whatever a later look made of it.
        """
        return await self._store.write(lambda db: _set_aside(db, source, reason, detail, now, meant))

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

    async def set_aside_page(self, limit: int, after: Position | None = None) -> AsidePage:
        """Files set aside, newest first, by keyset."""
        return await self._store.read(lambda db: asides.page(db, limit, after))

    async def set_aside_folders(self, after: int) -> list[AsideFolder]:
        """Folders of any root that hold files set aside, by number from `after` on; a slice of them."""
        return await self._store.read(lambda db: asides.folders(db, after))

    async def set_aside_of(
        self, camera_id: UUID, span: TimeSpan, usual: timedelta, limit: int, after: datetime | None
    ) -> list[TimeSpan]:
        """What files of a camera that were set aside stand for, where they overlap the span, by start.

        `usual`: how long a segment is; of `limit` files that begin later than `after`.
        """
        return await self._store.read(lambda db: asides.spans_of(db, camera_id, span, usual, limit, after))

    async def forget_set_aside(self, root: str, folder: str, files: Mapping[str, FileIdentity]) -> None:
        """These files of a folder, as they were when they were set aside, are not there any more."""
        await self._store.write(lambda db: asides.forget(db, root, folder, files))

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
        return await self._store.read(lambda db: finding.page(db, camera_id, span, limit, after))

    async def footage(
        self, camera_id: UUID, span: TimeSpan, tolerance: timedelta, limit: int, after: datetime | None
    ) -> Footage:
        """When there is footage of a camera within the span: `limit` segments' worth, from `after` on.

        Joined where less than `tolerance` is missing: a year of ten-second segments is three million rows.
        """
        return await self._store.read(
            lambda db: finding.footage(db, camera_id, span, tolerance, limit, after)
        )


def _record(
    db: sqlite3.Connection, host_id: str, new: NewSegment, backends: Sequence[str], now: datetime
) -> Recorded:
    folder_no, name = _place(db, new.source)
    identity = new.source.identity
    facts = (folder_no, name, identity.size_bytes, identity.mtime_ns)
    known = one_segment(db, f"{SAME_NAME} AND s.size_bytes = ? AND s.mtime_ns = ?", *facts)
    earlier = one_segment(
        db,
        f"{SAME_NAME} AND s.{AT_SOURCE} AND NOT (s.size_bytes = ? AND s.mtime_ns = ?) ORDER BY s.no DESC",
        *facts,
    )
    lost = None if earlier is None else _overwritten(db, *earlier, new.span, now)
    known = known or _adopted_without_source(db, host_id, new, folder_no, name)
    if known is not None:
        segment = _seen_again(db, *known, identity, backends, now)
    else:
        if _had_versions(db, folder_no, name, earlier):
            new = replace(new, flags=new.flags | {SegmentFlag.REWRITTEN})
        segment = _insert(db, segment_id_for(host_id, new.source), folder_no, name, new, backends, now)
        ledger.append(db, ledger.Kind.REGISTERED, segment, "closed", now, new.source.path)
    db.execute("DELETE FROM set_aside WHERE folder_no = ? AND name = ?", (folder_no, name))
    return Recorded(
        segment=segment, created=known is None, replaced=None if earlier is None else earlier[1], lost=lost
    )


def _adopted_without_source(
    db: sqlite3.Connection, host_id: str, new: NewSegment, folder_no: int, name: bytes
) -> tuple[int, Segment] | None:
    """A segment that came from an object which did not say where it was from: here is its file."""
    segment_id = segment_id_for(host_id, new.source)
    found = one_segment(db, "s.id = ? AND f.root = ?", segment_id.bytes, os.fsencode(NO_ROOT))
    if found is None:
        return None
    no, segment = found
    ticks, fingerprint = (None, None) if new.stream is None else (new.stream.ticks, new.stream.fingerprint)
    db.execute(
        """UPDATE segment SET folder_no = ?, name = ?, mtime_ns = ?, flags = ?, codec = coalesce(codec, ?),
                              stream_ticks = coalesce(stream_ticks, ?),
                              stream_print = coalesce(stream_print, ?)
            WHERE no = ?""",
        (
            folder_no,
            name,
            new.source.identity.mtime_ns,
            flags_text(segment.flags | new.flags),
            new.codec,
            ticks,
            fingerprint,
            no,
        ),
    )
    return no, segment_by_no(db, no)


def _place(db: sqlite3.Connection, source: SourceFile) -> tuple[int, bytes]:
    folder, name = split_path(source.path)
    return ensure_folder(db, os.fsencode(source.root), folder), name


def _had_versions(
    db: sqlite3.Connection, folder_no: int, name: bytes, earlier: tuple[int, Segment] | None
) -> bool:
    """Whether the name stood for bytes that were overwritten; a file that was removed does not count."""
    replaced = f"{SAME_NAME} AND s.source_state = 'replaced'"
    return earlier is not None or one_segment(db, replaced, folder_no, name) is not None


def _insert(
    db: sqlite3.Connection,
    segment_id: UUID,
    folder_no: int,
    name: bytes,
    new: NewSegment,
    backends: Sequence[str],
    now: datetime,
) -> Segment:
    identity = new.source.identity
    start_us, end_us = to_us(new.span.start), to_us(new.span.end)
    segment_no = db.execute(
        """INSERT INTO segment (id, camera_no, start_us, end_us, folder_no, name, device, inode, size_bytes,
                                mtime_ns, flags, codec, created_us, stream_ticks, stream_print)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            segment_id.bytes,
            _camera_of(db, new, now),
            start_us,
            end_us,
            folder_no,
            name,
            signed(identity.device),
            signed(identity.inode),
            identity.size_bytes,
            identity.mtime_ns,
            flags_text(new.flags),
            new.codec,
            to_us(now),
            None if new.stream is None else new.stream.ticks,
            None if new.stream is None else new.stream.fingerprint,
        ),
    ).lastrowid
    db.executemany(
        "INSERT INTO copy (segment_no, backend, start_us, size_bytes) VALUES (?, ?, ?, ?)",
        [(segment_no, backend, start_us, identity.size_bytes) for backend in backends],
    )
    segment = segment_by_no(db, segment_no)
    # A version that was overwritten may be there once more, under its old id: told lost, to be forgotten.
    ledger.tell_if_found(db, segment, now)
    db.execute("DELETE FROM uncatalogue WHERE segment_id = ?", (segment_id.bytes,))
    return segment


def _seen_again(
    db: sqlite3.Connection,
    no: int,
    known: Segment,
    identity: FileIdentity,
    backends: Sequence[str],
    now: datetime,
) -> Segment:
    """The same file, perhaps under another inode, or back after it was missed: note where it is now.

    A file that was pruned and is there again (a power cut took the unlink back, a backup was restored) has
    a source again. One on its way out is left to whoever does that.
    """
    if known.source_state is SourceState.PRUNING:
        return known
    if known.source_state is SourceState.PRESENT and known.source.identity == identity:
        return known
    moved = db.execute(
        """UPDATE segment SET device = ?, inode = ?, source_state = 'present'
            WHERE no = ? AND deletion_due_us IS NULL""",
        (signed(identity.device), signed(identity.inode), no),
    )
    if moved.rowcount == 1 and known.source_state is not SourceState.PRESENT:
        db.execute(
            """UPDATE copy SET state = 'pending', due_us = 0, attempts = 0
                WHERE segment_no = ? AND state = 'failed'""",
            (no,),
        )
        for backend in backends:  # the settings may have come to name others while it was away
            copy = known.copy_at(backend)
            state = None if copy is None else str(copy.state)
            require(db, no, to_us(known.span.start), known.size_bytes, backend, state)
        ledger.tell_if_found(db, known, now)
    return segment_by_no(db, no)


def _overwritten(
    db: sqlite3.Connection, no: int, earlier: Segment, covering: TimeSpan | None, now: datetime
) -> TimeSpan | None:
    """Other bytes stand under the name of `earlier`; says what footage went with it.

    A version that was delivered stays as a segment without a source. Its copy may share the inode that was
    written to, so it has to be proven anew. A version that was not delivered goes: its bytes do not exist
    any more. Where what came instead (`covering`) does not cover its span, footage is lost.
    """
    if any(copy.state in ledger.MAY_HOLD_BYTES for copy in earlier.copies):
        db.execute("UPDATE segment SET source_state = 'replaced' WHERE no = ?", (no,))
        doubt(db, no)
        give_up_pending(db, no, "overwritten by the recorder before it was delivered")
        return None
    span = earlier.span
    covered = covering is not None and covering.start <= span.start and covering.end >= span.end
    ledger.append(db, ledger.Kind.REPLACED if covered else ledger.Kind.LOST, earlier, OVERWRITTEN, now)
    forget(db, no, earlier.id)
    return None if covered else span


def forget(db: sqlite3.Connection, no: int, segment_id: UUID) -> None:
    """Removes the row; the catalog is told, in case it ever heard of it."""
    forget_many(db, {no: segment_id})


def forget_many(db: sqlite3.Connection, segments: Mapping[int, UUID]) -> None:
    """The same of many rows, each with its segment's id.

    Where there never was a catalog nobody would ever take its lines away again.
    """
    db.execute(
        "DELETE FROM segment WHERE no IN (SELECT value FROM json_each(?))", (json.dumps(list(segments)),)
    )
    if db.execute("SELECT 1 FROM meta WHERE key = ?", (outbox.TOLD,)).fetchone() is not None:
        rows = [(each.bytes,) for each in segments.values()]
        db.executemany("INSERT OR IGNORE INTO uncatalogue VALUES (?)", rows)


def _set_aside(
    db: sqlite3.Connection,
    source: SourceFile,
    reason: str,
    detail: str,
    now: datetime,
    meant: Meant | None,
) -> SetAside:
    folder_no, name = _place(db, source)
    identity = source.identity
    earlier = one_segment(db, f"{SAME_NAME} AND s.{AT_SOURCE} ORDER BY s.no DESC", folder_no, name)
    if earlier is not None and _same_version(earlier[1].source.identity, identity):
        return SetAside(news=False)
    had_bytes = _had_versions(db, folder_no, name, earlier)
    lost = None if earlier is None else _overwritten(db, *earlier, None, now)
    before = _listed_as(db, folder_no, name)
    if reason == EMPTY and (had_bytes or (before is not None and before.detail == EMPTIED)):
        detail = EMPTIED
    version = (identity.size_bytes, identity.mtime_ns, reason)
    news = before is None or (before.size_bytes, before.mtime_ns, before.reason) != version
    db.execute(
        """INSERT OR REPLACE INTO set_aside
               (folder_no, name, device, inode, size_bytes, mtime_ns, reason, detail, seen_us, camera_id,
                start_us)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            folder_no,
            name,
            signed(identity.device),
            signed(identity.inode),
            *version,
            text(detail),
            to_us(now) if before is None or news else before.seen_us,
            None if meant is None else meant.camera_id.bytes,
            None if meant is None else to_us(meant.start),
        ),
    )
    told_lost = earlier[1] if earlier is not None and lost is not None else None
    return SetAside(news=news, detail=detail, lost=told_lost)


class _Listed(NamedTuple):
    """What a name is set aside as."""

    size_bytes: int
    mtime_ns: int
    reason: str
    detail: str
    seen_us: int


def _listed_as(db: sqlite3.Connection, folder_no: int, name: bytes) -> _Listed | None:
    row = db.execute(
        """SELECT size_bytes, mtime_ns, reason, detail, seen_us FROM set_aside
            WHERE folder_no = ? AND name = ?""",
        (folder_no, name),
    ).fetchone()
    return None if row is None else _Listed._make(row)


def _same_version(one: FileIdentity, other: FileIdentity) -> bool:
    """Whether it is the same version of a file, wherever it lies now."""
    return (one.size_bytes, one.mtime_ns) == (other.size_bytes, other.mtime_ns)


def _known_in(db: sqlite3.Connection, root: str, folder: str) -> dict[str, KnownFile]:
    """Of several versions of one name the last one registered stands.

    A segment whose file was pruned, missed or replaced is not among them: a file of its name needs a look.
    """
    row = db.execute(
        "SELECT no FROM folder WHERE root = ? AND path = ?", (os.fsencode(root), os.fsencode(folder))
    ).fetchone()
    if row is None:
        return {}
    known = {}
    for query in (
        "SELECT name, device, inode, size_bytes, mtime_ns, reason FROM set_aside WHERE folder_no = ?",
        f"""SELECT name, device, inode, size_bytes, mtime_ns, NULL FROM segment
             WHERE folder_no = ? AND {AT_SOURCE} ORDER BY no""",
    ):
        for name, device, inode, size_bytes, mtime_ns, reason in db.execute(query, row):
            identity = FileIdentity(
                device=unsigned(device), inode=unsigned(inode), size_bytes=size_bytes, mtime_ns=mtime_ns
            )
            known[os.fsdecode(name)] = KnownFile(identity=identity, reason=reason)
    return known


def _renumber_device(db: sqlite3.Connection, root: str, folder: str, old: int, new: int) -> None:
    for rows in (f"segment SET device = ?1 WHERE {AT_SOURCE} AND", "set_aside SET device = ?1 WHERE"):
        db.execute(
            f"""UPDATE {rows} device = ?2
                 AND folder_no = (SELECT no FROM folder WHERE root = ?3 AND path = ?4)""",
            (signed(new), signed(old), os.fsencode(root), os.fsencode(folder)),
        )


def _one(db: sqlite3.Connection, where: str, *parameters: object) -> Segment | None:
    found = one_segment(db, where, *parameters)
    return None if found is None else found[1]


def ensure_folder(db: sqlite3.Connection, root: bytes, path: bytes) -> int:
    """Number of a folder, made when new."""
    db.execute("INSERT OR IGNORE INTO folder (root, path) VALUES (?, ?)", (root, path))
    return int(db.execute("SELECT no FROM folder WHERE root = ? AND path = ?", (root, path)).fetchone()[0])


def _camera_of(db: sqlite3.Connection, new: NewSegment, now: datetime) -> int:
    """One that is new for its folder comes under the holds there, unless each has its id in the path."""
    no, news = ensure_camera(db, new.camera)
    if news and not new.named_by_id:
        take_in(db, no, now)
    return no


def ensure_camera(db: sqlite3.Connection, camera: Camera) -> tuple[int, bool]:
    """Number of a camera, made when new, a changed name or folder taken over; and whether it was either."""
    news = db.execute(
        """INSERT INTO camera (id, name, folder) VALUES (?, ?, ?)
           ON CONFLICT (id) DO UPDATE SET name = excluded.name, folder = excluded.folder
            WHERE name <> excluded.name OR folder <> excluded.folder""",
        (camera.id.bytes, text(camera.name), os.fsencode(camera.folder)),
    ).rowcount
    no = int(db.execute("SELECT no FROM camera WHERE id = ?", (camera.id.bytes,)).fetchone()[0])
    return no, news > 0
