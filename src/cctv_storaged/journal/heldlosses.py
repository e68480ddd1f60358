"""Losses under a hold in force: read from the ledger, which has every loss from whatever path."""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from cctv_storaged.clock import from_us
from cctv_storaged.journal.ledger import TOLD, Kind
from cctv_storaged.journal.store import Store
from cctv_storaged.model import TimeSpan

MOST_HOLDS = 20
"""Holds told of one segment."""

_LINE = "no, at_us, segment_id, camera_id, start_us, end_us, cause"
_Line = tuple[int, int, bytes, bytes, int, int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLoss:
    """Footage that was lost while holds that are still in force kept it, and that was not found since."""

    line: int  # of the ledger
    camera_id: UUID
    camera: str
    span: TimeSpan
    cause: str
    hold_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPage:
    """Those among the next losses, and the line behind which to read on."""

    losses: tuple[HeldLoss, ...]
    after: int
    more: bool


class HeldLosses:
    """What the ledger tells of held footage."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def page(self, after: int, limit: int) -> LossPage:
        """Looks at the next so many losses behind a line of the ledger."""
        return await self._store.read(lambda db: _page(db, after, limit))

    async def standing(self, lines: Sequence[int]) -> tuple[HeldLoss, ...]:
        """Those of these lines that still are such losses."""
        return await self._store.read(lambda db: tuple(_held(db, _lines(db, lines))))


def _page(db: sqlite3.Connection, after: int, limit: int) -> LossPage:
    found = sorted(line for cause in _causes(db) for line in _of_cause(db, cause, after, limit))[:limit]
    return LossPage(
        losses=tuple(_held(db, found)),
        after=found[-1][0] if found else after,
        more=len(found) == limit,
    )


def _causes(db: sqlite3.Connection) -> Iterator[str]:
    """From one to the next by the index: losses may be many, and their causes are few."""
    query = "SELECT cause FROM ledger WHERE kind = 'lost' AND cause > ? ORDER BY cause LIMIT 1"
    last = ""
    while (row := db.execute(query, (last,)).fetchone()) is not None:
        last = row[0]
        yield last


def _of_cause(db: sqlite3.Connection, cause: str, after: int, limit: int) -> list[_Line]:
    query = f"""SELECT {_LINE} FROM ledger INDEXED BY ledger_losses
                 WHERE kind = 'lost' AND cause = ? AND no > ? ORDER BY no LIMIT ?"""
    return db.execute(query, (cause, after, limit)).fetchall()


def _lines(db: sqlite3.Connection, numbers: Sequence[int]) -> Iterator[_Line]:
    for no in numbers:
        yield from db.execute(f"SELECT {_LINE} FROM ledger WHERE no = ?", (no,))


def _held(db: sqlite3.Connection, lines: Sequence[_Line] | Iterator[_Line]) -> Iterator[HeldLoss]:
    for no, at_us, segment_id, camera_id, start_us, end_us, cause in lines:
        last = db.execute(
            f"""SELECT kind FROM ledger WHERE camera_id = ? AND start_us = ? AND segment_id = ? AND {TOLD}
                 ORDER BY no DESC LIMIT 1""",
            (camera_id, start_us, segment_id),
        ).fetchone()
        camera = db.execute("SELECT no, name FROM camera WHERE id = ?", (camera_id,)).fetchone()
        if camera is None or last is None or last[0] != Kind.LOST:
            continue
        hold_ids = _holds(db, camera[0], start_us, end_us, at_us)
        if hold_ids:
            yield HeldLoss(
                line=no,
                camera_id=UUID(bytes=camera_id),
                camera=camera[1],
                span=TimeSpan(from_us(start_us), from_us(end_us)),
                cause=cause,
                hold_ids=hold_ids,
            )


def _holds(
    db: sqlite3.Connection, camera_no: int, start_us: int, end_us: int, lost_us: int
) -> tuple[UUID, ...]:
    """Those in force that were made before the loss: what was gone by then is a gap, and no news."""
    rows = db.execute(
        """SELECT h.id FROM hold_camera c JOIN hold h ON h.no = c.hold_no
            WHERE c.camera_no = ? AND h.released_us IS NULL AND h.start_us < ? AND h.end_us > ?
              AND h.created_us <= ? ORDER BY h.no LIMIT ?""",
        (camera_no, end_us, start_us, lost_us, MOST_HOLDS),
    )
    return tuple(UUID(bytes=row[0]) for row in rows)
