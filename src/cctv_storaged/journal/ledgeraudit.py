"""The audit in the ledger: lines on who saw, fetched, held and changed what, newest first.

They are lines like all others, in the chain and in the archives; an index finds them while they are in the
table.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from cctv_storaged.journal.chain import BoundLine
from cctv_storaged.journal.ledger import Kind, add
from cctv_storaged.journal.ledgerlines import LINE_COLUMNS, bound_from
from cctv_storaged.journal.store import Store
from cctv_storaged.model import TimeSpan

NOBODY_ID = UUID(int=0)
READ, CHANGED, REFUSED = "api_read", "api_change", "api_refused"
"""Causes of `noted` lines."""
_KINDS = "kind IN ('held', 'released', 'exported', 'downloaded')"
AUDITED = f"{_KINDS} OR cause IN ('api_read', 'api_change', 'api_refused')"
"""Word for word the condition of the partial index ledger_audit."""
SLICE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A line of the audit to be written."""

    cause: str
    subject: UUID
    camera_id: UUID
    span: TimeSpan
    detail: str


class AuditLines:
    """The audit of an open journal."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def tell(self, told: Told, now: datetime) -> None:
        """Adds the line. Raises JournalFull."""
        await self._store.write(
            lambda db: add(
                db, Kind.NOTED, told.subject, told.camera_id, told.span, told.cause, now, told.detail
            )
        )

    async def before(self, no: int | None, limit: int = SLICE) -> list[BoundLine]:
        """The next lines below a number (None: the newest), `SLICE` at most."""
        most, below = min(limit, SLICE), 2**62 if no is None else no
        return await self._store.read(lambda db: _before(db, below, most))


def _before(db: sqlite3.Connection, no: int, limit: int) -> list[BoundLine]:
    query = f"""SELECT {LINE_COLUMNS} FROM ledger INDEXED BY ledger_audit
                 WHERE ({AUDITED}) AND no < ? ORDER BY no DESC LIMIT ?"""
    return [bound_from(row) for row in db.execute(query, (no, limit))]
