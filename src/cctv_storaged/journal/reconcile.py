"""What a reconcile asks of the journal: rows in the order of the other side's, page by page."""

import os
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

from cctv_storaged.clock import to_us
from cctv_storaged.journal.ledger import note
from cctv_storaged.journal.rows import SEGMENT_COLUMNS, SEGMENT_TABLES, segments_from
from cctv_storaged.journal.store import Store
from cctv_storaged.model import CopyState, Segment

ROWS = 500
TOLD_ROWS = 100
LOOKED_UP = 250
"""Rows of one page: a few milliseconds. Whole segments cost more, and so does each path by itself."""
NOTED = "reconcile"
"""Key of `meta`: the run under way, or the last one."""
FORCED = "reconcile_forced"
"""Cause of the ledger's line where somebody overruled the brake."""

_AT_SOURCE = "source_state IN ('present', 'pruning')"  # word for word that of segment_at_source


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCopy:
    """A copy that the journal knows the place of."""

    path: str
    segment_id: UUID
    camera_id: UUID
    size_bytes: int
    state: CopyState
    verified_us: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFolder:
    """A folder with sources that should be there."""

    no: int
    root: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldersPage:
    """Those of the next folders that have sources, and where to ask on (None: that was all)."""

    folders: tuple[SourceFolder, ...]
    next: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldRow:
    """A segment, and whether the catalog was told of it as it is."""

    segment: Segment
    told: bool


class Reconciliation:
    """The journal's side of the four-way difference."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # Backends

    async def copies(self, backend: str, after: str) -> list[HeldCopy]:
        """The next copies at a backend by path, all of a path's; none: that was all."""
        return await self._store.read(lambda db: _copies(db, backend, after))

    async def known_paths(self, backend: str, paths: Sequence[str]) -> dict[str, HeldCopy]:
        """Of these paths those that a copy has; of several copies any."""
        known: dict[str, HeldCopy] = {}
        for first in range(0, len(paths), LOOKED_UP):
            some = paths[first : first + LOOKED_UP]
            known |= await self._store.read(partial(_known_paths, backend=backend, paths=some))
        return known

    async def under_way(self, backend: str, camera_id: UUID, start: datetime) -> bool:
        """Whether a copy of what begins then is being brought to the backend, or removed from it."""
        return await self._store.read(lambda db: _under_way(db, backend, camera_id, to_us(start)))

    # Folders

    async def folders(self, after: int) -> FoldersPage:
        """The next folders by number; a folder that had sources once stays for good."""
        return await self._store.read(lambda db: _folders(db, after))

    async def sources(self, root: str, folder: str, names: Collection[str]) -> list[Segment]:
        """The segments whose source is one of these files of a folder."""
        return await self._store.read(lambda db: _sources(db, root, folder, names))

    async def cameras_in(self, root: str, folder: str) -> dict[UUID, int]:
        """How many segments of which camera have their source in a folder."""
        return await self._store.read(lambda db: _cameras_in(db, root, folder))

    # Catalog

    async def told(self, after: UUID | None) -> list[ToldRow]:
        """The next segments by id; none: that was all."""
        return await self._store.read(lambda db: _told(db, after))

    async def known_ids(self, ids: Collection[UUID]) -> frozenset[UUID]:
        """Of these ids those of segments, and of deleted ones that the catalog is still to hear of."""
        return await self._store.read(lambda db: _known_ids(db, ids))

    async def tell_again(self, ids: Collection[UUID]) -> None:
        """The catalog is told anew of these segments."""
        await self._store.write(
            lambda db: db.executemany(
                "UPDATE segment SET catalogued = 0 WHERE id = ?", [(id_.bytes,) for id_ in ids]
            )
        )

    async def uncatalogue(self, ids: Collection[UUID]) -> None:
        """The catalog is told that there are no such segments, unless there are by now."""
        await self._store.write(
            lambda db: db.executemany(
                """INSERT OR IGNORE INTO uncatalogue SELECT ?1
                    WHERE NOT EXISTS (SELECT 1 FROM segment WHERE id = ?1)""",
                [(id_.bytes,) for id_ in ids],
            )
        )

    # Runs

    async def noted(self) -> str | None:
        """The account of the run under way, or of the last one."""
        query = "SELECT value FROM meta WHERE key = ?"
        row = await self._store.read(lambda db: db.execute(query, (NOTED,)).fetchone())
        return None if row is None else str(row[0])

    async def note(self, account: str) -> None:
        await self._store.write(
            lambda db: db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (NOTED, account))
        )

    async def note_force(self, detail: str, now: datetime) -> None:
        """A line in the ledger: somebody overruled the brake."""
        await self._store.write(lambda db: note(db, FORCED, now, detail))


_HELD = """copy.path, s.id, c.id, copy.size_bytes, copy.state, copy.verified_us FROM copy
    CROSS JOIN segment s ON s.no = copy.segment_no CROSS JOIN camera c ON c.no = s.camera_no"""


def _held(row: Sequence[object]) -> HeldCopy:
    path, segment_id, camera_id, size_bytes, state, verified_us = row
    assert isinstance(segment_id, bytes) and isinstance(camera_id, bytes) and isinstance(size_bytes, int)
    return HeldCopy(
        path=str(path),
        segment_id=UUID(bytes=segment_id),
        camera_id=UUID(bytes=camera_id),
        size_bytes=size_bytes,
        state=CopyState(str(state)),
        verified_us=verified_us if isinstance(verified_us, int) else None,
    )


def _copies(db: sqlite3.Connection, backend: str, after: str) -> list[HeldCopy]:
    last = db.execute(
        """SELECT path FROM copy WHERE backend = ? AND path IS NOT NULL AND path > ?
            ORDER BY path LIMIT 1 OFFSET ?""",
        (backend, after, ROWS - 1),
    ).fetchone()
    until, upper = ("", ()) if last is None else ("AND copy.path <= ?", (last[0],))
    query = f"""SELECT {_HELD} WHERE copy.backend = ? AND copy.path IS NOT NULL AND copy.path > ? {until}
        ORDER BY copy.path"""
    return [_held(row) for row in db.execute(query, (backend, after, *upper))]


def _known_paths(db: sqlite3.Connection, backend: str, paths: Sequence[str]) -> dict[str, HeldCopy]:
    """Path by path: SQLite would rather read all of a backend's than look for each of a list."""
    query = f"SELECT {_HELD} WHERE copy.backend = ? AND copy.path = ? LIMIT 1"
    rows = (db.execute(query, (backend, path)).fetchone() for path in paths)
    return {held.path: held for held in map(_held, filter(None, rows))}


def _under_way(db: sqlite3.Connection, backend: str, camera_id: UUID, start_us: int) -> bool:
    row = db.execute(
        """SELECT 1 FROM segment s JOIN copy ON copy.segment_no = s.no AND copy.backend = ?
            WHERE s.camera_no = (SELECT no FROM camera WHERE id = ?) AND s.start_us = ?
              AND copy.state IN ('pending', 'stored', 'deleting') LIMIT 1""",
        (backend, camera_id.bytes, start_us),
    ).fetchone()
    return row is not None


def _folders(db: sqlite3.Connection, after: int) -> FoldersPage:
    rows = db.execute(
        f"""SELECT no, root, path, EXISTS (SELECT 1 FROM segment WHERE folder_no = folder.no AND {_AT_SOURCE})
              FROM folder WHERE no > ? ORDER BY no LIMIT ?""",
        (after, ROWS),
    ).fetchall()
    folders = [
        SourceFolder(no=no, root=os.fsdecode(root), path=os.fsdecode(path))
        for no, root, path, has_sources in rows
        if has_sources
    ]
    return FoldersPage(folders=tuple(folders), next=rows[-1][0] if rows else None)


def _sources(db: sqlite3.Connection, root: str, folder: str, names: Collection[str]) -> list[Segment]:
    wanted = [os.fsencode(name) for name in names]
    marks = ", ".join("?" * len(wanted))
    query = f"""SELECT {SEGMENT_COLUMNS} FROM {SEGMENT_TABLES}
        WHERE s.folder_no = (SELECT no FROM folder WHERE root = ? AND path = ?) AND s.name IN ({marks})
          AND s.source_state = 'present' AND s.deletion_due_us IS NULL"""
    rows = db.execute(query, (os.fsencode(root), os.fsencode(folder), *wanted)).fetchall()
    return segments_from(db, rows)


def _cameras_in(db: sqlite3.Connection, root: str, folder: str) -> dict[UUID, int]:
    query = f"""SELECT c.id, count(*) FROM segment s JOIN camera c ON c.no = s.camera_no
        WHERE s.folder_no = (SELECT no FROM folder WHERE root = ? AND path = ?) AND s.{_AT_SOURCE}
        GROUP BY s.camera_no"""
    rows = db.execute(query, (os.fsencode(root), os.fsencode(folder)))
    return {UUID(bytes=id_): count for id_, count in rows}


def _told(db: sqlite3.Connection, after: UUID | None) -> list[ToldRow]:
    rows = db.execute(
        f"SELECT {SEGMENT_COLUMNS}, s.catalogued FROM {SEGMENT_TABLES} WHERE s.id > ? ORDER BY s.id LIMIT ?",
        (b"" if after is None else after.bytes, TOLD_ROWS),
    ).fetchall()
    segments = segments_from(db, [row[:-1] for row in rows])
    return [ToldRow(segment=segment, told=bool(row[-1])) for segment, row in zip(segments, rows, strict=True)]


def _known_ids(db: sqlite3.Connection, ids: Collection[UUID]) -> frozenset[UUID]:
    return frozenset(_those_known(db, [id_.bytes for id_ in ids]))


def _those_known(db: sqlite3.Connection, ids: Sequence[bytes]) -> Iterator[UUID]:
    for first in range(0, len(ids), ROWS):
        part = ids[first : first + ROWS]
        marks = ", ".join("?" * len(part))
        for table, column in (("segment", "id"), ("uncatalogue", "segment_id")):
            query = f"SELECT {column} FROM {table} WHERE {column} IN ({marks})"
            yield from (UUID(bytes=row[0]) for row in db.execute(query, part))
