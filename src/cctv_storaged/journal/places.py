"""Places: the identity that each recorder root and store was first seen with, or accepted since."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cctv_storaged.clock import to_us
from cctv_storaged.journal import ledger
from cctv_storaged.journal.rows import text
from cctv_storaged.journal.store import Store

ACCEPTED = "place_accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPlace:
    """One place and its identity."""

    kind: str  # root, store, exports, thumbnails
    location: str
    identity: str


class PlaceBook:
    """The journal's places; a handful."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def all(self) -> list[KnownPlace]:
        """Every place that was ever seen."""
        query = "SELECT kind, location, identity FROM place"
        rows = await self._store.read(lambda db: db.execute(query).fetchall())
        return [KnownPlace(kind=kind, location=where, identity=identity) for kind, where, identity in rows]

    async def delivered(self) -> frozenset[str]:
        """The backends at which segments are, by the counters."""
        query = "SELECT backend FROM tally WHERE state IN ('stored', 'verified', 'deleting') AND segments > 0"
        rows = await self._store.read(lambda db: db.execute(query).fetchall())
        return frozenset(str(row[0]) for row in rows)

    async def note(self, place: KnownPlace, former: Sequence[str], now: datetime) -> None:
        """The place was seen for the first time, and stands for those at the `former` locations."""
        await self._store.write(lambda db: _note(db, place, former, now))

    async def accept(
        self, place: KnownPlace, former: Sequence[str], before: str | None, now: datetime
    ) -> None:
        """Somebody says that this is right from now on; a line in the ledger in the same commit."""
        await self._store.write(lambda db: _accept(db, place, former, before, now))


def _note(db: sqlite3.Connection, place: KnownPlace, former: Sequence[str], now: datetime) -> None:
    for location in former:
        db.execute("DELETE FROM place WHERE kind = ? AND location = ?", (place.kind, text(location)))
    db.execute(
        "INSERT OR REPLACE INTO place (kind, location, identity, noted_us) VALUES (?, ?, ?, ?)",
        (place.kind, text(place.location), text(place.identity), to_us(now)),
    )


def _accept(
    db: sqlite3.Connection, place: KnownPlace, former: Sequence[str], before: str | None, now: datetime
) -> None:
    _note(db, place, former, now)
    detail = f"{place.kind} {place.location}: {place.identity} instead of {before or 'none'}"
    ledger.note(db, ACCEPTED, now, detail)
