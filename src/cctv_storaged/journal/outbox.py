"""What the catalog has not been told yet."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from cctv_storaged.journal.rows import SEGMENT_COLUMNS, SEGMENT_TABLES, segments_from
from cctv_storaged.journal.store import Store
from cctv_storaged.model import Segment

TOLD = "catalog_target"
"""Key of `meta`: the catalog that was told; not there as long as none ever was."""
SLICE = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """The next things to tell the catalog."""

    changed: tuple[Segment, ...]
    forgotten: tuple[UUID, ...]

    @property
    def empty(self) -> bool:
        return not self.changed and not self.forgotten


class Outbox:
    """Segments changed since the catalog last took them, and segments deleted since."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def address(self, target: str) -> None:
        """Whom the news is for: another catalog than before has been told nothing."""
        if await self._store.read(_addressee) == target:
            return
        no: int | None = 0
        while no is not None:  # in slices: ten million rows in one commit would hold up everything else
            no = await self._store.write(partial(_untell, after=no))
        await self._store.write(lambda db: db.execute("UPDATE export SET catalogued = 0"))
        await self._store.write(
            lambda db: db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (TOLD, target))
        )

    async def news(self, limit: int) -> News:
        """At most `limit` segments that have a copy somewhere, and as many deletions."""
        return await self._store.read(lambda db: _news(db, limit))

    async def told(self, news: News) -> None:
        """The catalog has taken this. A segment that changed meanwhile stays to be told."""
        await self._store.write(lambda db: _told(db, news))

    async def lag(self) -> int:
        """How many segments the catalog has yet to hear of; counts at most 100,000."""
        query = """SELECT count(*) FROM (
             SELECT 1 FROM segment INDEXED BY segment_to_catalogue
              WHERE catalogued = 0 AND sha256 IS NOT NULL LIMIT 100000)"""
        return await self._store.read(lambda db: int(db.execute(query).fetchone()[0]))


def _addressee(db: sqlite3.Connection) -> str | None:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (TOLD,)).fetchone()
    return None if row is None else str(row[0])


def _untell(db: sqlite3.Connection, after: int) -> int | None:
    """Marks the next rows as untold; the number to go on behind, None at the end."""
    last = db.execute(
        "SELECT max(no) FROM (SELECT no FROM segment WHERE no > ? ORDER BY no LIMIT ?)", (after, SLICE)
    ).fetchone()[0]
    if last is None:
        return None
    db.execute("UPDATE segment SET catalogued = 0 WHERE no > ? AND no <= ? AND catalogued = 1", (after, last))
    return int(last)


def _news(db: sqlite3.Connection, limit: int) -> News:
    rows = db.execute(
        f"""SELECT {SEGMENT_COLUMNS} FROM {SEGMENT_TABLES}
             WHERE s.catalogued = 0 AND s.sha256 IS NOT NULL ORDER BY s.no LIMIT ?""",
        (limit,),
    ).fetchall()
    gone = db.execute("SELECT segment_id FROM uncatalogue LIMIT ?", (limit,)).fetchall()
    return News(changed=tuple(segments_from(db, rows)), forgotten=tuple(UUID(bytes=row[0]) for row in gone))


def _told(db: sqlite3.Connection, news: News) -> None:
    current = _still(db, news.changed)
    db.executemany("UPDATE segment SET catalogued = 1 WHERE id = ?", [(id_.bytes,) for id_ in current])
    db.executemany("DELETE FROM uncatalogue WHERE segment_id = ?", [(id_.bytes,) for id_ in news.forgotten])


def _still(db: sqlite3.Connection, told: Sequence[Segment]) -> list[UUID]:
    """Those that are in the journal just as they were told."""
    ids = [segment.id.bytes for segment in told]
    rows: list[tuple[object, ...]] = []
    for first in range(0, len(ids), 500):
        part = ids[first : first + 500]
        marks = ", ".join("?" * len(part))
        rows += db.execute(
            f"SELECT {SEGMENT_COLUMNS} FROM {SEGMENT_TABLES} WHERE s.id IN ({marks})", part
        ).fetchall()
    now = {segment.id: segment for segment in segments_from(db, rows)}
    return [segment.id for segment in told if now.get(segment.id) == segment]
