"""Copies that a backend is to vouch for now. Most of a hundred thousand that wait are put off: those are
passed over within their index, and what came due is found by its time.
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from cctv_storaged.journal.copies import UNDELIVERED, waiting_us
from cctv_storaged.journal.store import Store
from cctv_storaged.journal.vouched import COLUMNS, PAGE, TABLES, Waiting, Which, waiting_rows

LOOKED = 5000
"""Copies passed over in one operation: a millisecond, where their segments need not be looked at."""
LOOKED_BEHIND = 1000
"""The same where they must."""
_FIRST, _LAST = (-(2**62), -1), (2**62, 2**62)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Which copies to look at, and for what."""

    which: Which = Which.UNDELIVERED
    after: tuple[int, int] | None = None  # start and segment number; None: from the begin
    newest_first: bool = False
    put_off_too: bool = True  # else those alone that never were
    unhashed: bool = False  # those alone whose source is there and was never hashed


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is due; `after` is where to go on, None at the end."""

    rows: tuple[Waiting, ...]
    after: tuple[int, int] | None
    passed: int  # at most so many were looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """Copies that were put off in one go: neighbours, of one question."""

    rows: tuple[Waiting, ...]
    place: tuple[int, int]  # in the order of came due; where to go on


class VouchDue:
    """Reads only."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def page(self, backend: str, search: Search, now: datetime) -> Found:
        """Those due by start time, at most PAGE, of the next copies."""
        return await self._store.read(lambda db: _page(db, backend, search, now))

    async def came_due(
        self, backend: str, now: datetime, after: tuple[int, int] | None, *, unhashed: bool = False
    ) -> list[Together]:
        """Those that were put off and whose time has come, the longest ago first; none: that was the end."""
        return await self._store.read(lambda db: _came_due(db, backend, now, after, unhashed))


def _page(db: sqlite3.Connection, backend: str, search: Search, now: datetime) -> Found:
    order, beyond, within = ("DESC", "<", ">=") if search.newest_first else ("ASC", ">", "<=")
    start = search.after or (_LAST if search.newest_first else _FIRST)
    place, by_place = "(copy.start_us, copy.segment_no)", f"copy.start_us {order}, copy.segment_no {order}"
    these = f"copy.backend = ? AND {search.which.value} AND {place} {beyond} (?, ?)"
    passed = LOOKED_BEHIND if search.unhashed else LOOKED
    end = db.execute(
        f"""SELECT copy.start_us, copy.segment_no FROM copy WHERE {these}
             ORDER BY {by_place} LIMIT 1 OFFSET ?""",
        (backend, *start, passed - 1),
    ).fetchone()
    until = end or (_FIRST if search.newest_first else _LAST)
    due, moments = (
        ("copy.due_us NOT BETWEEN ? AND ?", waiting_us(now))
        if search.put_off_too
        else ("copy.due_us = 0", ())
    )
    found = db.execute(
        f"""SELECT copy.start_us, copy.segment_no FROM copy {_segments(search.unhashed)}
             WHERE {these} AND {place} {within} (?, ?) AND {due} {_hashing(search.unhashed)}
             ORDER BY {by_place} LIMIT ?""",
        (backend, *start, *until, *moments, PAGE),
    ).fetchall()
    after = found[-1] if len(found) == PAGE else end
    return Found(rows=_rows(db, backend, [no for _, no in found], now), after=after, passed=passed)


def _came_due(
    db: sqlite3.Connection, backend: str, now: datetime, after: tuple[int, int] | None, unhashed: bool
) -> list[Together]:
    """A clock that ran ahead and was set back would keep the last of them waiting: see `Copies.due`."""
    first_us, last_us = waiting_us(now)
    start = after or _FIRST
    limit = LOOKED_BEHIND if unhashed else PAGE
    found: list[tuple[int, int]] = []
    for lowest, highest in ((start, (first_us, -1)), (max(start, (last_us, 2**62)), _LAST)):
        found += db.execute(
            f"""SELECT copy.due_us, copy.segment_no FROM copy
                 WHERE copy.backend = ? AND copy.due_us <> 0 AND {UNDELIVERED}
                   AND (copy.due_us, copy.segment_no) > (?, ?) AND (copy.due_us, copy.segment_no) < (?, ?)
                 ORDER BY copy.due_us, copy.segment_no LIMIT ?""",
            (backend, *lowest, *highest, limit - len(found)),
        ).fetchall()
    if len(found) == limit and found[0][0] != found[-1][0]:
        found = [each for each in found if each[0] != found[-1][0]]  # that may go on: whole the next time
    rows = {each.no: each for each in _rows(db, backend, [no for _, no in found], now)}
    return [
        Together(
            rows=tuple(rows[no] for _, no in some if no in rows and not (unhashed and rows[no].hashed)),
            place=some[-1],
        )
        for some in (list(group) for _, group in groupby(found, lambda each: each[0]))
    ]


def _segments(unhashed: bool) -> str:
    return "CROSS JOIN segment s ON s.no = copy.segment_no" if unhashed else ""


def _hashing(unhashed: bool) -> str:
    return "AND s.sha256 IS NULL AND s.source_state = 'present'" if unhashed else ""


def _rows(db: sqlite3.Connection, backend: str, numbers: Sequence[int], now: datetime) -> tuple[Waiting, ...]:
    """In the order of the numbers; without those on their way out."""
    rows = db.execute(
        f"""SELECT {COLUMNS} FROM json_each(?) chosen
             CROSS JOIN copy ON copy.segment_no = chosen.value AND copy.backend = ? {TABLES}
             ORDER BY chosen.key""",
        (json.dumps(numbers), backend),
    ).fetchall()
    return waiting_rows(rows, now, None)
