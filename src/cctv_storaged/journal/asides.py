"""Files set aside: no segments, left where they are, listed here with the reason until they are gone."""

import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from cctv_storaged.clock import MICROSECOND, from_us, to_us
from cctv_storaged.journal.rows import join_path
from cctv_storaged.model import FileIdentity, TimeSpan

Position = tuple[int, int, bytes]
"""When the last file of a page was set aside, its folder's number and its name: the next page follows it."""

FOLDERS = 500
"""Folders looked through at once; others wait that long for the journal."""
WRITTEN_US = 1_000_000
"""A file whose time is less than this after its name's was given up as soon as it was made."""
_NEWEST: Position = (2**62, 0, b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class AsideFile:
    """A file that is no segment, and why."""

    root: str
    path: str
    reason: str  # a short stable word, as in the metric
    detail: str
    size_bytes: int
    seen_at: datetime  # when it was found to be so


@dataclass(frozen=True, slots=True, kw_only=True)
class AsidePage:
    """Files newest first, and where the next page begins (None: there is none)."""

    files: tuple[AsideFile, ...]
    next: Position | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AsideFolder:
    """A folder that holds files set aside, or did."""

    no: int
    root: str
    path: str


def page(db: sqlite3.Connection, limit: int, after: Position | None) -> AsidePage:
    """By keyset: what is set aside meanwhile comes before the first page, and moves none."""
    rows = db.execute(
        """SELECT a.seen_us, a.folder_no, a.name, f.root, f.path, a.reason, a.detail, a.size_bytes
             FROM set_aside a CROSS JOIN folder f ON f.no = a.folder_no
            WHERE (a.seen_us, a.folder_no, a.name) < (?, ?, ?)
            ORDER BY a.seen_us DESC, a.folder_no DESC, a.name DESC LIMIT ?""",
        (*(after or _NEWEST), limit + 1),
    ).fetchall()
    files = tuple(
        AsideFile(
            root=os.fsdecode(root),
            path=join_path(folder, name),
            reason=reason,
            detail=detail,
            size_bytes=size_bytes,
            seen_at=from_us(seen_us),
        )
        for seen_us, _, name, root, folder, reason, detail, size_bytes in rows[:limit]
    )
    return AsidePage(files=files, next=rows[limit - 1][:3] if len(rows) > limit else None)


def folders(db: sqlite3.Connection, after: int) -> list[AsideFolder]:
    """Folders with files set aside behind the one of that number, at most FOLDERS; one look-up for each."""
    rows = db.execute(
        """WITH RECURSIVE held (no) AS (
               SELECT min(folder_no) FROM set_aside WHERE folder_no > ?
               UNION ALL
               SELECT (SELECT min(folder_no) FROM set_aside WHERE folder_no > held.no) FROM held
                WHERE held.no IS NOT NULL LIMIT ?)
           SELECT f.no, f.root, f.path FROM held CROSS JOIN folder f ON f.no = held.no""",
        (after, FOLDERS),
    )
    return [AsideFolder(no=no, root=os.fsdecode(root), path=os.fsdecode(path)) for no, root, path in rows]


def forget(db: sqlite3.Connection, root: str, folder: str, files: Mapping[str, FileIdentity]) -> None:
    """These are gone; one that was set aside anew meanwhile is another and stays."""
    row = db.execute(
        "SELECT no FROM folder WHERE root = ? AND path = ?", (os.fsencode(root), os.fsencode(folder))
    ).fetchone()
    if row is None:
        return
    db.executemany(
        "DELETE FROM set_aside WHERE folder_no = ? AND name = ? AND size_bytes = ? AND mtime_ns = ?",
        [(row[0], os.fsencode(name), file.size_bytes, file.mtime_ns) for name, file in files.items()],
    )


def spans_of(
    db: sqlite3.Connection,
    camera_id: UUID,
    span: TimeSpan,
    usual: timedelta,
    limit: int,
    after: datetime | None,
) -> list[TimeSpan]:
    """Spans of files set aside: until they were last written to, but not longer than a segment is.

    A file that was never written to stands for a whole one. Several with one start count once.
    """
    usual_us = max(usual // MICROSECOND, 1)
    earliest = to_us(span.start) - usual_us
    rows = db.execute(
        """SELECT start_us, max(mtime_ns) FROM set_aside
            WHERE camera_id = ? AND start_us > ? AND start_us < ?
            GROUP BY start_us ORDER BY start_us LIMIT ?""",
        (
            camera_id.bytes,
            earliest if after is None else max(earliest, to_us(after)),
            to_us(span.end),
            limit,
        ),
    )
    return [
        TimeSpan(from_us(start), from_us(start + _length_us(start, mtime_ns, usual_us)))
        for start, mtime_ns in rows
    ]


def _length_us(start_us: int, mtime_ns: int, usual_us: int) -> int:
    written_us = mtime_ns // 1000 - start_us
    return written_us if WRITTEN_US <= written_us < usual_us else usual_us
