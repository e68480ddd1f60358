"""What the journal keeps of the host's clock: when it was trusted last, its steps, and what footage says."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cctv_storaged.clock import MICROSECOND, from_us, to_us
from cctv_storaged.journal import ledger
from cctv_storaged.journal.store import Store

KEY = "clock"
"""In the table meta."""
CONFIRMED = "clock_confirmed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The wall clock jumped."""

    at: datetime  # by the clock after it
    by: timedelta  # forward where it is more than 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockNote:
    """What a later process has to know: clocktrust.Trust, and how the clocks really were."""

    wall: datetime  # the anchor
    boot_s: float
    boot_id: str
    first: bool
    holds: bool
    trusted_from: datetime | None
    lead: timedelta
    offset_s: float  # wall minus boot clock, as they were
    offset_boot_id: str  # in this boot
    misdated: tuple[tuple[datetime, datetime, datetime], ...] = ()  # clocktrust.Errors
    behind: tuple[tuple[datetime, datetime, datetime], ...] = ()
    wrong: tuple[tuple[datetime, datetime], ...] = ()


class ClockBook:
    """The journal's memory of the clock."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def last(self) -> ClockNote | None:
        """What was noted last; None at the first start."""
        return await self._store.read(_last)

    async def note(self, note: ClockNote, steps: Sequence[Step]) -> None:
        """Notes it, and steps that were seen since."""
        await self._store.write(lambda db: _note(db, note, steps))

    async def confirm(self, note: ClockNote, steps: Sequence[Step], detail: str, now: datetime) -> None:
        """The same because somebody says that the clock is right: with a line in the ledger."""

        def work(db: sqlite3.Connection) -> None:
            _note(db, note, steps)
            ledger.note(db, CONFIRMED, now, detail)

        await self._store.write(work)

    async def steps(self, limit: int) -> list[Step]:
        """The last ones, newest first."""
        query = "SELECT at_us, by_us FROM clock_step ORDER BY no DESC LIMIT ?"
        rows = await self._store.read(lambda db: db.execute(query, (limit,)).fetchall())
        return [Step(at=from_us(at), by=by * MICROSECOND) for at, by in rows]

    async def newest_footage(self) -> datetime | None:
        """When the newest segment of any camera begins: one look into the index for each camera."""
        query = (
            """SELECT max((SELECT max(s.start_us) FROM segment s WHERE s.camera_no = c.no)) FROM camera c"""
        )
        row = await self._store.read(lambda db: db.execute(query).fetchone())
        return None if row[0] is None else from_us(row[0])


def _last(db: sqlite3.Connection) -> ClockNote | None:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (KEY,)).fetchone()
    if row is None:
        return None
    try:
        facts = json.loads(row[0])
        trusted_us = facts["trusted_from_us"]
        return ClockNote(
            wall=from_us(facts["wall_us"]),
            boot_s=float(facts["boot_s"]),
            boot_id=str(facts["boot_id"]),
            first=bool(facts["first"]),
            holds=bool(facts["holds"]),
            trusted_from=None if trusted_us is None else from_us(trusted_us),
            lead=facts["lead_us"] * MICROSECOND,
            offset_s=float(facts["offset_s"]),
            offset_boot_id=str(facts["offset_boot_id"]),
            misdated=tuple((from_us(a), from_us(b), from_us(c)) for a, b, c in facts["misdated_us"]),
            behind=tuple((from_us(a), from_us(b), from_us(c)) for a, b, c in facts.get("behind_us", ())),
            wrong=tuple((from_us(a), from_us(b)) for a, b in facts["wrong_us"]),
        )
    except (ValueError, KeyError, TypeError, OverflowError):  # a page of a salvaged journal, perhaps
        return None


def _note(db: sqlite3.Connection, note: ClockNote, steps: Sequence[Step]) -> None:
    db.executemany(
        "INSERT INTO clock_step (at_us, by_us) VALUES (?, ?)",
        [(to_us(step.at), step.by // MICROSECOND) for step in steps],
    )
    facts = {
        "wall_us": to_us(note.wall),
        "boot_s": note.boot_s,
        "boot_id": note.boot_id,
        "first": note.first,
        "holds": note.holds,
        "trusted_from_us": None if note.trusted_from is None else to_us(note.trusted_from),
        "lead_us": note.lead // MICROSECOND,
        "offset_s": note.offset_s,
        "offset_boot_id": note.offset_boot_id,
        "misdated_us": [list(map(to_us, span)) for span in note.misdated],
        "behind_us": [list(map(to_us, span)) for span in note.behind],
        "wrong_us": [list(map(to_us, span)) for span in note.wrong],
    }
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (KEY, json.dumps(facts)))
