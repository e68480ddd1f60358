"""Retrievals under way: written down before they are asked for, until what came of them is in the journal."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from cctv_storaged.clock import from_us, to_us
from cctv_storaged.journal.store import Store
from cctv_storaged.model import TimeSpan

MOST = 1000
"""Read at a start; there are never as many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """A span of a camera that is to be fetched from its device."""

    identifier: UUID
    camera_id: UUID  # ours
    span: TimeSpan
    task: str | None  # XProtect's; None: it was asked, or was about to be, and what it said is not known
    asked_at: datetime


class Retrievals:
    """The journal's rows of them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def all(self) -> list[Retrieval]:
        """Those under way, the oldest first."""
        return await self._store.read(_all)

    async def begin(self, retrieval: Retrieval) -> None:
        """It is about to be asked for; one that is there already stays as it is."""
        await self._store.write(lambda db: _begin(db, retrieval))

    async def answered(self, identifier: UUID, task: str) -> None:
        """It was asked for, and this task does it."""
        change = "UPDATE retrieval SET task = ? WHERE identifier = ?"
        await self._store.write(lambda db: db.execute(change, (task, identifier.bytes)))

    async def end(self, identifier: UUID) -> None:
        """Nothing is left to do about it."""
        change = "DELETE FROM retrieval WHERE identifier = ?"
        await self._store.write(lambda db: db.execute(change, (identifier.bytes,)))


def _all(db: sqlite3.Connection) -> list[Retrieval]:
    rows: Sequence[tuple[bytes, bytes, int, int, str | None, int]] = db.execute(
        """SELECT identifier, camera_id, start_us, end_us, task, asked_us FROM retrieval
            ORDER BY asked_us LIMIT ?""",
        (MOST,),
    ).fetchall()
    return [
        Retrieval(
            identifier=UUID(bytes=identifier),
            camera_id=UUID(bytes=camera),
            span=TimeSpan(from_us(start), from_us(end)),
            task=task,
            asked_at=from_us(asked),
        )
        for identifier, camera, start, end, task, asked in rows
    ]


def _begin(db: sqlite3.Connection, retrieval: Retrieval) -> None:
    db.execute(
        "INSERT INTO retrieval VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            retrieval.identifier.bytes,
            retrieval.camera_id.bytes,
            to_us(retrieval.span.start),
            to_us(retrieval.span.end),
            retrieval.task,
            to_us(retrieval.asked_at),
        ),
    )
