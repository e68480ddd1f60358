"""What was read back from XProtect: a line of the ledger for each checksum that a segment came back with.

A stream muxed anew is not what was recorded, bit for bit: whoever is shown it must be able to ask when it was
made and of what. The checksum told last is remembered with the copy, so that it is told once.
"""

import json
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from cctv_storaged.clock import rfc3339
from cctv_storaged.journal import ledger
from cctv_storaged.journal.rows import one_segment
from cctv_storaged.journal.store import Store
from cctv_storaged.model import TimeSpan

REMUXED = "remuxed"
"""Cause of the `noted` line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBack:
    """A file that was made of what a backend gave."""

    segment_id: UUID
    backend: str
    span: TimeSpan  # of what it shows
    size_bytes: int
    sha256: bytes


class ReadBacks:
    """Notes them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def note(self, made: ReadBack, now: datetime) -> bool:
        """Adds the line, unless this checksum was the last one told. False: nothing was added."""
        return await self._store.write(lambda db: _note(db, made, now))


def _note(db: sqlite3.Connection, made: ReadBack, now: datetime) -> bool:
    found = one_segment(db, "s.id = ?", made.segment_id.bytes)
    if found is None:
        return False
    no, segment = found
    digits = made.sha256.hex()
    changed = db.execute(
        "UPDATE copy SET etag = ?1 WHERE segment_no = ?2 AND backend = ?3 AND etag IS NOT ?1",
        (f"{REMUXED}:{digits}", no, made.backend),
    )
    if not changed.rowcount:
        return False
    facts = {
        "backend": made.backend,
        "sha256": digits,
        "size_bytes": made.size_bytes,
        "start": rfc3339(made.span.start),
        "end": rfc3339(made.span.end),
    }
    ledger.append(db, ledger.Kind.NOTED, segment, REMUXED, now, json.dumps(facts))
    return True
